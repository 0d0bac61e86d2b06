"""The MLCChat app on Android: it has no command line, so edgebench reads and taps its screen.

It accepts text only: no token IDs, no exact lengths, no context, batch or threads options. Its rates
have one decimal place; it does not report token counts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from edgebench.core import (
    TEXT_WARM_UP,
    Client,
    Command,
    DeviceSession,
    Engine,
    EngineFacts,
    Launch,
    Line,
    Reply,
    Request,
)
from edgebench.engines import mlc_ends, mlc_install, mlc_server
from edgebench.engines.mlc_install import FORMATS, KEY_VARIABLE, MlcConfig
from edgebench.engines.mlc_phone import Phone
from edgebench.engines.mlc_screen import (
    CHARACTERS_PER_TOKEN,
    OFFLINE_PREFIX,
    PACKAGE,
    RESET,
    SEND,
    START,
    TRUNCATION_MARK,
    WAITING,
    Rates,
    Screen,
    answer,
    tokens,
    typable,
)
from edgebench.errors import DeviceRefused, EngineFailed, EngineMissing, EngineRefused, UsageError

FILES = f"/storage/emulated/0/Android/data/{PACKAGE}/files"
COPY_TIMEOUT_S = 3600.0
SCREEN_TIMEOUT_S = 30.0
"""Seconds until the app's screen must appear (after a splash screen, a launcher), or its check of the weights end."""
PERMISSION_TIMEOUT_S = 5.0
"""Seconds a permission dialog may be visible: one with a permanent answer appears briefly at each start."""
REPLY_TIMEOUT_S = 1800.0
"""Seconds a reply may take."""
REPLY_POLL_S = 1.0
"""Polling interval while the app generates; reading the screen costs CPU time on the phone."""
TYPING_CHUNK = 400
"""Characters typed at once."""
MAX_SWIPES = 8


def check(scenario: str, backend: str) -> None:
    """Raises ``UsageError`` for a scenario or backend that the app does not support."""
    if backend != "opencl":
        raise UsageError(f"MLCChat supports only OpenCL, not {backend}", "Give --backend opencl.")
    if scenario == "throughput":
        raise UsageError("MLCChat takes text only: exact lengths are not possible", "Give --scenario chat.")
    if scenario == "speculative":
        raise UsageError("MLCChat has no speculative mode", "Use mlc_llm serve, or llama.cpp.")


