"""An engine that says too much: the middle of its log goes, and the log says so."""

from __future__ import annotations

import sys

import pytest

from edgebench.core import Command, Device
from edgebench.device import session as sessions
from edgebench.device.session import Session


@pytest.mark.parametrize(
    ("lines", "marker"), [(100, None), (101, "… 1 line dropped …"), (1700, "… 1,600 lines dropped …")]
)
def test_a_log_whose_middle_was_dropped_says_so(
    monkeypatch: pytest.MonkeyPatch, lines: int, marker: str | None
) -> None:
    monkeypatch.setattr(sessions, "MAX_LOG_LINES", 100)
    code = f"for number in range({lines}): print('line', number)"
    with Session(Device("here", "linux", {"kind": "local"})) as session:
        running = session.start(Command([sys.executable, "-c", code]))
        assert running.wait(60)
    said = [f"line {number}" for number in range(lines)]
    assert running.log_lines_dropped == lines - 100
    assert running.truncated_log() == (said if marker is None else [*said[:50], marker, *said[-50:]])
