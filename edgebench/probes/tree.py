"""The engine's process tree in a list of all processes, for systems without /proc."""

from __future__ import annotations

from collections.abc import Mapping


def members(root: int, parents: Mapping[int, int]) -> set[int]:
    """``root`` and its descendants; ``parents`` maps a process to its parent."""
    found = {root} & parents.keys()
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found
