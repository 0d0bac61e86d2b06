"""The report: what it says, of what, in which forms."""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import click
import jsonschema
import numpy as np
import pytest
from altair.vegalite.schema import core as vega_lite
from click.testing import CliRunner, Result
from hypothesis import Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from lab.pages import EVERY, HOSTILE, hostile_records, own, store
from lab.records import everything, record, samples

from edgebench.cli import cli
from edgebench.core import Failure, Option, Record, RoundNotes
from edgebench.errors import EdgebenchError, ProfileError
from edgebench.judging.workload import group_by_workload
from edgebench.profiles import references
from edgebench.store.results import Store
from edgebench.views import html, reference_comparison, report_data, units
from edgebench.views.charts import figures, theme
from edgebench.views.charts.planes import HEIGHT, pareto_front
from edgebench.views.charts.planes import names as names_of
from edgebench.views.charts.timeline import thin
from edgebench.views.fields import command, labels
from edgebench.views.html import DETAILS, page
from edgebench.views.library import library
from edgebench.views.markdown_report import render_report
from edgebench.views.pictures import pictures
from edgebench.views.report_data import Digest, latest
from edgebench.views.rows import table
from edgebench.views.summary import summarize

VEGA_LITE = jsonschema.Draft7Validator(vega_lite.load_schema())


def report(path: Path, *arguments: str) -> Result:
    where = ["--store", str(path / "results.sqlite"), "-o", str(path)]
    return CliRunner().invoke(cli, ["report", *where, *arguments], catch_exceptions=False, standalone_mode=False)


class Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self._scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self._scripts += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._scripts -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._scripts:
            self.text += data


def values_of(spec: object) -> list[dict[str, object]]:
    """All rows of data in a specification."""
    if isinstance(spec, dict):
        own = spec.get("values") if isinstance(spec.get("values"), list) else []
        own = [row for row in own if isinstance(row, dict)] if own else []
        return own + [row for inner in spec.values() for row in values_of(inner)]
    return [row for inner in spec for row in values_of(inner)] if isinstance(spec, list) else []


# --- what is said -----------------------------------------------------------------------------


def test_the_best_is_named_where_a_difference_is_shown() -> None:
    fast = record(device="a", metrics={"decode_tps": 50.0, "peak_footprint_b": 9e8})
    slow = record(device="b", metrics={"decode_tps": 20.0, "peak_footprint_b": 3e8})
    (summary,) = summarize([slow, fast])
    said = [(highlight.name, highlight.predicate) for highlight in summary.highlights]
    assert said == [("a", "is fastest"), ("b", "uses the least memory")]
    assert all(not highlight.ties for highlight in summary.highlights)


def test_a_difference_within_the_spread_is_not_a_difference() -> None:
    one = record(device="a", metrics={"decode_tps": 40.0}, spread=0.2, run="1")
    other = record(device="b", metrics={"decode_tps": 41.0}, spread=0.2, run="2")
    (summary,) = summarize([one, other])
    (highlight,) = summary.highlights
    assert (highlight.name, highlight.predicate, highlight.ties) == ("b", "is among the fastest", ("a",))
    assert "No difference shown to" in page([one, other])


def test_the_widest_question_is_answered_first_and_what_one_alone_measured_is_no_best() -> None:
    sweep = [record(scenario="speculative", options={"k": k}, metrics={"decode_tps": 20.0 + k}) for k in range(5)]
    sweep[0] = record(scenario="speculative", options={"k": 0}, metrics={"decode_tps": 20.0, "load_s": 1.0})
    wide, narrow = summarize([*sweep, record(device="a"), record(device="b")])
    assert [wide.workload.scenario, narrow.workload.scenario] == ["throughput", "speculative"]
    failed = [record(device=d, scenario="speculative", status="failed", failure=Failure("x")) for d in "abc"]
    text = Tags(page([*sweep, *failed, record(device="a"), record(device="b")])).text
    assert text.index(wide.workload.title, text.index("Results")) < text.index(
        narrow.workload.title, text.index("Results")
    )
    assert narrow.compared == 5
    assert [highlight.predicate for highlight in narrow.highlights] == ["is fastest"]


