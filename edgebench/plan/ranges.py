"""Parses ranges of whole numbers: ``1..16``, ``1..16+5``, ``1,2,4``, ``8,16..64+16``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from edgebench.core import LaunchOption, Option
from edgebench.errors import UsageError

LIMIT = 1000
"""Largest number of values in a range; more are considered a typing error."""

_PART = re.compile(r"(?P<first>[0-9]{1,18})(\.\.(?P<last>[0-9]{1,18})(\+(?P<step>[0-9]{1,18}))?)?", re.ASCII)


def parse(text: str, *, words: Iterable[str] = (), minimum: int = 0) -> tuple[int | str, ...]:
    """The values of a range in their order, without duplicates.

    ``1..16+5`` is 1, 6, 11, 16: the last number is included only if a step reaches it.
    ``words``: names that are allowed besides numbers, such as ``all``.
    Raises ``UsageError`` with a suggestion.
    """
    words = tuple(words)
    values: dict[int | str, None] = {}
    for part in text.split(","):
        for value in _values(part.strip(), text, words, minimum):
            values[value] = None
        if len(values) > LIMIT:
            raise _too_many(part.strip(), text)
    return tuple(values)


def parse_option(option: LaunchOption, text: str) -> tuple[Option, ...]:
    """The values of a launch option, by its type: a range of whole numbers, else values separated by commas.

    Raises ``UsageError`` with a suggestion.
    """
    try:
        if option.type is int:
            values: tuple[Option, ...] = parse(text, words=option.words, minimum=int(option.minimum or 0))
        else:
            values = tuple(dict.fromkeys(_value(option, part.strip()) for part in text.split(",")))
        for value in values:
            option.check(value)
    except UsageError as error:
        raise UsageError(f"{option.flag}: {error}", error.hint) from error
    except ValueError as error:
        matches = get_close_matches(text, option.words, n=1)
        raise UsageError(f"{option.flag} {error}", f"Did you mean {matches[0]}?" if matches else "") from error
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
            return text  # rejected by the option's own check
    return text


def _values(part: str, text: str, words: tuple[str, ...], minimum: int) -> Iterable[int | str]:
    if part in words:
        return (part,)
    match = _PART.fullmatch(part)
    if match is None:
        raise UsageError(f"{text!r} is not a range" + (f": {part!r}" if part != text else ""), _suggestion(part, words))
    first, last, step = (int(match[name]) if match[name] else None for name in ("first", "last", "step"))
    assert first is not None
    if first < minimum:
        raise UsageError(f"{text!r}: {first} is below {minimum}", f"Start at {minimum}.")
    if last is None:
        return (first,)
    if last < first:
        reversed_range = f"{last}..{first}" + (f"+{step}" if step else "")
        raise UsageError(f"{text!r} is descending", f"Did you mean {reversed_range}?")
    if step == 0:
        raise UsageError(f"{text!r}: the step must not be 0", f"Did you mean {first}..{last}?")
    values = range(first, last + 1, step or 1)
    # Not by len(), which overflows for ranges above the machine's word size.
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


def _suggestion(part: str, words: tuple[str, ...]) -> str:
    matches = get_close_matches(part.lower(), words, n=1)
    if matches:
        return f"Did you mean {matches[0]}?"
    range_match = re.fullmatch(r"([0-9]+)\s*(?:-|:|\.|\.\.\.|to|\s\.\.\s)\s*([0-9]+)", part)
    if range_match:
        return f"Did you mean {range_match[1]}..{range_match[2]}?"
    word_list = "".join(f", {word}" for word in words)
    return f"Write 4, 1,2,4, 1..16 or 1..16+5{word_list}."
