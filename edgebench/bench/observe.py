"""Notes on a round besides its metrics: CPU utilisation, throttling, power meters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from edgebench.bench.sampler import Sampler
from edgebench.bench.series import SampleSeries
from edgebench.core import Cluster, EnergyNotes, RoundData, RoundNotes, Throttling
from edgebench.device.cores import format_cpus
from edgebench.judging.metrics import energy


def throttling(sampler: Sampler, start: float, end: float) -> tuple[Throttling, ...]:
    """The first throttling of each cause in a span: seconds after the span's start, and the cause."""
    starts: dict[str, float] = {}
    for sample in list(sampler.samples):
        time_s = sampler.local(sample.at)
        if sample.name == "throttled" and sample.value > 0 and start <= time_s <= end:
            starts.setdefault(sample.labels.get("by", "unknown"), round(time_s - start, 2))
    return tuple(Throttling(time_s, cause) for cause, time_s in sorted(starts.items(), key=lambda item: item[1]))


def notes(sampler: Sampler, data: RoundData, clusters: Sequence[Cluster]) -> RoundNotes:
    """A round's notes on sampling, power meters and CPU utilisation."""
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
    """Utilisation while decoding, 0…1: by CPU number, and by cluster."""
    decodes = data.spans("decode")
    cores = sampler.by_label("cpu_core_util", "core", decodes[0][0], decodes[-1][1]) if decodes else {}
    return {core: round(cores[core], 3) for core in sorted(cores, key=int)}, _by_cluster(cores, clusters)


def _by_cluster(cores: Mapping[str, float], clusters: Sequence[Cluster]) -> dict[str, float]:
    """Mean utilisation of each completely sampled cluster; empty for fewer than two."""
    clusters_cpus = [[str(cpu) for cpu in cluster.cpus] for cluster in clusters]
    complete = [cpus for cpus in clusters_cpus if cpus and all(cpu in cores for cpu in cpus)]
    if len(complete) < 2:
        return {}
    return {format_cpus(map(int, cpus)): round(fmean(cores[cpu] for cpu in cpus), 3) for cpus in complete}
