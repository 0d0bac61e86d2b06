"""Ranges of whole numbers as people type them: ``1..16``, ``1..16+5``, ``1,2,4``, ``8,16..64+16``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from edgebench.core import LaunchOption, Option
from edgebench.errors import UsageError

LIMIT = 1000
"""More values than this in one range are taken for a slip of the finger."""

_PART = re.compile(r"(?P<first>[0-9]{1,18})(\.\.(?P<last>[0-9]{1,18})(\+(?P<step>[0-9]{1,18}))?)?", re.ASCII)


def parse(text: str, *, words: Iterable[str] = (), least: int = 0) -> tuple[int | str, ...]:
    """The values of a range in the order they were written, each once.

    ``1..16+5`` is 1, 6, 11, 16: the last number counts only where a step lands on it.
    ``words`` are the names allowed beside numbers, such as ``all``.
    Raises ``UsageError`` that says what would be right.
    """
    words = tuple(words)
    values: dict[int | str, None] = {}
    for part in text.split(","):
        for value in _values(part.strip(), text, words, least):
            values[value] = None
        if len(values) > LIMIT:
            raise _too_many(part.strip(), text)
    return tuple(values)


def parse_option(option: LaunchOption, text: str) -> tuple[Option, ...]:
    """The values of a launch option, by its type: a range of whole numbers, else values separated by commas.

    Raises ``UsageError`` that says what would be right.
    """
    try:
        if option.type is int:
            values: tuple[Option, ...] = parse(text, words=option.words, least=int(option.minimum or 0))
        else:
            values = tuple(dict.fromkeys(_value(option, part.strip()) for part in text.split(",")))
        for value in values:
            option.check(value)
    except UsageError as error:
        raise UsageError(f"{option.flag}: {error}", error.hint) from error
    except ValueError as error:
        near = get_close_matches(text, option.words, n=1)
        raise UsageError(f"{option.flag} {error}", f"Did you mean {near[0]}?" if near else "") from error
    return values


def _value(option: LaunchOption, text: str) -> Option:
    if option.type is bool:
        if text not in ("on", "off"):
            raise UsageError(f"{text!r} is neither on nor off", "Give on, off or on,off.")
        return text == "on"
    if option.type is float and text not in option.words:
        try:
            return float(text)
        except ValueError:
            return text  # refused by the option, which says what it takes
    return text


def _values(part: str, text: str, words: tuple[str, ...], least: int) -> Iterable[int | str]:
    if part in words:
        return (part,)
    match = _PART.fullmatch(part)
    if match is None:
        raise UsageError(f"{text!r} is not a range" + (f": {part!r}" if part != text else ""), _forms(part, words))
    first, last, step = (int(match[name]) if match[name] else None for name in ("first", "last", "step"))
    assert first is not None
    if first < least:
        raise UsageError(f"{text!r}: {first} is below {least}", f"Start at {least}.")
    if last is None:
        return (first,)
    if last < first:
        near = f"{last}..{first}" + (f"+{step}" if step else "")
        raise UsageError(f"{text!r} runs backwards", f"Did you mean {near}?")
    if step == 0:
        raise UsageError(f"{text!r}: a step of 0 never ends", f"Did you mean {first}..{last}?")
    values = range(first, last + 1, step or 1)
    # Compared by arithmetic: len() of a range overflows above the machine's word.
    if (last - first) // (step or 1) >= LIMIT:
        raise _too_many(part, text)
    return values


def _too_many(part: str, text: str) -> UsageError:
    match = _PART.fullmatch(part)
    hint = f"At most {LIMIT} values."
    if match and match["last"]:
        first, last = int(match["first"]), int(match["last"])
        step = -(-(last - first) // 15)
        hint = f"At most {LIMIT} values. Did you mean {first}..{last}+{step}?"
    return UsageError(f"{text!r} is more than {LIMIT} values", hint)


def _forms(part: str, words: tuple[str, ...]) -> str:
    near = get_close_matches(part.lower(), words, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    dashed = re.fullmatch(r"([0-9]+)\s*(?:-|:|\.|\.\.\.|to|\s\.\.\s)\s*([0-9]+)", part)
    if dashed:
        return f"Did you mean {dashed[1]}..{dashed[2]}?"
    named = "".join(f", {word}" for word in words)
    return f"Write 4, 1,2,4, 1..16 or 1..16+5{named}."
