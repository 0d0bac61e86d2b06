"""The rules of CONTRIBUTING.md that imports and calls show: who reaches a device, and who formats units."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import edgebench

PACKAGE = Path(edgebench.__file__).parent
WITHOUT_A_DEVICE = ("judging", "modelfiles", "plan", "profiles", "scenarios", "store", "views")
WORD = re.compile(r"\b(?:Any|Json)\b")
UNTYPED = 150
"""Most words Any and Json in the package, imports aside: where JSON is read, and where a library has no types."""
REACHING = {"run", "spawn", "push", "pull", "forward"}


@cache
def sources() -> list[tuple[str, ast.Module]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text("utf-8"))) for path in files]


def receivers(tree: ast.AST) -> set[str]:
    """The names of what has one of ``REACHING`` called on it: ``self._session.run(…)`` → ``session``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in REACHING:
            owner = node.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            found.add(name.strip("_"))
    return found


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return found


def test_only_session_uses_a_transport() -> None:
    users = {path for path, tree in sources() if receivers(tree) & {"transport", "wire"}}
    assert users == {"device/session.py"}


def test_what_judges_plans_stores_and_shows_holds_no_device() -> None:
    for path, tree in sources():
        if path.startswith(WITHOUT_A_DEVICE):
            assert not receivers(tree) & {"session", "transport"}, path
            assert not {"edgebench.device.session", "edgebench.core.DeviceSession"} & imported(tree), path
    assert any("session" in receivers(tree) for path, tree in sources() if path.startswith("device/"))


def test_only_views_and_commands_turn_base_units_into_others() -> None:
    users = {path.split("/")[0] for path, tree in sources() if "edgebench.views.units" in imported(tree)}
    assert users == {"views", "cli"}


def test_few_values_have_no_type() -> None:
    lines = (line for path in PACKAGE.rglob("*.py") for line in path.read_text("utf-8").splitlines())
    words = [word for line in lines if not re.match(r"\s*(from|import) ", line) for word in WORD.findall(line)]
    assert 0 < len(words) < UNTYPED
