"""The engine's process tree in a list of all processes, for systems without /proc."""

from __future__ import annotations

from collections.abc import Mapping


def descendants(root: int, parents: Mapping[int, int]) -> set[int]:
    """``root``, if it runs, and its descendants; ``parents`` maps a process to its parent."""
    pids = {root} & parents.keys()
    while children := {pid for pid, parent in parents.items() if parent in pids} - pids:
        pids |= children
    return pids
