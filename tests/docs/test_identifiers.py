"""Names are nouns, verbs or is_/has_ (docs/style.md): the number of bare participles in a package only falls."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "edgebench"

PARTICIPLES = re.compile(
    "asked|begun|broken|chosen|described|doubted|drawn|found|given|gone|held|kept|known|laid|left_out|lent|listed|made|"
    "meant|missed|named|noted|placed|said|seen|sent|shown|taken|told|waited|wanted|written"
)
"""Participles that say nothing about the value they name, unlike the field's own, such as cached and sealed."""

LIMITS = {"core": 1, "device": 1}
"""The numbers that parts of the package have reached; the other parts have none. Lower them, never raise them."""


def assigned(tree: ast.AST) -> Iterator[str]:
    """The names that a module gives: to values, parameters, functions, classes and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def bare_participles(tree: ast.AST) -> list[str]:
    return [name for name in assigned(tree) if PARTICIPLES.fullmatch(name.strip("_").lower())]


def counts() -> Counter[str]:
    """Part of the package → bare participles in it; modules of the top level are one part."""
    found: Counter[str] = Counter()
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        found[parts[0] if len(parts) > 1 else "."] += len(bare_participles(ast.parse(path.read_text("utf-8"))))
    return found


COUNTS = counts()


def test_every_kind_of_name_is_counted() -> None:
    source = "class Found:\n    def told(self, said, match): self.seen = _known = size = found_sizes = 1\n"
    assert sorted(bare_participles(ast.parse(source))) == ["Found", "_known", "said", "seen", "told"]


@pytest.mark.parametrize("part", sorted(COUNTS))
def test_bare_participles_only_get_fewer(part: str) -> None:
    assert COUNTS[part] <= LIMITS.get(part, 0), f"name what the value is, not what was done to it: edgebench/{part}"
