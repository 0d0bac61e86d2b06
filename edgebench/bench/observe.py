"""What a round's record says beside its metrics: how busy processors were, when they throttled, what was metered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from edgebench.bench.sampler import Sampler
from edgebench.bench.series import SampleSeries
from edgebench.core import Json, RoundData
from edgebench.device.cores import listed
from edgebench.judging.metrics import energy


def throttling(sampler: Sampler, begin: float, end: float) -> list[dict[str, Json]]:
    """When each kind of throttling began in a stretch: seconds after its begin, and by what."""
    since: dict[str, float] = {}
    for sample in list(sampler.samples):
        at = sampler.local(sample.at)
        if sample.name == "throttled" and sample.value > 0 and begin <= at <= end:
            since.setdefault(sample.labels.get("by", "unknown"), round(at - begin, 2))
    return [{"at_s": at, "by": by} for by, at in sorted(since.items(), key=lambda item: item[1])]


def use(sampler: SampleSeries, data: RoundData, clusters: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """How busy each processor was while decoding, and each cluster of them; ``clusters`` is the device's fact."""
    decodes = data.spans("decode")
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


def notes(sampler: Sampler, data: RoundData) -> dict[str, Json]:
    """What a round's record says of its own sampling, and of what was metered."""
    said: dict[str, Json] = {"sampling_absent": sampler.absent}
    if cost := sampler.cost:
        said["sampling_cost"] = cost.share
    if sampler.clock:
        said["clock_uncertainty_s"] = sampler.clock.uncertainty
    if events := throttling(sampler, data.begin, data.end):
        said["throttling"] = events
    if metered := energy.whole(data):
        said["energy"] = {"metered": list(metered.sources), "whole_device": metered.whole}
    return said
