"""The MLCChat app on Android: there is no command line, so its screen is read and pressed.

It takes text only: no token ids, no exact lengths, no context, batch or threads of one's own. Its
rates are those that it shows, one digit after the point; how many tokens there were it doesn't tell.
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
from edgebench.engines.mlc_install import FORMATS, KEY_VARIABLE, Settings
from edgebench.engines.mlc_phone import Phone
from edgebench.engines.mlc_screen import (
    CHARACTERS_PER_TOKEN,
    CUT,
    OFFLINE,
    PACKAGE,
    RESET,
    SEND,
    START,
    WAITING,
    Rates,
    Screen,
    answer,
    tokens,
    typable,
)
from edgebench.errors import DeviceRefused, EngineFailed, EngineMissing, EngineRefused, UsageError

FILES = f"/storage/emulated/0/Android/data/{PACKAGE}/files"
COPY_S = 3600.0
PATIENCE_S = 30.0
"""How long a screen that is not the app's is waited for (a splash, a launcher), or weights it looks at."""
FLASH_S = 5.0
"""How long a permission's dialog may stand there: one that was answered for good flashes at each start."""
ANSWER_S = 1800.0
"""Longest answer."""
PAUSE_S = 1.0
"""Between two looks while the app generates: looking costs the phone CPU time."""
PIECE = 400
"""Characters typed at once."""
SWIPES = 8


def check(scenario: str, backend: str) -> None:
    """Raises ``UsageError`` for what the app can't do."""
    if backend != "opencl":
        raise UsageError(f"MLCChat computes with OpenCL, not with {backend}", "Give --backend opencl.")
    if scenario == "throughput":
        raise UsageError("MLCChat takes text only: exact lengths are not possible", "Give --scenario chat.")
    if scenario == "speculative":
        raise UsageError("MLCChat has no speculative mode", "Use mlc_llm serve, or llama.cpp.")


