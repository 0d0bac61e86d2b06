"""edgebench as a library: the functions that ``import edgebench`` offers. The command line is a client of them.

Nothing here prints or exits: what happens goes to ``on_event``, what went wrong is raised as an
``EdgebenchError``, what was measured is in the store and in the ``Results``.
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
from edgebench.api.planning import DeviceLike, ModelLike, several
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
from edgebench.store.results import Store, default_path
from edgebench.store.since import start_time
from edgebench.store.where import Where
from edgebench.version import __version__

__all__ = ["Results", "RunInterrupted", "compare", "devices", "load", "models", "run", "speculative"]

Values = Option | Iterable[Option]
"""One value of an option, several, or a range such as ``"1..8"``: several make a sweep."""
Some = str | Iterable[str]


def run(
    devices: DeviceLike | Iterable[DeviceLike] = defaults.DEVICE,
    models: ModelLike | Iterable[ModelLike] = defaults.MODEL,
    *,
    engine: str | None = None,
    backend: str | None = None,
    scenario: Some = defaults.SCENARIO,
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
    """Measure models on devices; everything is kept in the store, round by round.

    ``devices`` and ``models``: one or several names of profiles, paths, or what ``devices()`` and ``models()``
    return. ``engine`` and ``backend``: the device's own where None, else llama.cpp and cpu. ``store``: a file;
    ``reports/results.sqlite`` where None. ``on_event(device, event)`` is called in this thread as things
    happen. ``settle``: most seconds to wait before each trial until the device is cool and idle; 0
    disables all condition checks. ``options``: of the launch and of the scenarios, such as
    ``threads=[1, 2, 4]``, ``ctx=2048``, ``gen_tokens=64``.

    A failed trial is a record with ``status`` and ``failure``; a device that could not be used is in
    ``Results.errors``. Raises ``EdgebenchError`` where nothing could be measured at all, and
    ``RunInterrupted`` (a ``KeyboardInterrupt``) on Ctrl-C: engines are ended, finished rounds kept.
    """
    path = _checked_path(store)
    request = planning.RunRequest(
        devices=planning.devices_as_named("devices", devices),
        models=planning.models_as_named("models", models),
        engine=engine,
        backend=backend,
        scenarios=several("scenario", scenario, str),
        options={key: planning.option_values(key, value) for key, value in options.items()},
        rpc=rpc,
        load=load,
        target_ci=target_ci,
        max_rounds=max_rounds,
        conduct=planning.Conduct(rounds, seed, settle, wait, load_timeout),
    )
    return _executed(planning.run_plans(request), path, name, on_event)


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

    ``k``: one or several, a range, or ``"auto"``: the values that a first round predicts to be best.
    ``engine``: the device's own if None, else llama-cpp-python, else llama.cpp. The records hold
    ``speedup`` (paired by round with the target alone), ``predicted_speedup`` and ``acceptance``.
    Otherwise as ``run``.
    """
    path = _checked_path(store)
    named = planning.devices_as_named("device", device)
    opened = planning.single("device", planning.devices_of(named))
    request = drafting.SpeculativeRequest(
        opened,
        planning.single("target", planning.models_as_named("target", target)),
        planning.models_as_named("draft", draft),
        k if isinstance(k, str) else ",".join(map(str, several("k", k, int))),
        engine,
        backend,
        {key: planning.single(key, planning.option_values(key, value)) for key, value in options.items()},
        p_min,
        planning.Conduct(rounds, seed, settle, wait, load_timeout),
    )
    sweep = request.prepare()
    return _executed([sweep.first], path, name, on_event, speculation.completed, sweep.next_plans())


def load(
    store: str | PathLike[str] | None = None,
    *,
    runs: Some = (),
    devices: Some = (),
    models: Some = (),
    engines: Some = (),
    backends: Some = (),
    scenarios: Some = (),
    since: str | datetime | None = None,
    newest: int | None = None,
    samples: bool = False,
) -> Results:
    """Records of a store, oldest first.

    ``runs``: IDs, prefixes of IDs, or names. ``since``: a date, a time, or an age such as ``"7d"``.
    Raises ``StoreError`` where there is no store, or it cannot be read, and ``UsageError`` for a filter
    that makes no sense; one that matches nothing gives no records.
    """
    path = _path(store)
    if newest is not None:
        planning.check_number("newest", newest, 1, whole=True)
    where = Where(
        runs=_selected("runs", runs),
        devices=_selected("devices", devices),
        models=_selected("models", models),
        engines=_selected("engines", engines),
        backends=_selected("backends", backends),
        scenarios=_selected("scenarios", scenarios),
        since="" if since is None else start_time(since),
        newest=newest,
    )
    with Store(path, read_only=True) as opened:
        return Results(opened.records(where, samples=samples), logs=_logs_of(path))


def compare(
    a: Side,
    b: Side,
    *,
    store: str | PathLike[str] | None = None,
    axis: comparison.Axis | None = None,
    metrics: Sequence[str] = (),
) -> comparison.Comparison:
    """Two sets of trials, matched by the work they did; metric by metric with intervals.

    A side is records, or a name as in ``edgebench compare``: of a run, a record, a device, an engine, a
    backend or a build in ``store``, or the path of a store. ``axis``: what may differ besides: ``run``,
    ``device``, ``engine``, ``backend``, ``build``, or ``record`` for anything about how the work was done;
    what the names stand for if None. ``metrics``: the headline metrics if empty.

    Raises ``UsageError`` for a name that matches nothing or more than one thing and where no trials are
    comparable, and ``StoreError``.
    """
    if axis not in (None, *get_args(comparison.Axis)):
        raise UsageError(f"axis must be one of {', '.join(get_args(comparison.Axis))}, not {axis!r}")
    resolved = sides.resolve(a, b, lambda: Store(_path(store), read_only=True))
    return (replace(resolved, axis=axis) if axis else resolved).compare(metrics)


def devices() -> list[Device]:
    """Every valid device profile: of this folder, of the user's configuration, and those that ship.

    Raises ``ProfileError`` for the first one that isn't valid.
    """
    return [profiles.load_device(name) for name in profiles.names("devices")]


def models() -> list[Model]:
    """Every model profile, as ``devices``. Raises ``ProfileError``."""
    return [modelfiles.load(name) for name in profiles.names("models")]


def _executed(
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
    return Results(execution.records, errors=execution.errors, logs=_logs_of(path))


def _logs_of(path: Path) -> Callable[[str], Sequence[str]]:
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


def _checked_path(store: str | PathLike[str] | None) -> Path:
    """The path of a store that may not exist yet, checked before anything is fetched or measured."""
    path = _path(store)
    if path.exists() or str(path) == database.IN_MEMORY:
        Store(path, read_only=True).close()
    return path


def _selected(name: str, values: Some) -> list[str]:
    """Values of a filter; none selects everything. Raises ``UsageError``."""
    return several(name, values, str) if isinstance(values, str) or values else []
