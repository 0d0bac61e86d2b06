"""Requests of a batch or a schedule are in flight at the same time, and answered in their order."""

from __future__ import annotations

import math
import threading

import pytest

from edgebench.bench import schedules
from edgebench.core import Arrivals, Batch, Reply, Request
from edgebench.errors import EngineFailed

ONE, TWO, THREE = (Request(tokens=(number,)) for number in (1, 2, 3))


def answer(request: Request) -> Reply:
    assert request.tokens
    return Reply(str(request.tokens[0]))


def test_a_batch_is_in_flight_at_once_and_answered_in_order() -> None:
    meeting = threading.Barrier(3, timeout=60)

    def complete(request: Request) -> Reply:
        meeting.wait()  # none returns before all three are there
        return answer(request)

    replies = schedules.send_all(schedules.of_step(Batch((THREE, ONE, TWO))), complete)
    assert [reply.text for reply in replies] == ["3", "1", "2"]


def test_an_arrival_waits_for_no_answer() -> None:
    later = threading.Event()

    def complete(request: Request) -> Reply:
        if request is ONE:
            assert later.wait(60)
        later.set()
        return answer(request)

    replies = schedules.send_all(schedules.of_step(Arrivals(((0.0, ONE), (0.05, TWO)))), complete)
    assert [reply.text for reply in replies] == ["1", "2"]


def test_one_that_fails_is_raised_after_the_others_are_answered() -> None:
    answered = []

    def complete(request: Request) -> Reply:
        if request is TWO:
            raise EngineFailed("no")
        answered.append(request)
        return answer(request)

    with pytest.raises(EngineFailed, match="no"):
        schedules.send_all(schedules.of_step(Batch((ONE, TWO, THREE))), complete)
    assert ONE in answered


def test_nothing_is_waited_for_once_the_engine_is_gone() -> None:
    def complete(request: Request) -> Reply:
        raise EngineFailed("gone")

    with pytest.raises(EngineFailed, match="gone"):
        schedules.send_all([(86400.0, ONE)], complete, lambda: True)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (7, "turns yielded int"),
        (Batch(()), "has no requests"),
        (Batch((7,)), "holds int"),  # type: ignore[arg-type]
        (Arrivals(((-1.0, ONE),)), "at -1.0 s"),
        (Arrivals(((math.nan, ONE),)), "at nan s"),
        (Arrivals(((math.inf, ONE),)), "at inf s"),
        (Arrivals(((2.0, ONE), (1.0, TWO))), "not in order"),
    ],
)
def test_what_is_no_schedule_is_named(step: object, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        schedules.of_step(step)
