"""What stands on an Android screen, and what the MLCChat app says there. Pure: text in, facts out.

The app (``android/MLCChat`` of mlc-llm, v0.17 to July 2026) has two screens: ``Model List`` with a
button per model, described ``start chatting`` once its weights are whole, and the chat, whose
buttons ``reset the chat`` and, from v0.20 on, ``use camera`` are enabled by its state. The rates of an
answer stand only in its heading: ``prefill: 12.3 tok/s, decode: 4.5 tok/s``.
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
START, RESET, SEND, CHATABLE = "start chatting", "reset the chat", "send message", "use camera"
"""Descriptions of the app's buttons."""
WAITING = {
    "start downloading": "the app wants to download the weights: they are not whole on the device",
    "pause downloading": "the app is downloading the weights",
    "pending": "the app is still looking at its weights",
}
"""Descriptions of a model's other buttons, and what they mean."""
FAILED = "MLCChat failed"
OFFLINE = "Download model config failed"
"""How its dialog begins where it could not ask the network about a model of its list that it hasn't got."""
CUT = "[output truncated"
"""Stands at the end of an answer that met the limit of its context."""
CHARACTERS_PER_TOKEN = 4
"""Of English text, about: what counts are estimated by. Rates don't depend on it."""

Rates = tuple[float | None, float | None]
"""Prefill and decode, tokens/s."""
State = Literal["models", "chat", "alert", "permission", "crashed", "elsewhere"]


@dataclass(frozen=True)
class Node:
    """One thing on the screen; ``bounds``: left, top, right, bottom, pixels."""

    text: str
    description: str
    kind: str
    package: str
    enabled: bool
    """Whether it, and what it lies in, may be pressed."""
    bounds: tuple[int, int, int, int]

    @property
    def centre(self) -> tuple[int, int]:
        left, top, right, bottom = self.bounds
        return (left + right) // 2, (top + bottom) // 2

    def beside(self, other: Node) -> bool:
        """Whether they stand in one row."""
        return self.bounds[1] < other.centre[1] < self.bounds[3] or other.bounds[1] < self.centre[1] < other.bounds[3]


@dataclass(frozen=True)
class Screen:
    """Everything on it, outer things first."""

    nodes: tuple[Node, ...]

    def described(self, description: str) -> Node | None:
        return next((node for node in self.nodes if node.description == description), None)

    def saying(self, text: str) -> Node | None:
        return next((node for node in self.nodes if node.text == text), None)

    @property
    def state(self) -> State:
        """What is in front: a dialog of the system's hides the app."""
        packages = {node.package for node in self.nodes}
        if any(name.endswith(("permissioncontroller", "packageinstaller")) for name in packages):
            return "permission"
        if "android" in packages and any(
            re.search(r"keeps stopping|has stopped|isn't responding", t) for t in self.texts
        ):
            return "crashed"
        if PACKAGE not in packages:
            return "elsewhere"
        if self.saying("Error") and self.saying("Dismiss"):
            return "alert"
        if self.described(SEND):
            return "chat"
        return "models" if self.saying("Model List") else "elsewhere"

    @property
    def texts(self) -> list[str]:
        return [node.text for node in self.nodes if node.text]

    @property
    def models(self) -> list[str]:
        """The ids in the list of models: each has a second button, of which all are described alike."""
        buttons = [node for node in self.nodes if node.description in (START, *WAITING)]
        shown = [node for node in self.nodes if node.text and any(node.beside(button) for button in buttons)]
        return list(dict.fromkeys(node.text for node in shown))

    def button_of(self, model: str) -> Node | None:
        """A model's first button."""
        named = self.saying(model)
        buttons = (node for node in self.nodes if node.description in (START, *WAITING))
        return next((node for node in buttons if named and named.beside(node)), None)

    @property
    def field(self) -> Node | None:
        """Where one types."""
        return next((node for node in self.nodes if node.kind.endswith("EditText")), None)

    @property
    def typed(self) -> str:
        """What stands in the field; its label is no text of one's own."""
        field = self.field
        return "" if field is None or field.text == "Input" else field.text

    @property
    def loaded(self) -> bool:
        """Whether the chat's model is loaded and, as far as the screen tells, idle: until then not
        even its reset button can be pressed."""
        button, camera = self.described(RESET), self.described(CHATABLE)
        return button is not None and button.enabled and (camera is None or camera.enabled)

    def answered(self, before: Rates) -> bool:
        """Whether a question that was sent, with those rates in the heading then, is answered. An app
        without a camera's button looks the same while it writes: there the heading must change."""
        return self.loaded and not self.typed and (self.described(CHATABLE) is not None or self.rates != before)

    @property
    def failure(self) -> str:
        """The app's own words on an error in the chat; empty where there is none."""
        return next((text for text in self.texts if text.startswith(FAILED)), "")

    @property
    def alert(self) -> str:
        """The words of its dialog."""
        known = {"Error", "Copy", "Dismiss", "Model List", "MLCChat"}
        return " ".join(text for text in self.texts if text not in known)[-500:]

    @property
    def rates(self) -> Rates:
        """Prefill and decode, tokens/s, of the last answer; None where they don't stand there."""
        for text in self.texts:
            if text.startswith(("prefill: ", "decode: ")):
                return _rate("prefill", text), _rate("decode", text)
        return None, None

    def answer(self, asked: str) -> str:
        """The last answer; empty where the question is the last thing said. A long one reaches behind
        the bar at the top: its box may begin anywhere."""
        bar, field = self.described(RESET), self.field
        top, bottom = bar.bounds[3] if bar else 0, field.bounds[1] if field else 10**6
        said = [n.text for n in self.nodes if n.text and n.bounds[1] < bottom and n.bounds[3] > top]
        own = ("MLCChat: ", "prefill: ", "decode: ")
        said = [text for text in said if text not in ("Show as Markdown", "Input") and not text.startswith(own)]
        return said[-1] if said and said[-1] != asked else ""


