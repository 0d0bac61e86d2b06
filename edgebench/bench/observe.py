"""What the sampler saw of one round: memory, use, heat, energy by phase, and the roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from edgebench.bench import energy
from edgebench.bench.energy import Energy, Idle
from edgebench.bench.sampler import Sampler
from edgebench.bench.series import SampleSeries
from edgebench.core import Json, Turn
from edgebench.device.bandwidth import model_bytes_per_token
from edgebench.device.cores import listed

Span = tuple[float, float]
"""Two ``time.monotonic()``."""


def spans(turns: Sequence[Turn], phase: str) -> list[Span]:
    """When the turns that measure a phase (``prefill``, ``decode``) were in it, by the arrival of tokens."""
    found = []
    for turn in turns:
        first = turn.first_token_at
        if phase not in turn.measures or first is None:
            continue
        start, end = (turn.sent_at, first) if phase == "prefill" else (first, turn.ended_at)
        if end > start:
            found.append((start, end))
    return found


def metrics(sampler: Sampler, begin: float, end: float, turns: Sequence[Turn]) -> dict[str, float]:
    """Memory over the whole round, everything else from the first decoding to the last."""
    seen = {name: value for name, value in sampler.between(begin, end).items() if name.endswith("_b")}
    if decodes := spans(turns, "decode"):
        busy = sampler.between(decodes[0][0], decodes[-1][1])
        seen.update({name: value for name, value in busy.items() if not name.endswith("_b")})
    if "peak_rss_b" in seen:
        seen["peak_footprint_b"] = seen["peak_rss_b"] + seen.get("peak_gpu_b", 0.0)
    return seen


def joules(
    sampler: Sampler, begin: float, end: float, turns: Sequence[Turn], *, load: Span | None, idle: Idle | None
) -> tuple[dict[str, float], dict[str, Json]]:
    """Energy of the round and of its phases, and a note of what was metered; nothing without a meter."""
    whole = _energy(sampler, [(begin, end)], idle)
    if whole is None:
        return {}, {}
    found = {"energy_gross_j": whole.gross_j}
    decode = _energy(sampler, spans(turns, "decode"), idle)
    for name, piece in (
        ("energy_j", whole),
        ("energy_load_j", _energy(sampler, [load] if load else [], idle)),
        ("energy_prefill_j", _energy(sampler, spans(turns, "prefill"), idle)),
        ("energy_decode_j", decode),
    ):
        if piece and piece.net_j is not None:
            found[name] = piece.net_j
    if decode:
        found["power_w"] = decode.gross_j / decode.seconds
        tokens = sum(turn.completion_tokens for turn in turns if "decode" in turn.measures)
        if tokens and decode.net_j is not None:
            found["j_per_token"] = decode.net_j / tokens
    return found, {"energy": {"metered": list(whole.sources), "whole_device": whole.whole}}


def _energy(sampler: Sampler, stretches: Sequence[Span], idle: Idle | None) -> Energy | None:
    pieces = [energy.of(sampler.integral("power_w", "of", *span), span[1] - span[0], idle) for span in stretches]
    known = [piece for piece in pieces if piece is not None]
    return energy.total(known) if len(known) == len(pieces) else None


def bandwidth_use(turns: Sequence[Turn], model: Mapping[str, Json], bytes_per_s: float) -> list[tuple[float, float]]:
    """For each decoding turn: (its mean depth in tokens, the share of the bandwidth it used).

    Bytes the model must read per token × decode rate ÷ the device's read bandwidth. Nothing for
    turns with a draft, where one reading of the weights yields several tokens.
    """
    weights = model.get("weights_read_bytes") or model.get("weights_bytes")
    if not weights or bytes_per_s <= 0:
        return []
    found = []
    for turn in turns:
        if "decode" in turn.measures and turn.decode_tps is not None and not turn.draft_tokens:
            depth = turn.depth - turn.completion_tokens / 2
            read = model_bytes_per_token(weights, model.get("kv_bytes_per_token") or 0, depth)
            found.append((depth, read * turn.decode_tps / bytes_per_s))
    return found


def throttling(sampler: Sampler, begin: float, end: float) -> list[dict[str, Json]]:
    """When each kind of throttling began in a stretch: seconds after its begin, and by what."""
    since: dict[str, float] = {}
    for sample in list(sampler.samples):
        at = sampler.local(sample.at)
        if sample.name == "throttled" and sample.value > 0 and begin <= at <= end:
            since.setdefault(sample.labels.get("by", "unknown"), round(at - begin, 2))
    return [{"at_s": at, "by": by} for by, at in sorted(since.items(), key=lambda item: item[1])]


def use(sampler: SampleSeries, turns: Sequence[Turn], clusters: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """How busy each processor was while decoding, and each cluster of them; ``clusters`` is the device's fact."""
    decodes = spans(turns, "decode")
    if not decodes:
        return {}
    cores = sampler.by_label("cpu_core_util", "core", decodes[0][0], decodes[-1][1])
    found: dict[str, Json] = {}
    if cores:
        found["cpu_by_core"] = {core: round(cores[core], 3) for core in sorted(cores, key=int)}
    members = [[str(cpu) for cpu in cluster.get("cpus", ())] for cluster in clusters]
    known = [cpus for cpus in members if cpus and all(cpu in cores for cpu in cpus)]
    if len(known) > 1:
        found["cpu_by_cluster"] = {
            listed(map(int, cpus)): round(fmean(cores[cpu] for cpu in cpus), 3) for cpus in known
        }
    return found


def notes(sampler: Sampler, begin: float, end: float) -> dict[str, Json]:
    """What a round's record says of its own sampling."""
    said: dict[str, Json] = {"sampling_absent": sampler.absent}
    if cost := sampler.cost:
        said["sampling_cost"] = cost.share
    if sampler.clock:
        said["clock_uncertainty_s"] = sampler.clock.uncertainty
    if events := throttling(sampler, begin, end):
        said["throttling"] = events
    return said
