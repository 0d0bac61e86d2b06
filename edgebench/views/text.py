"""Text from users and devices (names, logs, options), made safe to display; and the parts in which records differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from edgebench.core import Option, Record

if TYPE_CHECKING:
    from rich.console import Console

_JOINERS = "\u200c\u200d"
"""Zero-width joiners: invisible, but part of ordinary words in several scripts."""

WIDE = 1000
"""Number of columns that stands for no limit."""


def clean(text: str) -> str:
    """One line without control characters, which could move a terminal's cursor.

    Bidirectional control characters are also removed, because they can make one name look like another.
    """
    visible = (char if char.isprintable() or char in _JOINERS else " " if char.isspace() else "\ufffd" for char in text)
    return "".join(visible).strip()


def lines(text: str) -> str:
    """Several lines, such as a log, each one clean."""
    return "\n".join(clean(line.expandtabs()) if line.strip() else "" for line in text.split("\n"))


def option(name: str, value: Option) -> str:
    """An option's value as on the command line."""
    return str(value).lower() if isinstance(value, bool) else clean(str(value))


def text_console(out: StringIO, *, width: int | None, colour: bool = False) -> Console:
    """A console that lays out text in ``width`` columns (None: unlimited), without markup."""
    from rich.console import Console

    return Console(
        file=out,
        width=width or WIDE,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        legacy_windows=False,
        emoji=False,
        highlight=False,
    )


def trim(out: StringIO) -> str:
    """The text of a console without trailing spaces."""
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def describe(record: Record) -> dict[str, str]:
    """The parts of a record's trial by name: device, model, …, and its options."""
    trial = record.trial
    parts = {
        "device": trial.device,
        "model": trial.model,
        "engine": trial.engine,
        "backend": trial.backend,
        "scenario": trial.scenario,
    }
    return {
        **{name: clean(part) for name, part in parts.items()},
        **{clean(name).replace("_", "-"): option(name, value) for name, value in trial.options.items()},
    }


def split_varying(part_maps: Sequence[Mapping[str, str]]) -> tuple[list[str], dict[str, str]]:
    """The names of the parts in which records differ, and the parts that all share."""
    names = list(dict.fromkeys(name for parts in part_maps for name in parts))
    differ = [name for name in names if len({parts.get(name) for parts in part_maps}) > 1]
    common = {name: part_maps[0][name] for name in names if name not in differ} if part_maps else {}
    return differ, common