def test_the_best_of_several_settings_is_named_with_them_and_what_ties_without() -> None:
    at = {n: {"ctx": 2048, "threads": n} for n in (2, 4, 8)}
    sweep = [record(device="a", options=at[n], metrics={"decode_tps": 10.0 * n}) for n in (2, 8)]
    (summary,) = summarize([*sweep, record(device="b", options=at[4], metrics={"decode_tps": 80.0})])
    (highlight,) = summary.highlights
    assert "Each device, engine and backend at its fastest settings." in summary.remarks
    assert (highlight.name, highlight.ties) in (("a · threads 8", ("b",)), ("b · threads 4", ("a",)))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ([record(metrics={"decode_tps": 40.0})], "measured: synthetic-laptop decodes 40.0 tokens/s (39.2–40.8)."),
        ([record(device=d, status="failed", failure=Failure("it died.", "Use less.")) for d in "ab"],
         "None of 2 configurations has a result. The reason: it died. Use less."),
        ([record(status="interrupted")], "The only configuration has no result."),
            ([record(backend="cuda", used="cpu")], "No comparison: every engine fell back to a different backend."),
        ([record(status="running")], "No trial has ended with a result yet."),
        ([record(metrics={"prefill_tps": 1.0})], "No rate, memory footprint, load time or energy was measured."),
    ],
)  # fmt: skip
def test_where_there_is_nothing_to_compare_it_is_said_why(made: list[Record], says: str) -> None:
    assert says in " ".join(Tags(page(made)).text.split())


def test_what_none_of_several_is_better_in_is_said_once() -> None:
    same = {"peak_footprint_b": 3e8, "load_s": 1.0}
    made = [record(device=d, metrics={**same, "decode_tps": rate}) for d, rate in (("a", 9.0), ("b", 5.0), ("c", 2.0))]
    (summary,) = summarize(made)
    assert [(highlight.name, highlight.predicate) for highlight in summary.highlights] == [("a", "is fastest")]
    assert "No difference shown in memory footprint, load time." in Tags(page(made)).text


def test_what_all_rows_share_stands_in_their_heading_and_what_each_has_of_its_own_beside_it() -> None:
    made = [record(options={"ctx": 2048, "batch": 16, "threads": n}) for n in (1, 2)]
    (group,) = table(made, made, max_rows=9, details=9)
    assert group.common == "batch 16"
    assert sorted(row.distinct_settings for row in group.rows) == ["threads 1", "threads 2"]
    assert all("batch 16" in row.settings for row in group.rows)
    (alone,) = table(made[:1], made[:1], max_rows=9, details=9)
    assert (alone.common, alone.rows[0].distinct_settings) == ("", "batch 16, threads 1")


def test_depths_stand_in_their_order() -> None:
    kinds = [kind.title for kind, _ in group_by_workload([record(options={"depth": n}) for n in (1024, 0, 3500, 512)])]
    assert [title.rsplit(" ", 1)[1] for title in kinds] == ["0", "512", "1024", "3500"]


def test_a_record_without_a_section_is_named_by_its_id() -> None:
    made = [record(device=f"d{n}", metrics={}) for n in range(DETAILS + 1)]
    text = page(made)
    (left,) = [one.id for one in made if f'id="r-{one.id}"' not in text]
    assert f'<span class="sub">{left}</span>' in text


@pytest.mark.parametrize(
    "other",
    [
        {"quantization": "Q8_0"},
        {"scenario": "chat"},
        {"options": {"ctx": 4096}},
        {"model": "other-model"},
        {"facts": {"model": {"sha256": "f" * 64, "quantization": "Q4_1"}}},
    ],
)
def test_only_like_is_compared_with_like(other: dict[str, object]) -> None:
    records = [record(device="a"), record(device="b", **other)]  # type: ignore[arg-type]
    assert len(group_by_workload(records)) == 2
    assert [summary.compared for summary in summarize(records)] == [1, 1]
    assert all(len(panel.lines) == 1 for figure in figures(records) for panel in figure.panels)


def test_a_fallen_back_trial_is_visible_and_never_the_best() -> None:
    honest = record(device="a", backend="cuda", metrics={"decode_tps": 30.0})
    fallen = record(device="b", backend="cuda", used="cpu", metrics={"decode_tps": 60.0})
    (summary,) = summarize([honest, fallen])
    assert {highlight.record for highlight in summary.highlights} == {honest.id}
    assert any(remark.startswith("1 excluded: ") for remark in summary.remarks)
    text = Tags(page([honest, fallen])).text
    assert "fell back" in text
    assert "computed on cpu" in text


