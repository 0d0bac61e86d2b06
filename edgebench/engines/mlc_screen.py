"""Parses an Android screen dump and the MLCChat app's state on it; pure functions of text.

The app (``android/MLCChat`` of mlc-llm, v0.17 to July 2026) has two screens: ``Model List`` with a
button per model, described ``start chatting`` once its weights are complete, and the chat, whose
buttons ``reset the chat`` and, from v0.20 on, ``use camera`` are enabled by its state. The rates of a
reply are only in its heading: ``prefill: 12.3 tok/s, decode: 4.5 tok/s``.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from edgebench.core import Reply
from edgebench.errors import Unreadable

PACKAGE = "ai.mlc.mlcchat"
START, RESET, SEND, CAMERA = "start chatting", "reset the chat", "send message", "use camera"
"""Descriptions of the app's buttons."""
WAITING = {
    "start downloading": "the weights on the device are incomplete, the app would download them",
    "pause downloading": "the app is downloading the weights",
    "pending": "the app is still checking its weights",
}
"""Description of a model's other button → its meaning."""
FAILURE_PREFIX = "MLCChat failed"
OFFLINE_PREFIX = "Download model config failed"
"""Prefix of its dialog if it has no network to look up a model of its list that is not installed."""
TRUNCATION_MARK = "[output truncated"
"""End of a reply that reached the context limit."""
CHARACTERS_PER_TOKEN = 4
"""Approximately, for English text; used to estimate counts. Rates do not depend on it."""

Rates = tuple[float | None, float | None]
"""Prefill and decode, tokens/s."""
State = Literal["models", "chat", "alert", "permission", "crashed", "elsewhere"]


@dataclass(frozen=True)
class Node:
    """One element of the screen; ``bounds``: left, top, right, bottom, pixels."""

    text: str
    description: str
    widget: str
    package: str
    enabled: bool
    """Whether it and its parents are enabled."""
    bounds: tuple[int, int, int, int]

    @property
    def centre(self) -> tuple[int, int]:
        left, top, right, bottom = self.bounds
        return (left + right) // 2, (top + bottom) // 2

    def is_in_row_of(self, other: Node) -> bool:
        """Whether the two are in the same row."""
        return self.bounds[1] < other.centre[1] < self.bounds[3] or other.bounds[1] < self.centre[1] < other.bounds[3]


@dataclass(frozen=True)
class Screen:
    """All elements of a screen, parents first."""

    nodes: tuple[Node, ...]

    def find_button(self, description: str) -> Node | None:
        return next((node for node in self.nodes if node.description == description), None)

    def find_text(self, text: str) -> Node | None:
        return next((node for node in self.nodes if node.text == text), None)

    @property
    def state(self) -> State:
        """The screen in the foreground; a system dialog hides the app."""
        packages = {node.package for node in self.nodes}
        if any(name.endswith(("permissioncontroller", "packageinstaller")) for name in packages):
            return "permission"
        if "android" in packages and any(
            re.search(r"keeps stopping|has stopped|isn't responding", t) for t in self.texts
        ):
            return "crashed"
        if PACKAGE not in packages:
            return "elsewhere"
        if self.find_text("Error") and self.find_text("Dismiss"):
            return "alert"
        if self.find_button(SEND):
            return "chat"
        return "models" if self.find_text("Model List") else "elsewhere"

    @property
    def texts(self) -> list[str]:
        return [node.text for node in self.nodes if node.text]

    @property
    def models(self) -> list[str]:
        """The IDs in the list of models; each row also has a second button without a distinct description."""
        buttons = [node for node in self.nodes if node.description in (START, *WAITING)]
        rows = [node for node in self.nodes if node.text and any(node.is_in_row_of(button) for button in buttons)]
        return list(dict.fromkeys(node.text for node in rows))

    def button_of(self, model: str) -> Node | None:
        """A model's first button."""
        label = self.find_text(model)
        buttons = (node for node in self.nodes if node.description in (START, *WAITING))
        return next((node for node in buttons if label and label.is_in_row_of(node)), None)

    @property
    def field(self) -> Node | None:
        """The input field."""
        return next((node for node in self.nodes if node.widget.endswith("EditText")), None)

    @property
    def field_text(self) -> str:
        """The text in the input field, without its placeholder."""
        field = self.field
        return "" if field is None or field.text == "Input" else field.text

    @property
    def is_loaded(self) -> bool:
        """Whether the chat's model is loaded and, as far as the screen shows, idle: until then even its reset
        button is disabled."""
        button, camera = self.find_button(RESET), self.find_button(CAMERA)
        return button is not None and button.enabled and (camera is None or camera.enabled)

    def is_answered(self, rates_before: Rates) -> bool:
        """Whether a message is answered; ``rates_before``: the heading's rates when it was sent. An app
        without a camera button looks the same while it prints: there the heading must change."""
        return (
            self.is_loaded
            and not self.field_text
            and (self.find_button(CAMERA) is not None or self.rates != rates_before)
        )

    @property
    def failure(self) -> str:
        """The app's error message in the chat; empty if there is none."""
        return next((text for text in self.texts if text.startswith(FAILURE_PREFIX)), "")

    @property
    def alert(self) -> str:
        """The text of its dialog."""
        labels = {"Error", "Copy", "Dismiss", "Model List", "MLCChat"}
        return " ".join(text for text in self.texts if text not in labels)[-500:]

    @property
    def rates(self) -> Rates:
        """Prefill and decode rate of the last reply, tokens/s; None if they are not shown."""
        for text in self.texts:
            if text.startswith(("prefill: ", "decode: ")):
                return _rate("prefill", text), _rate("decode", text)
        return None, None

    def answer(self, prompt: str) -> str:
        """The last reply; empty if the prompt is the last message. A long reply extends above the visible
        area: its box may start anywhere."""
        heading, field = self.find_button(RESET), self.field
        top, bottom = heading.bounds[3] if heading else 0, field.bounds[1] if field else 10**6
        texts = [node.text for node in self.nodes if node.text and node.bounds[1] < bottom and node.bounds[3] > top]
        prefixes = ("MLCChat: ", "prefill: ", "decode: ")
        texts = [text for text in texts if text not in ("Show as Markdown", "Input") and not text.startswith(prefixes)]
        return texts[-1] if texts and texts[-1] != prompt else ""


