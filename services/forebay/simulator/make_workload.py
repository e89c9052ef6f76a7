"""Makes the workload of a run: reads or generates it, cuts its window, and draws by seed what the trace leaves open."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_S
from forebay.core.values import SloClass
from forebay.simulator.config import CLASS_NAMES, World
from forebay.simulator.trace_config import TraceConfig
from forebay.simulator.traces import FORMATS, read
from forebay.simulator.traces.prompts import Prompt, pair, read_prompts
from forebay.simulator.workload import Workload, alter
from forebay.simulator.workload.base import PREDICTED, Ints
from forebay.simulator.workload.generators import make_generator
from forebay.simulator.workload.predicted import resample_predictions

DAYS_MAX = 50
"""Arrivals come no later: the clock reaches 53 days (`NEVER_PS`), which leaves the last answers three."""
S_PER_DAY = 86_400

_CLASSES = {name: SloClass(number) for number, name in CLASS_NAMES.items()}


def make(trace: TraceConfig, world: World, seed: int, load: float) -> Workload:
    """The requests of one run; equal arguments give equal requests.

    Raises ConfigError for a trace that cannot be read, a window without requests or of more than DAYS_MAX, and models
    that no group serves.
    """
    try:
        workload = _generated(trace, seed) if trace.generator else _read(trace, seed)
        workload = _drawn(_cut(_worded(workload, trace, seed), trace), trace, world, seed)
        if trace.shuffle_s:
            workload = alter.shuffle_lengths(workload, trace.shuffle_s, seed)
        if trace.errors:
            workload = resample_predictions(workload, *_errors(trace.errors), seed)
        workload = alter.scale_load(workload, load, trace.load_by, seed)
    except ValueError as error:
        raise ConfigError(f"[trace]: {error}") from error
    _check_span(workload)
    _check_served(workload, world)
    return workload


def _generated(trace: TraceConfig, seed: int) -> Workload:
    return make_generator(trace.generator, trace.options).generate(seed)


def _read(trace: TraceConfig, seed: int) -> Workload:
    options = dict(trace.options)
    takes = getattr(FORMATS[trace.format], "__dataclass_fields__", {})
    if "seed" in takes and "seed" not in options:
        options["seed"] = seed
    return _kept(trace.format, trace.path, tuple(sorted((name, _frozen(value)) for name, value in options.items())))


@lru_cache(maxsize=1)
def _kept(format: str, path: str, options: tuple[tuple[str, object], ...]) -> Workload:
    return read(format, Path(path), **dict(options))


def _worded(workload: Workload, trace: TraceConfig, seed: int) -> Workload:
    return pair(workload, _prompts(trace.prompts), seed) if trace.prompts else workload


@lru_cache(maxsize=1)
def _prompts(path: str) -> list[Prompt]:
    return read_prompts(Path(path))


def _errors(path: str) -> tuple[Ints, Ints]:
    """Lengths of answers, and what was predicted of them."""
    known = [one for one in _prompts(path) if one.output_tokens and one.predicted_tokens]
    quantiles = np.array([one.predicted_tokens for one in known], dtype=np.int64).reshape(-1, len(PREDICTED))
    return np.array([one.output_tokens for one in known], dtype=np.int64), quantiles


def _frozen(value: object) -> object:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _cut(workload: Workload, trace: TraceConfig) -> Workload:
    if trace.start_s or trace.duration_s:
        end_s = trace.start_s + trace.duration_s if trace.duration_s else workload.arrival_us[-1] / US_PER_S + 1
        if end_s <= trace.start_s:
            raise ConfigError(f"[trace]: start_s is {trace.start_s:g}, but the trace ends at {end_s - 1:.0f} s")
        workload = alter.window(workload, trace.start_s, end_s)
    if trace.limit:
        workload = alter.first(workload, trace.limit)
    return alter.cap(workload, trace.tokens_max) if trace.tokens_max else workload


def _drawn(workload: Workload, trace: TraceConfig, world: World, seed: int) -> Workload:
    served = list(dict.fromkeys(group.model for group in world.groups))
    model = trace.model or (served[0] if len(workload.models) == len(served) == 1 else "")
    if trace.model_shares:
        workload = alter.mark(workload, "model", trace.model_shares, seed)
    elif model:
        workload = alter.rename(workload, "model", dict.fromkeys(workload.models, model))
    if trace.region_shares:
        workload = alter.mark(workload, "region", trace.region_shares, seed)
    if trace.tenant_shares:
        workload = alter.mark(workload, "tenant", trace.tenant_shares, seed)
    if not trace.class_shares:
        return _only(workload, trace)
    shares = {_CLASSES[name]: share for name, share in trace.class_shares.items()}
    deadlines_s = {_CLASSES[name]: seconds for name, seconds in trace.deadlines_s.items()}
    return _only(alter.mark_classes(workload, shares, deadlines_s, seed), trace)


def _only(workload: Workload, trace: TraceConfig) -> Workload:
    if not trace.keep_classes:
        return workload
    kept = [int(_CLASSES[name]) for name in trace.keep_classes]
    return alter.keep(workload, np.isin(workload.slo_class, kept))


def _check_span(workload: Workload) -> None:
    days = workload.arrival_us[-1] / US_PER_S / S_PER_DAY if len(workload) else 0.0
    if days > DAYS_MAX:
        raise ConfigError(
            f"[trace]: requests come for {days:.0f} days, and a run has room for {DAYS_MAX}; cut a window "
            "(duration_s in [trace], --duration)"
        )


def _check_served(workload: Workload, world: World) -> None:
    missing = sorted(set(workload.models) - {group.model for group in world.groups})
    if missing:
        raise ConfigError(
            f"the trace asks for {', '.join(missing)}, which no group serves; add a group, or say which model "
            "gets what share (model_shares in [trace], --models)"
        )