def test_what_fell_back_or_broke_off_is_marked_in_bars_and_left_out_of_curves() -> None:
    good = record(options={"ctx": 2048, "threads": 1}, metrics={"decode_tps": 10.0, "peak_footprint_b": 2e8})
    other = record(options={"ctx": 2048, "threads": 2}, metrics={"decode_tps": 18.0, "peak_footprint_b": 2e8})
    fallen = record(
        backend="cuda",
        used="cpu",
        options={"ctx": 2048, "threads": 4},
        metrics={"decode_tps": 99.0, "peak_footprint_b": 1e8},
    )
    broken = replace(record(device="z", options={"ctx": 2048, "threads": 8}), status="interrupted")
    drawn = {figure.id: figure for figure in figures([good, other, fallen, broken])}
    bars = {row["name"]: row["doubted"] for row in values_of(drawn["decode"].panels[0].spec)}
    assert bars["synthetic-laptop · cuda → cpu · threads 4  (fell back)"] is True
    assert bars["z · cpu · threads 8  (interrupted)"] is True
    for name in ("threads", "frontier"):
        shown = {line.record for panel in drawn[name].panels for line in panel.lines}
        assert shown == {good.id, other.id}


def test_failed_and_doubted_trials_are_seen() -> None:
    failed = record(device="a", status="failed", failure=Failure("out of memory", "use less", log=("oom-line-7",)))
    text = Tags(page([failed, record(device="b", doubts=("throttled", "spread"))])).text
    for word in ("failed", "out of memory", "use less", "oom-line-7", "throttled", "spread"):
        assert word in text


def test_long_lists_of_doubts_are_counted_in_sentences_and_bars_and_whole_in_the_table() -> None:
    ids = ("steal", "spread", "drift", "few-rounds", "other-load")
    records = [record(device="a", doubts=ids), record(device="b", metrics={"decode_tps": 1.0})]
    text = Tags(page(records)).text
    assert "Doubts: steal, spread, drift, 2 more." in text
    assert all(id in text for id in ids)
    decode = next(figure for figure in figures(records) if figure.id == "decode")
    assert values_of(decode.panels[0].spec)[0]["name"] == "a  (steal, spread, drift, 2 more)"


def test_what_still_runs_is_counted_apart() -> None:
    running = record(device="a", status="running")
    text = Tags(page([running, record(), record(device="b", status="lost", failure=Failure("gone"))])).text
    assert "3 records · 3 configurations · 1 still running · 1 lost" in text


def test_what_broke_off_has_figures_and_its_time() -> None:
    whole = record(device="whole")
    cut = Failure("the run was ended before this trial was", "Run it again.")
    broken = replace(record(device="cut"), status="interrupted", failure=cut, finished="")
    text = Tags(page([whole, broken])).text
    assert "2 records · 2 configurations · 1 interrupted · measured 2026-01-01" in text
    assert "Why it was not finished" in text
    assert "Why it has no result" in Tags(page([record(status="lost", failure=Failure("gone"))])).text
    later = replace(broken, id="later", started="2026-01-02T00:00:00Z")
    earlier = record(device="cut", status="failed", failure=Failure("it died"))
    assert Digest([later, earlier]).newest == [later]


def test_a_single_configuration_is_doubted_in_its_sentence_too() -> None:
    alone = Digest([record(doubts=["steal"])])
    assert "There is nothing to compare it with.\nDoubts: steal." in Tags(page(alone)).text
    assert re.search(r"loads in 800 ms \(.*\)\. Doubts: steal\.\n", render_report(alone, [], None))


def test_kinds_of_work_beyond_the_first_are_counted() -> None:
    kinds = [record(options={"ctx": 1024 * n}) for n in (1, 2, 3)]
    assert "1 more workload" in page(kinds[:2])
    assert "2 more workloads" in page(kinds)


def test_the_charts_script_is_put_together_once_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(["made\u2028 now"])
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda: next(made))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    library.cache_clear()
    try:
        assert library() == "made\u2028 now"
        library.cache_clear()
        assert library() == "made\u2028 now"
    finally:
        library.cache_clear()


def test_of_repetitions_the_newest_is_drawn() -> None:
    old = record(metrics={"decode_tps": 10.0}, started="2026-01-01T00:00:00Z")
    new = record(metrics={"decode_tps": 12.0}, started="2026-02-01T00:00:00Z")
    failed = record(status="failed", failure=Failure("no"), started="2026-03-01T00:00:00Z")
    assert latest([new, failed, old]) == [new]
    decode = next(figure for figure in figures([old, new, failed]) if figure.id == "decode")
    assert [line.record for line in decode.panels[0].lines] == [new.id]


def test_labels_say_what_differs_and_nothing_else() -> None:
    same = [record(device="a", backend="cpu"), record(device="b", backend="cpu")]
    assert set(labels(same).values()) == {"a", "b"}
    other = record(device="b", backend="cuda", options={"ctx": 2048, "threads": 4})
    assert labels([*same, other])[other.id] == "b · cuda · threads 4"