class MlcApp(Engine):
    """MLCChat, restarted for every launch; edgebench selects the model in its list."""

    Config = MlcConfig
    formats = FORMATS
    backends = ("opencl",)
    warm_up = TEXT_WARM_UP

    def __init__(self, device: DeviceSession, config: MlcConfig) -> None:
        self._device = device
        self._phone = Phone(device)
        self._model = ""
        self._load_started_at: float | None = None
        self._state_since = ("", 0.0)
        self._last_alert = ""
        self._swipes = 0
        self._ignored: list[str] = []

    # --- preparation ----------------------------------------------------------------------

    def prepare(self) -> EngineFacts:
        package_path = self._phone.run("pm", "path", PACKAGE)
        if not package_path.startswith("package:"):
            raise EngineMissing(
                f"MLCChat ({PACKAGE}) is not installed on {self._device.device.name}",
                mlc_install.install_hint(self._device),
            )
        version = re.search(r"versionName=(\S+)", self._phone.run("dumpsys", "package", PACKAGE))
        return EngineFacts(
            name="mlc-llm",
            build=f"MLCChat {version[1]}" if version else "MLCChat",
            path=package_path.split("\n")[0].removeprefix("package:"),
            token_counts=f"estimated: {CHARACTERS_PER_TOKEN} characters a token; the rates are the app's own",
        )

    def command(self, launch: Launch, port: int) -> Command:
        self._ignored = list(launch.options)
        self._model = PurePosixPath(launch.model).name
        self._load_started_at, self._state_since, self._swipes, self._last_alert = None, ("", 0.0), 0, ""
        self._copy_weights(launch.model)
        return Command(["sh", "-c", mlc_ends.RUN_SCRIPT], secrets=(KEY_VARIABLE,))

    def _copy_weights(self, folder: str) -> None:
        """Copy missing weights to the app's own folder. Raises ``EngineFailed``."""
        target = f"{FILES}/{self._model}"
        quoted, quoted_target = self._phone.quote(folder), self._phone.quote(target)
        is_same = f'[ "$(stat -c %s "$f")" = "$(stat -c %s {quoted_target}/"$f" 2>&1)" ]'
        missing = f'cd {quoted} && for f in *; do {is_same} || echo "$f"; done'
        try:
            if not self._phone.sh(missing).strip():
                return
            self._phone.sh(f"mkdir -p {quoted_target} && cp {quoted}/* {quoted_target}/", timeout=COPY_TIMEOUT_S)
        except DeviceRefused as error:
            raise EngineFailed(
                f"cannot copy the weights to the app's folder: {error}",
                f"Is there space on {self._device.device.name}? Start the app once by hand, which creates its folder.",
            ) from error

    # --- loading -----------------------------------------------------------------------------

    def attach(self) -> int | None:
        match = re.match(r"\d+", self._phone.run("pidof", PACKAGE))
        return int(match[0]) if match else None

    @property
    def load_began(self) -> float | None:
        return self._load_started_at

    def ready(self, client: Client) -> bool:
        """Read the screen once and tap at most once. Raises ``EngineRefused`` with a screenshot."""
        screen = self._phone.read_screen()
        if screen is None:
            return False
        seconds = self._time_in_state(screen.state)
        dismiss_button = screen.find_text("Dismiss")
        if screen.state == "models":
            self._choose_model(screen, seconds)
        elif screen.state == "chat":
            if screen.failure:
                raise EngineRefused(f"MLCChat could not load {self._model}: {screen.failure[-500:]}")
            return screen.is_loaded
        elif screen.state == "alert" and screen.alert.startswith(OFFLINE_PREFIX) and dismiss_button is not None:
            self._last_alert = screen.alert  # about a model that is not installed, perhaps not the requested one
            self._phone.tap(dismiss_button)
        elif seconds > {"elsewhere": SCREEN_TIMEOUT_S, "permission": PERMISSION_TIMEOUT_S}.get(screen.state, -1):
            raise self._screen_error(screen)
        return False

    def _time_in_state(self, state: str) -> float:
        """Seconds since the screen changed to this state."""
        now = time.monotonic()
        if state != self._state_since[0]:
            self._state_since = (state, now)
        return now - self._state_since[1]

    def _choose_model(self, screen: Screen, seconds: float) -> None:
        button = screen.button_of(self._model)
        if button is None:
            if self._swipes == MAX_SWIPES:
                models = ", ".join(screen.models) or "none"
                raise EngineRefused(
                    f"MLCChat on {self._device.device.name} does not list {self._model} (listed: {models}"
                    + (f"; message: {self._last_alert})" if self._last_alert else ")"),
                    "Its library is part of the app: add it to the app's mlc-package-config.json and build it again.",
                )
            self._swipes += 1
            left, top, right, bottom = screen.nodes[0].bounds
            x, y = str((left + right) // 2), (top + bottom) // 2
            self._phone.run("input", "swipe", x, str(y), x, str(y // 2))
        elif button.description == START and button.enabled:
            self._load_started_at = time.monotonic()
            self._phone.tap(button)
        elif button.description in WAITING and (button.description != "pending" or seconds > SCREEN_TIMEOUT_S):
            raise EngineRefused(
                f"{self._model}: {WAITING[button.description]}",
                f"Compare {FILES}/{self._model} with the folder here. Apps before v0.20 read ndarray-cache.json, "
                "later ones tensor-cache.json; the app downloads missing files.",
            )

    def _screen_error(self, screen: Screen) -> EngineRefused:
        name = self._device.device.name
        errors = {
            "permission": (
                f"MLCChat asks for a permission on the screen of {name}",
                "Answer it on the phone, either way: the chat needs none (a refusal is asked about once more).",
            ),
            "alert": (f"MLCChat shows an alert: {screen.alert}", "Resolve its cause and dismiss it on the phone."),
            "crashed": (f"MLCChat has crashed: {' '.join(screen.texts)[:200]}", "Close that dialog on the phone."),
        }
        message, hint = errors.get(
            screen.state,
            (
                f"the screen of {name} shows something unknown: {' | '.join(screen.texts)[:200]}",
                "Unlock the phone and keep its screen on; a newer app may look different.",
            ),
        )
        return EngineRefused(message, f"{hint} {self._phone.save_screenshot()}".strip())

    # --- requests ------------------------------------------------------------------------------

    def complete(self, client: Client, request: Request) -> Reply:
        """Type the last message, wait for the reply, read its rates. Raises ``EngineFailed``."""
        if request.messages is None:
            raise EngineFailed("MLCChat takes text only, and this scenario sends token IDs", "Give --scenario chat.")
        messages = request.messages
        if len(messages) == 1:
            self._reset_chat()
        text = typable(messages[-1]["content"])
        sent_at, rates_before = self._send(text)
        screen = self._wait(
            lambda screen: screen.is_answered(rates_before), REPLY_TIMEOUT_S, "to answer", poll_s=REPLY_POLL_S
        )
        output = screen.answer(text)
        if screen.rates == (None, None):
            if TRUNCATION_MARK in output:
                message = f"the conversation reached the context that {self._model} was compiled with"
                raise EngineFailed(
                    message, "Use a smaller --ctx: it only limits the conversations and is not passed to the app."
                )
            # The engine's errors arrive as replies.
            message = f"MLCChat reported no rates, but: {output[-500:]}" if output else "MLCChat did not reply"
            raise EngineFailed(message, self._phone.save_screenshot())
        return answer(screen, text, sum(len(m["content"]) for m in messages[:-1]), sent_at, time.monotonic())

    def _reset_chat(self) -> None:
        """Start a new conversation. Raises ``EngineFailed``."""
        screen = self._wait(lambda screen: screen.is_loaded, SCREEN_TIMEOUT_S, "to become ready")
        button = screen.find_button(RESET)
        if button is not None and (screen.rates != (None, None) or screen.answer("")):
            self._phone.tap(button)
            self._wait(lambda s: s.is_loaded and s.rates == (None, None), SCREEN_TIMEOUT_S, "to reset the conversation")

    def _send(self, text: str) -> tuple[float, Rates]:
        """Type and send a text; (time sent, rates in the heading at that time). Raises ``EngineFailed``."""
        screen = self._wait(
            lambda screen: screen.is_loaded and screen.field is not None, SCREEN_TIMEOUT_S, "to become ready"
        )
        if screen.field is not None:
            self._phone.tap(screen.field)
        for start in range(0, len(text), TYPING_CHUNK):
            piece = text[start : start + TYPING_CHUNK].replace(" ", "%s")
            self._phone.run("input", "text", piece, timeout=60 + len(piece) / 5)
        screen = self._wait(
            lambda screen: len(screen.field_text) >= len(text), SCREEN_TIMEOUT_S, "to accept the typed text"
        )
        if screen.field_text.split() != text.split():
            raise EngineFailed(
                f"the keyboard of {self._device.device.name} changed the prompt: {screen.field_text[:120]!r}",
                "Switch its corrections and suggestions off.",
            )
        button = screen.find_button(SEND)
        if button is None or not button.enabled:
            raise EngineFailed("MLCChat does not accept messages at the moment")
        self._phone.tap(button)
        return time.monotonic(), screen.rates

    def _wait(
        self, condition: Callable[[Screen], bool], timeout: float, purpose: str, *, poll_s: float = 0.2
    ) -> Screen:
        """Wait until the screen satisfies a condition; the screen. Raises ``EngineFailed`` after ``timeout``."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            screen = self._phone.read_screen()
            if screen is not None:
                if screen.state == "chat" and screen.failure:
                    raise EngineFailed(f"MLCChat failed: {screen.failure[-500:]}", self._phone.save_screenshot())
                if screen.state == "chat" and condition(screen):
                    return screen
                if screen.state != "chat":
                    raise EngineFailed(*self._exit_error(screen))
            elif self.attach() is None:
                raise EngineFailed("MLCChat has exited")
            time.sleep(poll_s)
        raise EngineFailed(
            f"timed out after {timeout:g} s waiting for MLCChat {purpose}", self._phone.save_screenshot()
        )

    def _exit_error(self, screen: Screen) -> tuple[str, str]:
        if self.attach() is None:
            return "MLCChat has exited", ""
        error = self._screen_error(screen)
        return str(error), error.hint

    def count_tokens(self, client: Client, text: str) -> int:
        """An estimate: the app does not report token counts."""
        return tokens(len(text))

    # --- log ------------------------------------------------------------------------

    def info(self, log: Iterable[str]) -> EngineFacts:
        lines = list(log)
        facts = mlc_server.info(lines)
        opencl = any("Initialize OpenCL platform" in line for line in lines)
        extra = {**facts.extra, **({"ignored_options": self._ignored} if self._ignored else {})}
        return replace(facts, backend="opencl" if opencl else None, extra=extra)

    def compiling(self, log: Sequence[Line]) -> tuple[float, bool] | None:
        return None

    def verdict(self, log: Sequence[str]) -> tuple[str, str] | None:
        return None

    def last_words(self, log: Sequence[str]) -> tuple[str, str] | None:
        return mlc_ends.last_words(list(log))
