"""The command line in an empty folder, and stores for it to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgebench.cli import cli
from edgebench.core import Record
from edgebench.errors import EdgebenchError
from edgebench.store.results import Store

DEFAULT = Path("reports/results.sqlite")
Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``call("results", "list")`` in an empty folder; errors of ours come as exceptions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEBENCH_STORE", raising=False)

    def run(*argv: object) -> Result:
        result = CliRunner().invoke(cli, [str(word) for word in argv])
        if isinstance(result.exception, EdgebenchError):
            raise result.exception
        return result

    return run


def fill(
    path: Path, *made: Record, name: str = "", command: str = "edgebench run", logs: Sequence[str] = ()
) -> list[Record]:
    """Records of one run, as that run would have stored them."""
    with Store(path) as store:
        run = store.begin_run({"name": name, "command": command})
        done = []
        for one in made:
            id = store.begin_trial(run, one.trial, one.facts)
            for text in logs:
                store.add_log(id, text)
            done.append(replace(one, id=id, run=store.run(run)))
            store.finish(done[-1])
    return done