def test_the_command_repeats_the_trial_whatever_it_is_called() -> None:
    one = record(device="my phone", model="a'b$(x)", options={"ctx": 2048, "gpu_layers": "all"})
    assert command(one).startswith("edgebench run --device 'my phone' --model 'a'\"'\"'b$(x)'")
    assert "--gpu-layers all" in command(one)


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("throughput", {"ctx": 4096, "prompt_tokens": 64, "gen_tokens": 32, "depth": 0, "threads": 2}),
        ("chat", {"ctx": 4096, "conversations": 2, "reply_tokens": 256, "gpu_layers": "all"}),
        ("speculative", {"ctx": 2048, "gen_tokens": 64, "k": 4, "draft": "smollm2-135m-q4_1", "p_min": 0.5}),
        ("speculative", {"ctx": 2048, "gen_tokens": 64, "k": 0, "draft": "none"}),
    ],
)
def test_the_command_is_one_that_edgebench_understands(scenario: str, options: dict[str, Option]) -> None:
    one = record(device="local", model="smollm2-135m-q4_1", scenario=scenario, options=options)
    name, *arguments = shlex.split(command(one))[1:]
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    found.make_context(name, arguments)


def test_loads_from_disk_and_from_memory_are_not_compared() -> None:
    def loaded(device: str, seconds: float, regime: str) -> Record:
        one = record(device=device, metrics={"load_s": seconds})
        noted = {name: replace(found, note=regime) for name, found in one.metrics.items()}
        rounds = tuple(replace(each, notes=RoundNotes(load_regime=regime)) for each in one.rounds)
        return replace(one, metrics=noted, rounds=rounds)

    records = [loaded("a", 3.0, "warm"), loaded("b", 2.0, "warm"), loaded("c", 1.0, "first")]
    (summary,) = summarize(records)
    (highlight,) = summary.highlights
    assert highlight.name == "b"
    assert highlight.value.endswith(", warm)")
    assert "first" in Tags(page(records)).text


# --- figures ----------------------------------------------------------------------------------


def test_every_figure_is_drawn_from_records_that_have_its_data() -> None:
    drawn = {figure.id: figure for figure in figures(everything())}
    assert set(drawn) == EVERY
    for figure in drawn.values():
        for panel in figure.panels:
            assert values_of(panel.spec), figure.id
            VEGA_LITE.validate(panel.spec)  # where they are drawn they are not validated
            assert panel.lines, figure.id
            assert all(len(line.cells) == len(panel.columns) for line in panel.lines)


def test_no_figure_without_data() -> None:
    assert figures([]) == []
    assert figures([record(metrics={})]) == []
    assert {figure.id for figure in figures([record()])} == {"decode", "memory"}


def test_bars_begin_at_zero_and_carry_their_interval() -> None:
    for figure in figures(everything()):
        if figure.id not in ("decode", "memory", "roofline"):
            continue
        for panel in figure.panels:
            text = json.dumps(panel.spec)
            assert '"zero": true' in text
            assert all("low" in row for row in values_of(panel.spec) if "name" in row)


def test_a_backend_and_a_part_of_memory_have_one_colour_in_every_figure() -> None:
    gpu = {"decode_tps": 9.0, "peak_footprint_b": 4e8, "peak_gpu_b": 1e8, "mbu": 0.5}
    some = [record(device=d, backend="opencl", metrics=gpu) for d in "ab"]
    domains = {"backend": set(), "part": set()}

    def look(spec: object) -> None:
        if isinstance(spec, dict):
            colour = spec.get("color")
            if isinstance(colour, dict) and colour.get("field") in domains:
                domains[colour["field"]].add(tuple(colour["scale"]["domain"]))
            for inner in spec.values():
                look(inner)
        for inner in spec if isinstance(spec, list) else ():
            look(inner)

    for records in (some, everything()):
        for figure in figures(records):
            look([panel.spec for panel in figure.panels])
    assert {domain.index("opencl") for domain in domains["backend"]} == {4}
    assert len(domains["part"]) == 1