class MlcApp(Engine):
    """MLCChat, started afresh, its model loaded by its own list."""

    Config = Settings
    formats = FORMATS
    backends = ("opencl",)
    warm_up = TEXT_WARM_UP

    def __init__(self, device: DeviceSession, config: Settings) -> None:
        self._device = device
        self._phone = Phone(device)
        self._model = ""
        self._load_began: float | None = None
        self._since = ("", 0.0)
        self._heard = ""
        self._swipes = 0
        self._ignored: list[str] = []

    # --- before it runs ----------------------------------------------------------------------

    def prepare(self) -> EngineFacts:
        there = self._phone.run("pm", "path", PACKAGE)
        if not there.startswith("package:"):
            raise EngineMissing(
                f"MLCChat ({PACKAGE}) is not installed on {self._device.device.name}", mlc_install.how(self._device)
            )
        told = re.search(r"versionName=(\S+)", self._phone.run("dumpsys", "package", PACKAGE))
        return EngineFacts(
            name="mlc-llm",
            build=f"MLCChat {told[1]}" if told else "MLCChat",
            path=there.split("\n")[0].removeprefix("package:"),
            token_counts=f"estimated: {CHARACTERS_PER_TOKEN} characters a token; the rates are the app's own",
        )

    def command(self, launch: Launch, port: int) -> Command:
        self._ignored = list(launch.options)
        self._model = PurePosixPath(launch.model).name
        self._load_began, self._since, self._swipes, self._heard = None, ("", 0.0), 0, ""
        self._install(launch.model)
        return Command(["sh", "-c", mlc_ends.SCRIPT], secrets=(KEY_VARIABLE,))

    def _install(self, folder: str) -> None:
        """The weights into the app's own folder, where they aren't there yet."""
        target = f"{FILES}/{self._model}"
        quoted, there = self._phone.quote(folder), self._phone.quote(target)
        same = f'[ "$(stat -c %s "$f")" = "$(stat -c %s {there}/"$f" 2>&1)" ]'
        missing = f'cd {quoted} && for f in *; do {same} || echo "$f"; done'
        try:
            if not self._phone.sh(missing).strip():
                return
            self._phone.sh(f"mkdir -p {there} && cp {quoted}/* {there}/", timeout=COPY_S)
        except DeviceRefused as error:
            raise EngineFailed(
                f"the weights cannot be put into the app's folder: {error}",
                f"Is there space on {self._device.device.name}? Start the app once by hand: it makes its folder then.",
            ) from error

    # --- loading -----------------------------------------------------------------------------

    def attach(self) -> int | None:
        found = re.match(r"\d+", self._phone.run("pidof", PACKAGE))
        return int(found[0]) if found else None

    @property
    def load_began(self) -> float | None:
        return self._load_began

    def ready(self, client: Client) -> bool:
        """One look at the screen and at most one touch. Raises ``EngineRefused``, the screen kept."""
        screen = self._phone.look()
        if screen is None:
            return False
        lasting = self._lasting(screen.state)
        dismiss = screen.saying("Dismiss")
        if screen.state == "models":
            self._choose(screen, lasting)
        elif screen.state == "chat":
            if screen.failure:
                raise EngineRefused(f"MLCChat could not load {self._model}: {screen.failure[-500:]}")
            return screen.loaded
        elif screen.state == "alert" and screen.alert.startswith(OFFLINE) and dismiss is not None:
            self._heard = screen.alert  # about a model that it hasn't got: perhaps not the one wanted
            self._phone.tap(dismiss)
        elif lasting > {"elsewhere": PATIENCE_S, "permission": FLASH_S}.get(screen.state, -1):
            raise self._stuck(screen)
        return False

    def _lasting(self, state: str) -> float:
        """For how long it has looked so, seconds."""
        now = time.monotonic()
        if state != self._since[0]:
            self._since = (state, now)
        return now - self._since[1]

    def _choose(self, screen: Screen, lasting: float) -> None:
        button = screen.button_of(self._model)
        if button is None:
            if self._swipes == SWIPES:
                listed = ", ".join(screen.models) or "none"
                raise EngineRefused(
                    f"MLCChat on {self._device.device.name} knows no {self._model}; it lists: {listed}"
                    + (f". It said: {self._heard}" if self._heard else ""),
                    "Its library is part of the app: add it to the app's mlc-package-config.json and build it again.",
                )
            self._swipes += 1
            left, top, right, bottom = screen.nodes[0].bounds
            x, y = str((left + right) // 2), (top + bottom) // 2
            self._phone.run("input", "swipe", x, str(y), x, str(y // 2))
        elif button.description == START and button.enabled:
            self._load_began = time.monotonic()
            self._phone.tap(button)
        elif button.description in WAITING and (button.description != "pending" or lasting > PATIENCE_S):
            raise EngineRefused(
                f"{self._model}: {WAITING[button.description]}",
                f"Compare {FILES}/{self._model} with the folder here. Apps before v0.20 read ndarray-cache.json, "
                "later ones tensor-cache.json; what an app misses it wants to download.",
            )

    def _stuck(self, screen: Screen) -> EngineRefused:
        name = self._device.device.name
        means = {
            "permission": (
                f"MLCChat asks for a permission on the screen of {name}",
                "Answer it on the phone, either way: the chat needs none (a refusal is asked about once more).",
            ),
            "alert": (f"MLCChat says: {screen.alert}", "Dismiss it on the phone, and see what it is about."),
            "crashed": (f"MLCChat has crashed: {' '.join(screen.texts)[:200]}", "Close that dialog on the phone."),
        }
        words, hint = means.get(
            screen.state,
            (
                f"the screen of {name} shows something unknown: {' | '.join(screen.texts)[:200]}",
                "Unlock the phone and keep its screen on; a newer app may look different.",
            ),
        )
        return EngineRefused(words, f"{hint} {self._phone.keep_screen()}".strip())

    # --- asking ------------------------------------------------------------------------------

    def complete(self, client: Client, request: Request) -> Reply:
        """Type the last message, wait for the answer, read its rates."""
        if request.messages is None:
            raise EngineFailed("MLCChat takes text only, and this scenario asks with tokens", "Give --scenario chat.")
        messages = request.messages
        if len(messages) == 1:
            self._forget()
        text = typable(messages[-1]["content"])
        sent_at, before = self._send(text)
        screen = self._wait(lambda screen: screen.answered(before), ANSWER_S, "to answer", pause=PAUSE_S)
        said = screen.answer(text)
        if screen.rates == (None, None):
            if CUT in said:
                words = f"the conversation has met the context that {self._model} was built into MLCChat with"
                raise EngineFailed(
                    words, "Use a smaller --ctx: it only limits the conversations and is not passed to the app."
                )
            # Its engine's errors arrive as answers; without them it said nothing at all.
            words = f"MLCChat reported no rates, but: {said[-500:]}" if said else "MLCChat gave no answer"
            raise EngineFailed(words, self._phone.keep_screen())
        return answer(screen, text, sum(len(m["content"]) for m in messages[:-1]), sent_at, time.monotonic())

    def _forget(self) -> None:
        """A new conversation."""
        screen = self._wait(lambda screen: screen.loaded, PATIENCE_S, "to become ready")
        button = screen.described(RESET)
        if button is not None and (screen.rates != (None, None) or screen.answer("")):
            self._phone.tap(button)
            self._wait(lambda s: s.loaded and s.rates == (None, None), PATIENCE_S, "to forget a conversation")

    def _send(self, text: str) -> tuple[float, Rates]:
        """When it was sent, and the rates that stood in the heading then."""
        screen = self._wait(lambda screen: screen.loaded and screen.field is not None, PATIENCE_S, "to become ready")
        if screen.field is not None:
            self._phone.tap(screen.field)
        for begin in range(0, len(text), PIECE):
            piece = text[begin : begin + PIECE].replace(" ", "%s")
            self._phone.run("input", "text", piece, timeout=60 + len(piece) / 5)
        screen = self._wait(lambda screen: len(screen.typed) >= len(text), PATIENCE_S, "to take what was typed")
        if screen.typed.split() != text.split():
            raise EngineFailed(
                f"the keyboard of {self._device.device.name} changed the prompt: {screen.typed[:120]!r}",
                "Switch its corrections and suggestions off.",
            )
        button = screen.described(SEND)
        if button is None or not button.enabled:
            raise EngineFailed("MLCChat takes no message now")
        self._phone.tap(button)
        return time.monotonic(), screen.rates

    def _wait(self, until: Callable[[Screen], bool], patience: float, what: str, *, pause: float = 0.2) -> Screen:
        """The screen once it is as it should be. Raises ``EngineFailed`` where that doesn't come."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            screen = self._phone.look()
            if screen is not None:
                if screen.state == "chat" and screen.failure:
                    raise EngineFailed(f"MLCChat failed: {screen.failure[-500:]}", self._phone.keep_screen())
                if screen.state == "chat" and until(screen):
                    return screen
                if screen.state != "chat":
                    raise EngineFailed(*self._left(screen))
            elif self.attach() is None:
                raise EngineFailed("MLCChat is gone")
            time.sleep(pause)
        raise EngineFailed(f"timed out after {patience:g} s waiting for MLCChat {what}", self._phone.keep_screen())

    def _left(self, screen: Screen) -> tuple[str, str]:
        if self.attach() is None:
            return "MLCChat is gone", ""
        error = self._stuck(screen)
        return str(error), error.hint

    def count_tokens(self, client: Client, text: str) -> int:
        """An estimate: the app doesn't tell."""
        return tokens(len(text))

    # --- what it said ------------------------------------------------------------------------

    def info(self, log: Iterable[str]) -> EngineFacts:
        lines = list(log)
        found = mlc_server.info(lines)
        opencl = any("Initialize OpenCL platform" in line for line in lines)
        extra = {**found.extra, **({"ignored_options": self._ignored} if self._ignored else {})}
        return replace(found, backend="opencl" if opencl else None, extra=extra)

    def compiling(self, log: Sequence[Line]) -> tuple[float, bool] | None:
        return None

    def verdict(self, log: Sequence[str]) -> tuple[str, str] | None:
        return None

    def last_words(self, log: Sequence[str]) -> tuple[str, str] | None:
        return mlc_ends.last_words(list(log))
