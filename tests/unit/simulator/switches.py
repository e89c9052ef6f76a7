"""Small worlds and whole runs for tests of what is switched off and on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.simulator.config import EngineConfig, Group, PolicyConfig, World
from forebay.simulator.profiles import profile_of, save
from forebay.simulator.results import STATUSES, RunResult
from forebay.simulator.run import Scenario, simulate
from forebay.simulator.shell.journal import Journal
from forebay.simulator.workload import Workload, make_workload
from forebay.simulator.workload.base import change

Arm: TypeAlias = dict[str, Any]
Floats: TypeAlias = npt.NDArray[np.float64]

S = 1_000_000
PROFILE = "A100-80G/Llama-3-8B/tp1"
AMPLE: Arm = {"kv_tokens": 400_000, "max_seqs": 256, "max_batch_tokens": 8_192}
"""Room for everything at once."""
SHORTEST: Arm = {"orderer": "shortest_predicted", "orderer_parameters": {"ageing_tokens_per_s": 0.0}}
EARLY: Arm = {"puller": "unlimited"}
HOURS = 7_200.0


def group(count: int = 1, **given: Any) -> Group:
    bounds = {"instances_initial": count, "instances_min": count, "instances_max": count}
    return Group(**{"model": "model", "profile": PROFILE, **bounds, **given})


def world(*groups: Group, engine: Mapping[str, Any] | None = None, **given: Any) -> World:
    """One engine with room for about a dozen requests, unless told otherwise."""
    tight = {"max_seqs": 64, "max_batch_tokens": 512, "kv_tokens": 4_096}
    return World(groups=groups or (group(),), engine=EngineConfig(**{**tight, **(engine or {})}), **given)


def bursty(
    count: int = 240, per_s: float = 8.0, variation: float = 2.0, sigma: float = 1.0, **columns: Any
) -> Workload:
    """Gamma arrivals, and answers of heavy-tailed lengths around 90 tokens."""
    rng = np.random.default_rng(1)
    gaps_s = rng.gamma(1 / variation**2, variation**2 / per_s, count)
    lengths = np.clip(rng.lognormal(np.log(90.0), sigma, count), 1, 1_500).astype(np.int64)
    arrival_us = (np.cumsum(gaps_s) * S).astype(np.int64)
    return make_workload(arrival_us, rng.integers(20, 200, count), lengths, **columns)


def serve(
    load: Workload,
    where: World,
    length: str = "clairvoyant",
    parameters: Mapping[str, Any] | None = None,
    autoscaler: str = "static",
    journal: Journal | None = None,
    **scheduler: Any,
) -> RunResult:
    """A run in which everybody has patience."""
    policy = PolicyConfig(
        "arm",
        {"hold_timeout_interactive_fast_s": HOURS, "hold_timeout_interactive_normal_s": HOURS, **scheduler},
        {"policy": autoscaler},
        {"length": length, "parameters": {length: dict(parameters or {})}},
        {"first_token_timeout_s": HOURS, "inter_token_timeout_s": HOURS, "answer_timeout_s": HOURS},
    )
    return simulate(Scenario(load, where, policy), journal=journal)


def assert_same(first: RunResult, second: RunResult, *, but: tuple[str, ...] = ()) -> None:
    """Equal in every column; runs in which nothing finishes would be so whatever is switched."""
    assert (first.requests.status == STATUSES.index("finished")).mean() > 0.9
    for name in first.requests.__slots__:
        if name not in but:
            np.testing.assert_array_equal(getattr(first.requests, name), getattr(second.requests, name), name)
    assert first.end_us == second.end_us


def ttft_s(result: RunResult) -> Floats:
    assert (result.requests.first_us >= 0).all()
    return (result.requests.first_us - result.requests.arrival_us) / S


def e2e_s(result: RunResult) -> Floats:
    assert (result.requests.finish_us >= 0).all()
    return (result.requests.finish_us - result.requests.arrival_us) / S


def tpot_s(result: RunResult) -> Floats:
    rows = result.requests
    return (rows.finish_us - rows.first_us) / np.maximum(rows.output_tokens - 1, 1) / S


def gap_s(result: RunResult) -> Floats:
    """The longest time between two tokens of each answer."""
    assert (result.requests.gap_us >= 0).all()
    return result.requests.gap_us / S


def p99(values: Floats) -> float:
    return float(np.quantile(values, 0.99))


def even(folder: Path, step_ps: int, token_ps: int = 0) -> str:
    """A profile whose iterations take a constant and so much for each new token."""
    kept = profile_of(PROFILE, max_seqs=256, max_batch_tokens=8_192, kv_tokens=400_000)
    flat: Any = dict.fromkeys(
        ("decode_ps", "context_token_ps", "prefill_ps", "half_pair_fixed", "prefill_token_fixed"), 0
    )
    table = (0, *(step_ps + token_ps * tokens for tokens in range(1, 8_193)))
    path = folder / f"even-{step_ps}-{token_ps}.json"
    save(path, replace(kept, iteration_ps=table, name="A100-80G/even/tp1", **flat), {})
    return str(path)


def with_long_prompts() -> tuple[Workload, npt.NDArray[np.bool_]]:
    load = bursty(200, 4.0, 1.0, 0.5)
    is_long = np.arange(200) % 7 == 0
    return change(load, prompt_tokens=np.where(is_long, 4_000, 100)), is_long