SEEN_WITHOUT = {
    "no cone": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "long": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "middle": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "short": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""How linear red, green and blue look to eyes that lack a kind of cone (Machado, Oliveira, Fernandes 2009)."""


def light(colour: str) -> np.ndarray:
    """Linear red, green and blue of ``#rrggbb``."""
    shares = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def perceived(linear: np.ndarray) -> np.ndarray:
    """OKLab, where distances are as large as they look; in hundredths."""
    cones = np.array(
        [[0.4122215, 0.5363325, 0.0514460], [0.2119035, 0.6806995, 0.1073970], [0.0883025, 0.2817188, 0.6299787]]
    )
    axes = np.array(
        [[0.2104543, 0.7936178, -0.0040720], [1.9779985, -2.4285922, 0.4505937], [0.0259040, 0.7827718, -0.8086758]]
    )
    return 100 * axes @ np.cbrt(cones @ np.clip(linear, 0, 1))


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("without", SEEN_WITHOUT)
def test_every_eye_tells_the_colours_apart(colours: dict[str, str], without: str) -> None:
    seen = [perceived(np.array(SEEN_WITHOUT[without]) @ light(colours[f"c{n}"])) for n in range(1, 7)]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > 9


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_every_colour_stands_out_from_the_paper(colours: dict[str, str]) -> None:
    shares = np.array([0.2126, 0.7152, 0.0722])
    paper = float(light(colours["paper"]) @ shares) + 0.05
    for name, least in {
        **{f"c{n}": 3 for n in range(1, 7)},
        "edge": 3,
        "ink": 7,
        "muted": 4.5,
        "warn": 4.5,
        "bad": 4.5,
    }.items():
        mine = float(light(colours[name]) @ shares) + 0.05
        assert max(mine, paper) / min(mine, paper) >= least, name


def test_every_count_of_a_sweep_stands_on_its_axis() -> None:
    counts = (1, 2, 4, 6, 8, 12, 16)
    sweep = [record(options={"ctx": 2048, "threads": n}, metrics={"decode_tps": 10.0 + n}) for n in counts]
    (picture,) = [data for figure, data in pictures(sweep, "svg") if figure.id == "threads"]
    shown = re.findall(rb">(\d+)</text>", picture)
    assert {str(n).encode() for n in counts} <= set(shown)


def test_names_on_a_frontier_never_lie_on_one_another() -> None:
    rows = [{"x": 3.9 + n / 100, "y": 10.0 + n, "name": str(n)} for n in range(12)]
    places = sorted(row["place"] for row in names_of(rows, middle=9.0))
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert len(places) > 5
    assert min(gaps) * HEIGHT / 21 > 14  # pixels


def test_the_optimum_of_a_thread_sweep_is_marked_and_its_ties_named() -> None:
    rates = {1: (10.0, 0.02), 2: (19.0, 0.02), 4: (30.0, -0.05), 8: (30.2, 0.05)}
    sweep = [
        record(options={"ctx": 2048, "threads": n}, metrics={"decode_tps": rate}, spread=spread)
        for n, (rate, spread) in rates.items()
    ]
    figure = next(figure for figure in figures(sweep) if figure.id == "threads")
    best = {row["x"] for row in values_of(figure.panels[0].spec) if row.get("best")}
    assert best == {8.0}
    assert any("threads 8, with no difference shown to 4." in note for note in figure.notes)


def test_a_memory_split_that_does_not_add_up_is_not_stacked() -> None:
    metrics = {"decode_tps": 9.0, "peak_footprint_b": 100e6, "peak_anon_b": 90e6, "peak_file_b": 80e6}
    figure = next(f for f in figures([record(metrics=metrics)]) if f.id == "memory")
    assert {row["part"] for row in values_of(figure.panels[0].spec)} == {"resident, not split"}


def test_a_record_without_intervals_has_none_drawn() -> None:
    figure = next(f for f in figures([record(rounds=1)]) if f.id == "decode")
    assert all("low" not in row for row in values_of(figure.panels[0].spec))
    assert "no interval" in figure.panels[0].lines[0].cells[1]


def test_pictures_are_the_pages_own_figures() -> None:
    for figure, svg in pictures([record(device=HOSTILE[0]), record(device="b")], "svg"):
        root = ElementTree.fromstring(svg)
        assert not [tag for tag in root.iter() if tag.tag.endswith(("script", "foreignObject", "image"))]
        assert HOSTILE[0] in "".join(root.itertext()), figure.id
    assert all(png.startswith(b"\x89PNG") for _, png in pictures([record()], "png"))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=40))
def test_the_frontier_is_exactly_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    kept = [points[i] for i in pareto_front(points)]
    for cost, gain in points:
        beaten = any((c <= cost and g >= gain) and (c, g) != (cost, gain) for c, g in points)
        assert ((cost, gain) in kept) is not beaten


