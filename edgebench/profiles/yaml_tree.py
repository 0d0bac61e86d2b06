"""YAML text as a tree of nodes that know their lines: YAML 1.2's core types without anchors and aliases."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from edgebench.errors import ProfileError

MAX_FILE_B = 1 << 20
"""Bytes: profiles are written by hand, so a larger file is not one."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema, and neither anchors nor aliases (which can grow without bound)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - overrides PyYAML's

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def read_text(path: Path) -> str:
    """A file's text. Raises ``ValueError`` if it is not UTF-8 text, ``ProfileError`` if it cannot be read."""
    try:
        if path.stat().st_size > MAX_FILE_B:
            raise ValueError("is larger than 1 MiB, so it is not a profile")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error


def compose(content: str) -> yaml.MappingNode:
    """The tree of a document. Raises ``ValueError`` or ``yaml.YAMLError``."""
    loader = _Loader(content)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    if node is None:
        raise ValueError("is empty")
    if not isinstance(node, yaml.MappingNode):
        raise yaml.MarkedYAMLError(problem="must be a mapping (name: value)", problem_mark=node.start_mark)
    return node


def checked_scalar(node: yaml.ScalarNode) -> str:
    """A scalar's text. Raises ``yaml.MarkedYAMLError`` for an unpaired surrogate (from an escape sequence),
    which cannot be encoded."""
    content: str = node.value
    if any("\ud800" <= char <= "\udfff" for char in content):
        raise yaml.MarkedYAMLError(problem="an unpaired surrogate is not a character", problem_mark=node.start_mark)
    return content


def describe_error(error: yaml.MarkedYAMLError) -> str:
    """A readable message for a YAML error."""
    problem = error.problem or str(error)
    if "'\\t'" in problem:
        return "begins with a tab; YAML is indented by spaces"
    return f"is not YAML: {problem}"
