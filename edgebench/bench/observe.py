"""What a round's record says beside its metrics: how busy processors were, when they throttled, what was metered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from edgebench.bench.sampler import Sampler
from edgebench.bench.series import SampleSeries
from edgebench.core import Cluster, EnergyNotes, RoundData, RoundNotes, Throttling
from edgebench.device.cores import format_cpus
from edgebench.judging.metrics import energy


def throttling(sampler: Sampler, begin: float, end: float) -> tuple[Throttling, ...]:
    """When each kind of throttling began in a stretch: seconds after its begin, and by what."""
    since: dict[str, float] = {}
    for sample in list(sampler.samples):
        at = sampler.local(sample.at)
        if sample.name == "throttled" and sample.value > 0 and begin <= at <= end:
            since.setdefault(sample.labels.get("by", "unknown"), round(at - begin, 2))
    return tuple(Throttling(at, by) for by, at in sorted(since.items(), key=lambda item: item[1]))


def notes(sampler: Sampler, data: RoundData, clusters: Sequence[Cluster]) -> RoundNotes:
    """What a round's record says of its own sampling, of what was metered, and of the processors in use."""
    metered = energy.round_energy(data)
    by_core, by_cluster = processors(sampler, data, clusters)
    return RoundNotes(
        sampling_absent=sampler.absent,
        sampling_cost=sampler.cost.share if sampler.cost else None,
        clock_uncertainty_s=sampler.clock.uncertainty if sampler.clock else None,
        throttling=throttling(sampler, data.begin, data.end),
        energy=EnergyNotes(tuple(metered.sources), metered.covers_device) if metered else None,
        cpu_by_core=by_core,
        cpu_by_cluster=by_cluster,
    )


def processors(
    sampler: SampleSeries, data: RoundData, clusters: Sequence[Cluster]
) -> tuple[dict[str, float], dict[str, float]]:
    """How busy each processor was while decoding, 0…1, by its number; and each cluster of them."""
    decodes = data.spans("decode")
    cores = sampler.by_label("cpu_core_util", "core", decodes[0][0], decodes[-1][1]) if decodes else {}
    return {core: round(cores[core], 3) for core in sorted(cores, key=int)}, _by_cluster(cores, clusters)


def _by_cluster(cores: Mapping[str, float], clusters: Sequence[Cluster]) -> dict[str, float]:
    """The mean of each cluster, where there are several and all their processors were read."""
    members = [[str(cpu) for cpu in cluster.cpus] for cluster in clusters]
    known = [cpus for cpus in members if cpus and all(cpu in cores for cpu in cpus)]
    if len(known) < 2:
        return {}
    return {format_cpus(map(int, cpus)): round(fmean(cores[cpu] for cpu in cpus), 3) for cpus in known}
