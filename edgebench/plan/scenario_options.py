"""Options of the installed scenarios: parses and checks their values."""

from __future__ import annotations

from edgebench import plugins
from edgebench.core import Option
from edgebench.errors import UsageError
from edgebench.plan import ranges


def is_option(name: str) -> bool:
    """Whether any scenario has this option."""
    return bool(_defaults(name))


def choices(name: str) -> tuple[str, ...]:
    """The words that the option accepts."""
    return tuple(choice for default in _defaults(name) if isinstance(default, tuple) for choice in default)


def parse(name: str, text: str) -> tuple[Option, ...]:
    """The values of a range. Raises ``UsageError`` with a suggestion."""
    try:
        return ranges.parse(text, words=choices(name), minimum=_minimum(name))
    except UsageError as error:
        raise UsageError(f"{_flag(name)}: {error}", error.hint) from error


def check(name: str, value: object) -> None:
    """Raises ``UsageError`` for a value that the option does not take."""
    allowed = choices(name)
    if allowed:
        if value not in allowed:
            raise UsageError(f"{_flag(name)} must be {' or '.join(allowed)}, not {value!r}")
    elif isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{_flag(name)} must be a whole number, not {value!r}")
    elif value < _minimum(name):
        raise UsageError(f"{_flag(name)} must be at least {_minimum(name)}, not {value}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _minimum(name: str) -> int:
    """0 for an option that is 0 by default, else 1."""
    return 0 if 0 in _defaults(name) else 1


def _defaults(name: str) -> list[Option | tuple[str, ...]]:
    scenarios = (plugins.load("scenarios", scenario) for scenario in plugins.names("scenarios"))
    return [scenario.options[name] for scenario in scenarios if name in scenario.options]