@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=900), st.integers(1, 300))
def test_thinned_lines_keep_their_range_and_their_limit(points: list[tuple[float, float]], most: int) -> None:
    kept = thin(points, most)
    assert 1 <= len(kept) <= most
    low, high = min(y for _, y in points), max(y for _, y in points)
    assert all(low - 1e-6 <= y <= high + 1e-6 for _, y in kept)


NUMBERS = st.floats(-1e30, 1e30) | st.sampled_from([0.0, -1.0, 1e-300, math.inf, -math.inf, math.nan])


@examples(max_examples=25, phases=[Phase.generate])  # shrinking would draw thousands of figures
@given(st.fixed_dictionaries(dict.fromkeys(("decode_tps", "peak_footprint_b", "load_s", "mbu"), NUMBERS)))
def test_no_number_breaks_a_figure_or_an_answer(metrics: dict[str, float]) -> None:
    records = [record(device="a", metrics=metrics), record(device="b", metrics=metrics, rounds=1), record(device="c")]
    json.dumps([panel.spec for figure in figures(records) for panel in figure.panels], allow_nan=False)
    assert summarize(records)


# --- units ------------------------------------------------------------------------------------


@given(st.floats(1e-9, 1e14), st.sampled_from(["B", "s", "ratio", "Hz", "tokens/s", "W", "J", "°C"]))
def test_a_quantity_is_its_value_to_three_digits(value: float, unit: str) -> None:
    factor, _ = units.scale(value, unit)
    shown = float(units.quantity(value, unit).split(" ")[0].replace("\u202f", ""))
    assert math.isclose(shown * factor, value, rel_tol=0.006)


def test_units_that_people_read() -> None:
    assert units.quantity(1.5 * 1024**3, "B") == "1.50 GiB"
    assert units.quantity(0.31, "s") == "310 ms"
    assert units.quantity(0.753, "ratio") == "75.3 %"
    assert units.quantity(1.31, "×") == "1.31×"
    assert units.quantity(0.753, "1") == "0.753"


# --- the page as text -------------------------------------------------------------------------


def test_hostile_text_stays_text() -> None:
    text = page(hostile_records())
    found = Tags(text)
    assert found.tags.count("script") == 3  # the data, the library, the page's own
    assert not {"img", "iframe", "object", "base", "form"} & set(found.tags) - {"form"}
    assert not found.handlers
    for name in HOSTILE:
        assert name in found.text


@examples(max_examples=60)
@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_any_name_gives_the_same_page_around_it(name: str, log: str) -> None:
    def tags(device: str, line: str) -> list[str]:
        one = record(device=device, id="x", status="failed", failure=Failure(line, line, log=(line,)))
        return Tags(page([one])).tags

    assert tags(name, log) == tags("a", "b")


def test_the_policy_allows_only_the_pages_own_scripts() -> None:
    text = page([record()])
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    rules = policy[1].replace("&#39;", "'")
    assert "default-src 'none'" in rules
    assert "connect-src 'none'" in rules
    assert "unsafe" not in rules
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', re.sub(r"(?s)<script.*?</script>", "", text))


def test_a_large_store_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, details = 60, 20  # as in a store of thousands, without drawing them
    for module in (html, report_data):
        monkeypatch.setattr(module, "ROWS", rows)
    monkeypatch.setattr(html, "DETAILS", details)
    many = [record(options={"ctx": 2048, "threads": i + 1}) for i in range(rows + 50)]
    text = Tags(page(many)).text
    assert f"Showing {rows} of {rows + 50} records" in text
    assert f"{details} of {rows + 50} are shown" in text


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record(metrics={})],
        [record(rounds=1)],
        [record(status="failed", failure=Failure("no"))],
        [record(status="skipped"), record(status="lost", failure=Failure("gone")), record(status="interrupted")],
        [record(device=f"装置 {i}") for i in range(300)],
        [record(facts={})],
        [record(samples=samples(1)[:1])],
    ],
    ids=["empty", "no metric", "one round", "all failed", "no result", "300 devices", "no facts", "one sample"],
)
def test_odd_stores_have_a_page_too(records: list[Record]) -> None:
    assert "</html>" in page(records)


# --- the reference of 2023 --------------------------------------------------------------------


