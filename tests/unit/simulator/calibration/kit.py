"""Runs whose engine is known: the instance model with secret constants is what was "measured"."""

from dataclasses import replace

import numpy as np

from forebay.core.instance import EngineFlags, EngineProfile, compute_profile
from forebay.core.units import PS_PER_S
from forebay.simulator.calibration.replay import replay
from forebay.simulator.calibration.runs import Run

PROFILE = compute_profile("A100-80G", "Llama-3-8B", max_seqs=32, max_batch_tokens=512, kv_tokens=200_000, step_s=0.0)
FLAGS = EngineFlags()


def with_secret(step_s: float = 0.0, seq_s: float = 0.0, frontend_s: float = 0.0) -> EngineProfile:
    """The profile with more host time than it knows of."""
    step_ps = round(step_s * PS_PER_S)
    return replace(
        PROFILE,
        iteration_ps=(0, *(ps + step_ps for ps in PROFILE.iteration_ps[1:])),
        decode_ps=PROFILE.decode_ps + round(seq_s * PS_PER_S),
        frontend_ps=round(frontend_s * PS_PER_S),
    )


def traffic(count: int = 60, per_s: float = 6.0, seed: int = 1) -> Run:
    """Arrivals at random with lengths at random, not measured yet."""
    generator = np.random.default_rng(seed)
    return sent(np.cumsum(generator.exponential(1 / per_s, count)), generator)


def sweep(levels: tuple[int, ...] = (1, 2, 4, 8, 16, 32), each: int = 2, seed: int = 2) -> Run:
    """Closed loops, one level of concurrency after the other."""
    generator = np.random.default_rng(seed)
    starts = np.concatenate([np.full(level * each, 200.0 * number) for number, level in enumerate(levels)])
    clients = np.concatenate([np.tile(np.arange(level), each) + 100 * level for level in levels])
    ranks = np.concatenate([np.repeat(np.arange(each), level) for level in levels])
    return sent(starts + 1e-3 * (clients % 100) + 5.0 * ranks, generator, clients)


def sent(arrival_s: np.ndarray, generator: np.random.Generator, client: np.ndarray | None = None) -> Run:
    """Requests that nobody has answered."""
    order = np.argsort(arrival_s, kind="stable")
    count = len(arrival_s)
    arrival_s = arrival_s[order] - arrival_s[order[0]]
    return Run(
        "made",
        arrival_s=arrival_s,
        first_s=arrival_s,
        last_s=arrival_s,
        prompt_tokens=generator.integers(32, 1_500, count),
        output_tokens=generator.integers(1, 120, count),
        hit_tokens=np.zeros(count, dtype=np.int64),
        client=np.full(count, -1) if client is None else client[order],
    )


def measured(run: Run, engine: EngineProfile, noise: float = 0.0, seed: int = 3) -> Run:
    """The run as `engine` answers it, each time between tokens off by `noise` at random."""
    answered = replay(replace(run, client=np.full(len(run), -1)), engine, FLAGS)
    if (run.client >= 0).any():
        answered = replay(replace(run, last_s=run.arrival_s), engine, FLAGS)
    generator = np.random.default_rng(seed)
    factors = 1 + noise * generator.standard_normal((2, len(run)))
    first_s = answered.arrival_s + (answered.first_s - answered.arrival_s) * factors[0]
    last_s = first_s + (answered.last_s - answered.first_s) * factors[1]
    return replace(run, arrival_s=answered.arrival_s, first_s=first_s, last_s=last_s)
