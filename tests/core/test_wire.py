"""Timed lines, and the two dialects that are made of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebench.core import json_lines, server_sent_events
from edgebench.core.wire import split_lines
from edgebench.errors import Unreadable

documents = st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8)), min_size=1, max_size=6)


def cut(data: bytes, cuts: Sequence[int]) -> list[tuple[float, bytes]]:
    places = [0, *sorted({min(at, len(data)) for at in cuts}), len(data)]
    return [(float(i), data[a:b]) for i, (a, b) in enumerate(itertools.pairwise(places))]


@given(documents, st.lists(st.integers(0, 300), max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_documents_survive_any_cut(sent: list[dict[str, int | str]], cuts: list[int], end: str, closed: bool) -> None:
    ndjson = end.join(json.dumps(one) for one in sent) + (end if closed else "")
    events = (end * 2).join(f"data: {json.dumps(one)}" for one in sent) + (end * 2 if closed else "")
    for data, dialect in ((ndjson, json_lines), (events, server_sent_events)):
        received = list(dialect(split_lines(cut(data.encode(), cuts))))
        assert [document for _, document in received] == sent
        times = [at for at, _ in received]
        assert times == sorted(times)


def test_a_line_has_the_time_of_the_block_that_completed_it() -> None:
    assert list(split_lines([(1.0, b"a"), (2.0, b"b\nc"), (3.0, b"")])) == [(2.0, b"ab"), (3.0, b"c")]


def test_events_follow_the_standard() -> None:
    """Comments and other fields are skipped, data of several lines is one event, nothing follows [DONE]."""
    sent = b': hello\nevent: token\ndata: {"a":\ndata: 1}\nid: 4\n\ndata:{"b": 2}\n\ndata: [DONE]\n\ndata: {"c": 3}\n\n'
    assert [event for _, event in server_sent_events(split_lines([(0.0, sent)]))] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b'{"response":"a","done":false}\n', r"no server-sent events; first line: b'\{\"response\""),
        (b"\n<html>\n", "no server-sent events; first line: b'<html>'"),
        (b"", "no server-sent events; the response is empty"),
        (b"data: {nonsense\n\n", "not JSON: b'{nonsense'"),
    ],
)
def test_what_is_no_event_stream_is_not_understood(sent: bytes, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        list(server_sent_events(split_lines([(0.0, sent)])))


@pytest.mark.parametrize(
    ("sent", "said"), [(b'data: {"a": 1}\n\n', "not JSON: b'data:"), (b"\n\n", "no JSON lines; the response is empty")]
)
def test_what_is_no_ndjson_is_not_understood(sent: bytes, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        list(json_lines(split_lines([(0.0, sent)])))