def test_the_reference_is_complete_and_agrees_with_itself() -> None:
    reference = references.load("edge-2023")
    scenarios = Counter(row.scenario for row in reference.rows)
    assert scenarios == {"chat": 9, "speculative": 2, "kvcache": 2, "decoding": 5}
    by_what = {(row.what, row.engine, row.backend): row.metrics for row in reference.rows}
    cuda = by_what["ROG M16 2023, Linux", "llama.cpp", "cuda"]
    assert cuda["decode_tps"] == 51.46
    assert cuda["load_s"] == 0.958
    assert by_what["OnePlus 11", "mlc-llm", "opencl"]["decode_tps"] == 5.2
    for row in reference.rows:
        rate, pace = row.metrics.get("decode_tps"), row.metrics.get("s_per_token")
        # Published side by side; the two were not always taken from the same run.
        assert rate is None or pace is None or math.isclose(1 / rate, pace, rel_tol=0.2)


def test_every_row_of_the_reference_has_a_command_that_edgebench_understands() -> None:
    for row in references.load("edge-2023").rows:
        name, *arguments = shlex.split(row.repeat)[1:]
        found = cli.get_command(click.Context(cli), name)
        assert found is not None
        given = found.make_context(name, arguments).params
        devices = given.get("devices") or [given.get("device")]
        assert not row.profiles or set(devices) <= set(row.profiles)
        assert row.scenario in (*given.get("scenarios", ()), name)
        for option, value in row.options.items():
            if option not in ("k", "draft"):
                assert str(given[option]) == str(value), (row.what, option)


def put_beside(*records: Record) -> list[reference_comparison.RowComparison]:
    """The rows of 2023 that some of these records stand for."""
    parts = reference_comparison.compare_rows(references.load("edge-2023"), records)
    return [row for part in parts for row in part.rows if row.results]


def test_own_rows_stand_beside_the_published_ones() -> None:
    (found,) = put_beside(own())
    assert found.title == "OnePlus 11 · llama.cpp · opencl"
    assert found.published == ("3.73 GiB (4 GB)", "1.15 s", "3.80", "263")
    assert found.results[0].differs == ()
    assert [share for _, _, share in found.results[0].cells] == ["× 1.00", "× 1.00", "× 2.00", "× 0.500"]


def test_what_differs_is_said_and_another_model_has_no_ratio() -> None:
    other = own(model="smollm2", quantization="Q4_1", options={"ctx": 2048, "gpu_layers": "all"})
    (found,) = put_beside(other)
    said = "; ".join(found.results[0].differs)
    assert "model smollm2, not llama-2-7b-chat" in said
    assert "ctx 2048, not 4096" in said
    assert "batch not given, not 16" in said
    assert all(share == "" for _, _, share in found.results[0].cells)
    assert reference_comparison.unmatched(references.load("edge-2023"), [record(), other]) != []


def test_of_many_own_records_the_nearest_in_method_stand_beside() -> None:
    sweep = [own(options={"ctx": 4096, "batch": 16, "gpu_layers": "all", "ubatch": n}) for n in (1, 2)]
    far = [own(options={"ctx": n, "batch": 512, "gpu_layers": "all"}) for n in (512, 1024, 2048)]
    (found,) = put_beside(*far, *sweep)
    assert {one.record for one in found.results} >= {one.id for one in sweep}
    assert (len(found.results), found.more) == (3, 2)


def test_cache_strategies_and_drafts_stand_beside_their_like_only() -> None:
    timed = {"with_cache_s": 2.0, "without_cache_s": 5.0, "cache_speedup": 2.5}
    cache = own(device="any", engine="llama-cpp-python", backend="cpu", scenario="kvcache", metrics=timed)
    rows = put_beside(cache)
    assert [row.published[2] for row in rows] == ["1.94×", "1.12×"]
    assert [text for text, _, _ in rows[0].results[0].cells] == ["2.00 s", "5.00 s", "2.50×"]
    assert rows[0].results[0].differs[0] == "device any, the published device is unknown"
    assert all(not share for _, _, share in rows[0].results[0].cells)
    beams = own(device="any", scenario="decoding", options={"strategy": "beam", "beams": 3})
    (row,) = put_beside(beams)
    assert "beams 3, not 2" in row.results[0].differs
    at = {"device": "a6000-server", "backend": "cuda", "scenario": "speculative", "model": "codellama-34b-f16"}
    alone = own(**at, options={"k": 0}, metrics={"decode_tps": 3.4})
    drafted = own(**at, options={"k": 5, "draft": "codellama-7b-q4_0"}, metrics={"decode_tps": 5.1, "speedup": 1.5})
    first, second = put_beside(alone, drafted)
    assert [one.record for one in first.results] == [alone.id]
    assert [one.record for one in second.results] == [drafted.id]
    assert not any("draft" in text for text in second.results[0].differs)


