"""A turn is typed: it survives JSON and the store, and nobody reads it by string key."""

from __future__ import annotations

import re
import tempfile
from dataclasses import fields
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import edgebench
from edgebench.core import Divergence, Facts, Round, SpeculationCosts, SpeculationCounts, Trial, Turn
from edgebench.store import records
from edgebench.store.results import Store

READ_BY_KEY = re.compile(r"\bturn(\[[\"']|\.get\()")

SECONDS = st.floats(0, 1e9, allow_nan=False)
COUNTS = st.integers(0, 2**40)
SEVERAL = st.lists(SECONDS, max_size=4).map(tuple)
POSITIONS = st.lists(COUNTS, max_size=4).map(tuple)
SPECULATION = st.builds(
    SpeculationCounts,
    steps=COUNTS,
    proposed_by_position=POSITIONS,
    accepted_by_position=POSITIONS,
    draft_s=st.none() | SECONDS,
)
COSTS = st.builds(
    SpeculationCosts,
    verify_s=st.dictionaries(st.integers(1, 64), SEVERAL, max_size=3),
    draft_s=st.lists(SEVERAL, max_size=3).map(tuple),
    absent=st.text(),
)
TURNS = st.builds(
    Turn,
    label=st.text(),
    measures=st.lists(st.sampled_from(["prefill", "decode", "ttft"]), unique=True).map(tuple),
    sent_at=SECONDS,
    prompt_tokens=COUNTS,
    completion_tokens=COUNTS,
    requested_tokens=st.none() | COUNTS,
    decode_tps=st.none() | SECONDS,
    ttft_s=st.none() | SECONDS,
    token_clock=st.sampled_from(["engine", "arrival"]),
    token_times=SEVERAL,
    draft_tokens=st.none() | COUNTS,
    speculation=st.none() | SPECULATION,
    costs=st.none() | COSTS,
    divergence=st.none() | st.builds(Divergence, st.none() | COUNTS, st.none() | SECONDS, st.none() | SECONDS),
    text=st.none() | st.text(),
    tokens=st.none() | POSITIONS,
)


@given(TURNS)
def test_a_turn_survives_json_and_what_it_lacks_has_no_key(turn: Turn) -> None:
    document = records.turn_to_json(turn)
    (read,) = records.round_from_json({"index": 0, "started": "", "metrics": {}, "turns": [document]}).turns
    assert read == turn
    absent = {one.name for one in fields(Turn) if getattr(turn, one.name) is None}
    assert not absent & document.keys()
    assert document["depth"] == turn.prompt_tokens + turn.completion_tokens


@settings(max_examples=25, deadline=None)
@given(st.lists(TURNS, max_size=3).map(tuple))
def test_a_round_survives_the_store(turns: tuple[Turn, ...]) -> None:
    one = Round(0, "2026-01-01T00:00:00Z", {"decode_tps": 1.0}, turns, fresh=True)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "results.sqlite") as store:
        run = store.begin_run({"name": "turns"})
        store.add_round(store.begin_trial(run, Trial("d", "m", "e", "cpu", "s", {}), Facts()), one)
        (record,) = store.records()
    assert record.rounds == (one,)


def test_no_source_reads_a_turn_by_string_key() -> None:
    assert READ_BY_KEY.search('turn["text"]')
    assert READ_BY_KEY.search("turn.get('text')")
    sources = list(Path(edgebench.__file__).parent.rglob("*.py"))
    assert sources
    assert [str(source) for source in sources if READ_BY_KEY.search(source.read_text("utf-8"))] == []
