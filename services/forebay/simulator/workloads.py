"""Makes the workload of a run: reads or generates it, cuts its window, and draws by seed what the trace leaves open."""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_S
from forebay.simulator.config import World
from forebay.simulator.summary import CLASS_NAMES
from forebay.simulator.trace import TraceConfig
from forebay.simulator.traces import FORMATS, read
from forebay.simulator.workload import Workload, change, take
from forebay.simulator.workload.generators import make_generator
from forebay.simulator.workload.streams import stream

CLASS_NUMBERS = {name: int(number) for number, name in CLASS_NAMES.items()}


def make(trace: TraceConfig, world: World, seed: int, load: float) -> Workload:
    """The requests of one run; equal arguments give equal requests.

    Raises ConfigError for a trace that cannot be read, a window without requests, and models that no group serves.
    """
    workload = _generated(trace, seed) if trace.generator else _read(trace, seed)
    workload = _window(workload, trace)
    workload = _named(workload, trace, world, seed)
    if trace.class_shares:
        classes = _drawn(len(workload), trace.class_shares, CLASS_NUMBERS, seed, "classes")
        workload = change(workload, slo_class=classes)
    if trace.shuffle_s:
        workload = _shuffled(workload, trace.shuffle_s, seed)
    if load != 1.0:
        workload = change(workload, arrival_us=np.rint(workload.arrival_us / load).astype(np.int64))
    return workload


def _generated(trace: TraceConfig, seed: int) -> Workload:
    try:
        return make_generator(trace.generator, trace.options).generate(seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _read(trace: TraceConfig, seed: int) -> Workload:
    options = dict(trace.options)
    if "seed" not in options and "seed" in {field.name for field in dataclasses.fields(FORMATS[trace.format])}:  # type: ignore[arg-type]
        options["seed"] = seed
    return _kept(trace.format, trace.path, tuple(sorted((name, _frozen(value)) for name, value in options.items())))


@lru_cache(maxsize=1)
def _kept(format: str, path: str, options: tuple[tuple[str, object], ...]) -> Workload:
    return read(format, Path(path), **dict(options))


def _frozen(value: object) -> object:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _window(workload: Workload, trace: TraceConfig) -> Workload:
    """The requests of the window, from time 0 on; rows whose parents are outside go on without them."""
    start_us = round(trace.start_s * US_PER_S)
    last_us = start_us + round(trace.duration_s * US_PER_S) if trace.duration_s else np.iinfo(np.int64).max
    inside = (workload.arrival_us >= start_us) & (workload.arrival_us < last_us)
    rows = np.flatnonzero(inside)[: trace.limit or None]
    if not len(rows):
        span_s = workload.arrival_us[-1] / US_PER_S if len(workload) else 0.0
        raise ConfigError(
            f"no request is in the window from start_s {trace.start_s:g}; the trace ends at {span_s:.0f} s"
        )
    if len(rows) == len(workload):
        return workload
    cut = take(workload, rows)
    return change(cut, arrival_us=cut.arrival_us - start_us)


def _named(workload: Workload, trace: TraceConfig, world: World, seed: int) -> Workload:
    """The workload with the models and regions that the experiment wants; every model must be served by a group."""
    served = list(dict.fromkeys(group.model for group in world.groups))
    shares: Mapping[str, float] = trace.model_shares or ({trace.model: 1.0} if trace.model else {})
    if not shares and len(workload.models) == 1 and len(served) == 1:
        shares = {served[0]: 1.0}
    if shares:
        workload = _renamed(workload, "model", shares, seed)
    if trace.region_shares:
        workload = _renamed(workload, "region", trace.region_shares, seed)
    missing = sorted(set(workload.models) - set(served))
    if missing:
        raise ConfigError(
            f"no group serves {', '.join(missing)}, which the trace asks for; add [[groups]] or set trace.model"
        )
    return workload


def _renamed(workload: Workload, column: str, shares: Mapping[str, float], seed: int) -> Workload:
    numbers = {name: index for index, name in enumerate(shares)}
    drawn = _drawn(len(workload), shares, numbers, seed, f"{column}s")
    return change(workload, **{column: drawn, f"{column}s": tuple(shares)})


def _drawn(count: int, shares: Mapping[str, float], numbers: Mapping[str, int], seed: int, name: str) -> np.ndarray:
    weights = np.array(list(shares.values()), dtype=float)
    codes = np.array([numbers[key] for key in shares], dtype=np.int64)
    return codes[stream(seed, name).choice(len(codes), size=count, p=weights / weights.sum())]


def _shuffled(workload: Workload, window_s: float, seed: int) -> Workload:
    """The same arrivals with prompts and answers exchanged inside each window."""
    window = workload.arrival_us // round(window_s * US_PER_S)
    rows = np.lexsort((stream(seed, "shuffle").random(len(workload)), window))
    names = ("prompt_tokens", "output_tokens", "output_tokens_max", "text")
    moved = {name: getattr(workload, name)[rows] for name in names}
    return change(workload, **moved, blocks_of=workload.blocks_of.take(rows))