def test_own_references_are_found_and_their_mistakes_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "references"
    folder.mkdir()
    row = "{what: X, engine: e, backend: cpu, scenario: chat, model: m, metrics: {decode_tps: 1.5}}"
    (folder / "mine.yaml").write_text(f"name: mine\ntitle: Mine\nrows:\n  - {row}\n")
    assert references.names() == ["edge-2023", "mine"]
    assert references.load("mine").rows[0].metrics == {"decode_tps": 1.5}
    (folder / "bad.yaml").write_text("name: bad\ntitle: Bad\nrows:\n  - {what: X, engin: e}\n")
    with pytest.raises(ProfileError, match=r"bad\.yaml:4: .*engin"):
        references.load("bad")
    with pytest.raises(ProfileError, match="no reference named") as caught:
        references.load("edge2023")
    assert caught.value.hint == "Did you mean edge-2023?"


# --- the command ------------------------------------------------------------------------------


def test_report_writes_one_page(tmp_path: Path) -> None:
    store(tmp_path / "results.sqlite", [record(device="räksmörgås"), record(device="b")])
    result = report(tmp_path)
    assert result.exit_code == 0
    assert result.stdout == ""
    text = (tmp_path / "index.html").read_text("utf-8")
    assert "räksmörgås" in Tags(text).text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_trials_that_failed_last_do_not_cost_the_timeline(tmp_path: Path) -> None:
    failed = [record(device=f"f{n}", status="failed", failure=Failure("x"), started="2026-02") for n in range(9)]
    store(tmp_path / "results.sqlite", [record(samples=samples(5)), *failed])
    report(tmp_path)
    assert 'id="f-timeline"' in (tmp_path / "index.html").read_text("utf-8")


def test_a_record_shows_the_engines_own_log(tmp_path: Path) -> None:
    with Store(tmp_path / "results.sqlite") as opened:
        opened.add(record(), logs=["first line\n" + "middle\n" * 99 + "last <b>line</b>\n"])
    report(tmp_path)
    text = Tags((tmp_path / "index.html").read_text("utf-8")).text
    assert "last <b>line</b>" in text
    assert "first line" not in text
    assert "its last lines" in text


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("md", {"report.md", "decode.svg", "memory.svg"}),
        ("csv", {"report.csv"}),
        ("json", {"report.json"}),
        ("svg", {"decode.svg", "memory.svg"}),
        ("png", {"decode.png", "memory.png"}),
    ],
)
def test_every_format_writes_its_files(tmp_path: Path, form: str, files: set[str]) -> None:
    store(tmp_path / "results.sqlite", [record()])
    assert report(tmp_path, "--format", form).exit_code == 0
    written = {path.name for path in tmp_path.iterdir() if "sqlite" not in path.name}
    assert written == files
    if form == "md":
        for name in re.findall(r"\]\((.*?)\)", (tmp_path / "report.md").read_text("utf-8")):
            assert (tmp_path / name).exists()


def test_filters_choose_what_is_shown(tmp_path: Path) -> None:
    store(tmp_path / "results.sqlite", [record(device="wanted"), record(device="other")])
    report(tmp_path, "--device", "wanted")
    text = Tags((tmp_path / "index.html").read_text("utf-8")).text
    assert "wanted" in text
    assert "other" not in text.replace("other backend", "")


def test_an_empty_store_gives_a_helpful_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["report"], catch_exceptions=False, standalone_mode=False)
    assert result.exit_code == 0
    assert "edgebench run" in result.stderr
    assert "edgebench run" in Tags((tmp_path / "reports" / "index.html").read_text("utf-8")).text


def test_the_reference_is_put_in_the_page(tmp_path: Path) -> None:
    store(tmp_path / "results.sqlite", [own()])
    report(tmp_path, "--reference", "edge-2023")
    text = Tags((tmp_path / "index.html").read_text("utf-8")).text
    assert "Edge inference experiments of 2023" in text
    assert "not measured" in text


def test_markdown_has_the_answer_and_the_reference_too(tmp_path: Path) -> None:
    store(tmp_path / "results.sqlite", [own(), own(device="oneplus11-termux", metrics={"decode_tps": 3.0})])
    assert report(tmp_path, "--format", "md", "--reference", "edge-2023").exit_code == 0
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "**oneplus11** is fastest" in text
    assert "| → **oneplus11** |" in text
    with pytest.raises(click.UsageError, match="--reference requires"):
        report(tmp_path, "--format", "csv", "--reference", "edge-2023")


def test_a_page_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    store(tmp_path / "results.sqlite", [record()])
    (tmp_path / "index.html").mkdir()
    with pytest.raises(EdgebenchError, match=r"cannot write .*index\.html"):
        report(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