def _rate(name: str, text: str) -> float | None:
    # The app writes one digit after the point, or after the comma where the phone's language has one.
    found = re.search(rf"\b{name}: (\d+)[.,٫](\d+) tok/s", text)
    return float(f"{found[1]}.{found[2]}") if found else None


def parse(text: str) -> Screen | None:
    """A dump of ``uiautomator``. None: the screen would not hold still. Raises ``Unreadable``."""
    if "<hierarchy" not in text:
        if not text.strip() or "ERROR" in text:
            return None
        raise Unreadable(f"uiautomator dump printed something else: {text[:200]!r}")
    begin, end = text.index("<hierarchy"), text.rfind("</hierarchy>")
    try:
        root = ElementTree.fromstring(text[begin : end + len("</hierarchy>")])  # noqa: S314 - no DTD can be in it
    except ElementTree.ParseError as error:
        raise Unreadable(f"uiautomator dump printed no XML: {error}") from error
    return Screen(tuple(_nodes(root, enabled=True)))


def _nodes(element: ElementTree.Element, *, enabled: bool) -> Iterator[Node]:
    for child in element:
        may = enabled and child.get("enabled", "true") == "true"
        numbers = [int(number) for number in re.findall(r"-?\d+", child.get("bounds", ""))]
        if len(numbers) == 4:
            yield Node(
                text=child.get("text", ""),
                description=child.get("content-desc", ""),
                kind=child.get("class", ""),
                package=child.get("package", ""),
                enabled=may,
                bounds=(numbers[0], numbers[1], numbers[2], numbers[3]),
            )
        yield from _nodes(child, enabled=may)


def tokens(characters: int) -> int:
    return max(1, math.ceil(characters / CHARACTERS_PER_TOKEN))


def typable(text: str) -> str:
    """What Android's ``input text`` can type: one line of ASCII."""
    plain = text.translate({ord("’"): "'", ord("‘"): "'", ord("“"): '"', ord("”"): '"', ord("–"): "-", ord("—"): "-"})
    ascii_ = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return " ".join(ascii_.split()).replace("%s", "% s")


def answer(screen: Screen, asked: str, earlier: int, sent_at: float, now: float) -> Reply:
    """What the screen shows of an answer. Counts are estimates, and the seconds belonging to them are
    made so that the rates are exactly those on the screen."""
    text = screen.answer(asked)
    prefill, decode = screen.rates
    new, generated = tokens(len(asked)), max(2, tokens(len(text)))
    return Reply(
        text=text,
        prompt_tokens=new + (tokens(earlier) if earlier else 0),
        cached_tokens=tokens(earlier) if earlier else 0,
        prefill_tokens=new,
        prefill_s=new / prefill if prefill else None,
        completion_tokens=generated,
        decode_s=(generated - 1) / decode if decode else None,
        total_s=now - sent_at,
        sent_at=sent_at,
        finish="length" if CUT in text else "stop",
    )