def _rate(name: str, text: str) -> float | None:
    # The app prints one decimal place, after a point or a comma depending on the phone's language.
    match = re.search(rf"\b{name}: (\d+)[.,٫](\d+) tok/s", text)
    return float(f"{match[1]}.{match[2]}") if match else None


def parse(text: str) -> Screen | None:
    """Parse a dump of ``uiautomator``; None if the screen was changing. Raises ``Unreadable``."""
    if "<hierarchy" not in text:
        if not text.strip() or "ERROR" in text:
            return None
        raise Unreadable(f"uiautomator dump printed something else: {text[:200]!r}")
    start, end = text.index("<hierarchy"), text.rfind("</hierarchy>")
    try:
        root = ElementTree.fromstring(text[start : end + len("</hierarchy>")])  # noqa: S314 - no DTD can be in it
    except ElementTree.ParseError as error:
        raise Unreadable(f"uiautomator dump printed no XML: {error}") from error
    return Screen(tuple(_nodes(root, enabled=True)))


def _nodes(element: ElementTree.Element, *, enabled: bool) -> Iterator[Node]:
    for child in element:
        is_enabled = enabled and child.get("enabled", "true") == "true"
        numbers = [int(number) for number in re.findall(r"-?\d+", child.get("bounds", ""))]
        if len(numbers) == 4:
            yield Node(
                text=child.get("text", ""),
                description=child.get("content-desc", ""),
                widget=child.get("class", ""),
                package=child.get("package", ""),
                enabled=is_enabled,
                bounds=(numbers[0], numbers[1], numbers[2], numbers[3]),
            )
        yield from _nodes(child, enabled=is_enabled)


def tokens(characters: int) -> int:
    return max(1, math.ceil(characters / CHARACTERS_PER_TOKEN))


def typable(text: str) -> str:
    """The text as Android's ``input text`` can type it: one line of ASCII."""
    simple = text.translate({ord("’"): "'", ord("‘"): "'", ord("“"): '"', ord("”"): '"', ord("–"): "-", ord("—"): "-"})
    ascii_ = unicodedata.normalize("NFKD", simple).encode("ascii", "ignore").decode()
    return " ".join(ascii_.split()).replace("%s", "% s")


def answer(screen: Screen, prompt: str, earlier_characters: int, sent_at: float, now: float) -> Reply:
    """The reply on the screen. Token counts are estimates; the times are derived from them such that the
    rates are exactly those on the screen."""
    text = screen.answer(prompt)
    prefill, decode = screen.rates
    prompt_tokens, generated = tokens(len(prompt)), max(2, tokens(len(text)))
    return Reply(
        text=text,
        prompt_tokens=prompt_tokens + (tokens(earlier_characters) if earlier_characters else 0),
        cached_tokens=tokens(earlier_characters) if earlier_characters else 0,
        prefill_tokens=prompt_tokens,
        prefill_s=prompt_tokens / prefill if prefill else None,
        completion_tokens=generated,
        decode_s=(generated - 1) / decode if decode else None,
        total_s=now - sent_at,
        sent_at=sent_at,
        finish="length" if TRUNCATION_MARK in text else "stop",
    )
