"""Facts: typed where they are read, and nothing of them is lost."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from edgebench.core import DeviceFacts, EngineFacts, Facts, ModelFacts
from edgebench.store import records
from tests.lab.records import record

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def part(kind: type[DeviceFacts | EngineFacts | ModelFacts]) -> st.SearchStrategy[object]:
    """Flat objects with the names that are known and others, and what is no object at all."""
    names = st.sampled_from([one.name for one in fields(kind)]) | st.text()
    return st.dictionaries(names, VALUES, max_size=8) | VALUES


PARTS = {"device": part(DeviceFacts), "engine": part(EngineFacts), "model": part(ModelFacts)}
DOCUMENTS = st.fixed_dictionaries({}, optional={**PARTS, "rpc": VALUES, "controller": VALUES, "extra": VALUES})


@given(DOCUMENTS)
def test_whatever_a_document_holds_is_kept_under_its_own_name(document: dict[str, object]) -> None:
    assert records.to_plain(Facts.from_document(document).document()) == document


@given(DOCUMENTS)
def test_a_record_keeps_its_facts_in_json(document: dict[str, object]) -> None:
    one = replace(record(rounds=1), facts=Facts.from_document(document))
    read = records.from_json(records.to_json(one))
    assert read.facts == one.facts
    assert records.to_json(read) == records.to_json(one)


def test_what_is_read_is_typed_and_a_value_of_another_type_is_absent() -> None:
    facts = Facts.from_document(
        {"engine": {"build": 9, "layers": 33, "layers_offloaded": True, "buffers": {"CPU model": 5}}}
    )
    assert (facts.engine.layers, facts.engine.buffers) == (33, {"CPU model": 5})
    assert (facts.engine.build, facts.engine.layers_offloaded) == (None, None)
    assert facts.engine.extra == {"build": 9, "layers_offloaded": True}
