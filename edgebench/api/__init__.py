"""The Python library: the functions that ``import edgebench`` provides. The command line is a client of them.

Nothing here prints or exits: events go to ``on_event``, errors are raised as ``EdgebenchError``, and
results are in the store and in the returned ``Results``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import get_args

from edgebench import modelfiles, profiles
from edgebench.api import drafting, planning, sides
from edgebench.api.planning import DeviceLike, ModelLike, as_list
from edgebench.api.results import Results
from edgebench.api.sides import Side
from edgebench.bench.events import Event
from edgebench.bench.executor import Execution, Finish, NextPlans, RunInterrupted, execute
from edgebench.core import Device, Option
from edgebench.errors import UsageError
from edgebench.judging import comparison, speculation
from edgebench.modelfiles.catalogue import Model
from edgebench.plan import Plan, defaults
from edgebench.store import database
from edgebench.store.filters import Filter
from edgebench.store.results import Store, default_path
from edgebench.store.since import start_time
from edgebench.version import __version__

__all__ = ["Results", "RunInterrupted", "compare", "devices", "load", "models", "run", "speculative"]

Values = Option | Iterable[Option]
"""One value of an option, several, or a range such as ``"1..8"``; several make a sweep."""
Names = str | Iterable[str]


def run(
    devices: DeviceLike | Iterable[DeviceLike] = defaults.DEVICE,
    models: ModelLike | Iterable[ModelLike] = defaults.MODEL,
    *,
    engine: str | None = None,
    backend: str | None = None,
    scenario: Names = defaults.SCENARIO,
    rounds: int = 5,
    store: str | PathLike[str] | None = None,
    on_event: Callable[[str, Event], None] | None = None,
    name: str = "",
    seed: int = 0,
    settle: float = 120.0,
    wait: float = 0.0,
    load: str = "warm",
    load_timeout: float = 300.0,
    target_ci: float | None = None,
    max_rounds: int = 50,
    rpc: str = "",
    **options: Values,
) -> Results:
    """Measure models on devices; every round is stored when it has finished.

    ``devices`` and ``models``: one or several profile names or paths, or values from ``devices()`` and
    ``models()``. ``engine`` and ``backend``: if None, the device profile's, else llama.cpp and cpu. ``store``:
    a file; ``reports/results.sqlite`` if None. ``on_event(device, event)`` is called in the calling thread.
    ``settle``: maximum seconds to wait before each trial for the device to cool down and go idle; 0
    disables all condition checks. ``options``: launch and scenario options, for example
    ``threads=[1, 2, 4]``, ``ctx=2048``, ``gen_tokens=64``.

    A failed trial is a record with ``status`` and ``failure``; a device that could not be used is in
    ``Results.errors``. Raises ``EdgebenchError`` if nothing could be measured, and ``RunInterrupted`` (a
    ``KeyboardInterrupt``) on Ctrl-C, after the engines were stopped; finished rounds are kept.
    """
    path = _check_path(store)
    request = planning.RunRequest(
        devices=planning.device_list("devices", devices),
        models=planning.model_list("models", models),
        engine=engine,
        backend=backend,
        scenarios=as_list("scenario", scenario, str),
        options={key: planning.option_values(key, value) for key, value in options.items()},
        rpc=rpc,
        load=load,
        target_ci=target_ci,
        max_rounds=max_rounds,
        conduct=planning.Conduct(rounds, seed, settle, wait, load_timeout),
    )
    return _execute(planning.run_plans(request), path, name, on_event)


def speculative(
    device: DeviceLike = defaults.DEVICE,
    target: ModelLike = defaults.TARGET,
    draft: ModelLike | Iterable[ModelLike] = defaults.DRAFT,
    *,
    k: str | int | Iterable[int] = "1..16",
    engine: str | None = None,
    backend: str | None = None,
    rounds: int = 5,
    store: str | PathLike[str] | None = None,
    on_event: Callable[[str, Event], None] | None = None,
    name: str = "",
    seed: int = 0,
    settle: float = 120.0,
    wait: float = 0.0,
    load_timeout: float = 300.0,
    p_min: float = 0.0,
    **options: Option,
) -> Results:
    """Sweep the number of draft tokens K, with the target alone in every round.

    ``k``: one or several values, a range, or ``"auto"`` for the values that a first round predicts to be best.
    ``engine``: if None, the device profile's, else llama-cpp-python, else llama.cpp. The records contain
    ``speedup`` (paired by round with the target alone), ``predicted_speedup`` and ``acceptance``.
    The other arguments, and the errors raised, are those of ``run``.
    """
    path = _check_path(store)
    device_profiles = planning.device_list("device", device)
    loaded = planning.single("device", planning.load_devices(device_profiles))
    request = drafting.SpeculativeRequest(
        loaded,
        planning.single("target", planning.model_list("target", target)),
        planning.model_list("draft", draft),
        k if isinstance(k, str) else ",".join(map(str, as_list("k", k, int))),
        engine,
        backend,
        {key: planning.single(key, planning.option_values(key, value)) for key, value in options.items()},
        p_min,
        planning.Conduct(rounds, seed, settle, wait, load_timeout),
    )
    sweep = request.prepare()
    return _execute([sweep.first], path, name, on_event, speculation.complete_sweep, sweep.next_plans())


def load(
    store: str | PathLike[str] | None = None,
    *,
    runs: Names = (),
    devices: Names = (),
    models: Names = (),
    engines: Names = (),
    backends: Names = (),
    scenarios: Names = (),
    since: str | datetime | None = None,
    newest: int | None = None,
    samples: bool = False,
) -> Results:
    """Records of a store, oldest first.

    ``runs``: IDs, prefixes of IDs, or names. ``since``: a date, a time, or an age such as ``"7d"``.
    Raises ``StoreError`` if the store does not exist or cannot be read, and ``UsageError`` for an invalid
    filter; a filter without matches gives no records.
    """
    path = _path(store)
    if newest is not None:
        planning.check_number("newest", newest, 1, whole=True)
    where = Filter(
        runs=_filter_values("runs", runs),
        devices=_filter_values("devices", devices),
        models=_filter_values("models", models),
        engines=_filter_values("engines", engines),
        backends=_filter_values("backends", backends),
        scenarios=_filter_values("scenarios", scenarios),
        since="" if since is None else start_time(since),
        newest=newest,
    )
    with Store(path, read_only=True) as reader:
        return Results(reader.records(where, samples=samples), logs=_log_reader(path))


def compare(
    a: Side,
    b: Side,
    *,
    store: str | PathLike[str] | None = None,
    axis: comparison.Axis | None = None,
    metrics: Sequence[str] = (),
) -> comparison.Comparison:
    """Compare two sets of trials, matched by workload, metric by metric with intervals.

    A side is records, or a name as in ``edgebench compare``: of a run, a record, a device, an engine, a
    backend or a build in ``store``, or the path of a store. ``axis``: what may differ between the sides:
    ``run``, ``device``, ``engine``, ``backend``, ``build``, or ``record`` for any option that does not change
    the workload; inferred from the names if None. ``metrics``: the headline metrics if empty.

    Raises ``UsageError`` for a name that is unknown or ambiguous and if no trials are comparable, and
    ``StoreError``.
    """
    if axis not in (None, *get_args(comparison.Axis)):
        raise UsageError(f"axis must be one of {', '.join(get_args(comparison.Axis))}, not {axis!r}")
    pair = sides.resolve(a, b, lambda: Store(_path(store), read_only=True))
    return (replace(pair, axis=axis) if axis else pair).compare(metrics)


def devices() -> list[Device]:
    """All device profiles: in the working directory, in the user's configuration, and built in.

    Raises ``ProfileError`` for the first invalid one.
    """
    return [profiles.load_device(name) for name in profiles.names("devices")]


def models() -> list[Model]:
    """All model profiles, in the same folders as device profiles. Raises ``ProfileError``."""
    return [modelfiles.load(name) for name in profiles.names("models")]


def _execute(
    plans: Sequence[Plan],
    path: Path,
    name: str,
    on_event: Callable[[str, Event], None] | None,
    finish: Finish | None = None,
    next_plans: NextPlans | None = None,
) -> Results:
    planning.check_text("name", name)
    if on_event is not None and not callable(on_event):
        raise UsageError(f"on_event must be a function of a device's name and an event, not {on_event!r}")
    meta = {"name": name, "command": "edgebench (Python)", "seed": plans[0].seed, "version": __version__}
    execution = execute(
        plans, path, meta=meta, on_event=on_event or (lambda device, event: None), finish=finish, next_plans=next_plans
    )
    if not execution.records and execution.errors:
        raise execution.errors[0][1]
    return _results(execution, path)


def _results(execution: Execution, path: Path) -> Results:
    return Results(execution.records, errors=execution.errors, logs=_log_reader(path))


def _log_reader(path: Path) -> Callable[[str], Sequence[str]]:
    def logs(record: str) -> Sequence[str]:
        with Store(path, read_only=True) as store:
            return store.logs(record)

    return logs


def _path(store: str | PathLike[str] | None) -> Path:
    if store is None:
        return default_path()
    if not isinstance(store, str | PathLike) or not str(store):
        raise UsageError(f"store must be the path of a file, not {store!r}", "Omit store for the default.")
    return Path(store).expanduser()


def _check_path(store: str | PathLike[str] | None) -> Path:
    """The path of a store, which is validated if it exists, before anything is fetched or measured."""
    path = _path(store)
    if path.exists() or str(path) == database.IN_MEMORY:
        Store(path, read_only=True).close()
    return path


def _filter_values(name: str, values: Names) -> list[str]:
    """Values of a filter; empty for no filter. Raises ``UsageError``."""
    return as_list(name, values, str) if isinstance(values, str) or values else []
