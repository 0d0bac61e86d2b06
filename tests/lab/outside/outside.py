"""Another package's probe, scenarios, view and metric, found by their entry points alone.

The proof that they need no change in edgebench, and no module of it but ``edgebench.core``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence

from edgebench.core import (
    Arrivals,
    Batch,
    MetricDefinition,
    Option,
    ProbeSource,
    Quantity,
    Record,
    Reply,
    Request,
    RoundData,
    Sample,
    SampleMetric,
    ScenarioContext,
)


class Threads:
    """How many threads the engine has."""

    quantities: Mapping[str, Quantity] = {
        "thread_count": Quantity(
            "threads", "Threads of the engine's process.", {"threads_max": SampleMetric("max", "most threads")}
        )
    }
    sources: Mapping[str, Sequence[ProbeSource]] = {
        system: (ProbeSource(files=("/proc/{pid}/status",), lines=("Threads:",)),) for system in ("linux", "penguin")
    }

    def parse(self, at: float, text: str) -> Iterable[Sample]:
        for line in text.splitlines():
            yield Sample("thread_count", float(line.split()[-1]), at)


class OneWord:
    """Ask for a single word."""

    options: Mapping[str, Option] = {"letters": 5}
    helps: Mapping[str, str] = {"letters": "letters of the word"}

    def needs(self, options: Mapping[str, Option]) -> int:
        return 64

    def turns(self, setting: ScenarioContext) -> Generator[Request, Reply, None]:
        text = f"Say a word of {setting.options['letters']} letters."
        yield Request(messages=({"role": "user", "content": text},), max_tokens=8, label="word")


def replies_per_minute(data: RoundData) -> float | None:
    seconds = sum(turn.total_s for turn in data.turns if turn.measures)
    return 60 * len([turn for turn in data.turns if turn.measures]) / seconds if seconds else None


REPLIES = MetricDefinition(
    "reply_rate",
    "replies/min",
    "rate of replies",
    "replies ÷ the time they took, request sent to last token",
    "higher",
    short_title="replies",
    headline=True,
    source="somebody else",
    compute=replies_per_minute,
)


class AtOnce:
    """Two requests in the same moment, then two that arrive by the clock."""

    options: Mapping[str, Option] = {"answer_tokens": 24}
    helps: Mapping[str, str] = {"answer_tokens": "tokens of each answer"}

    def needs(self, options: Mapping[str, Option]) -> int:
        return 64

    def turns(self, setting: ScenarioContext) -> Generator[Batch | Arrivals, tuple[Reply, ...], None]:
        def request(label: str) -> Request:
            tokens = int(setting.options["answer_tokens"])
            return Request(tokens=tuple(range(5, 13)), max_tokens=tokens, ignore_eos=True, label=label)

        replies = yield Batch((request("left"), request("right")))
        assert [reply.completion_tokens for reply in replies] == [int(setting.options["answer_tokens"])] * 2
        yield Arrivals(((0.0, request("first")), (0.01, request("second"))))


class Haiku:
    """Five, seven, five (about)."""

    suffix = "haiku"

    def render(self, records: Sequence[Record]) -> str:
        return f"{len(records)} results\nlie quietly in the store\nwaiting to be read"
