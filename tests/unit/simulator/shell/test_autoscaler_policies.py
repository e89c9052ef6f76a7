"""Every policy that sizes a fleet, on a small fleet of many pools, with every invariant checked after every event."""

from typing import Any

import numpy as np
import pytest

from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.core.values import SloClass
from forebay.simulator.config import StartConfig, Stock, World
from forebay.simulator.results import STATUSES, RunResult
from forebay.simulator.workload import Workload, make_workload
from tests.unit.simulator.shell.worlds import S, group, run, world

SHORT: dict[str, dict[str, Any]] = {
    "scheduled": {"periods": [{"pool": "east", "instances": 1, "instances_max": 4}], "window_s": 5.0},
    "aibrix_kpa": {"stable_window_s": 20.0, "panic_window_s": 5.0, "scale_down_cooldown_s": 20.0},
    "ray_serve": {"look_back_s": 5.0, "upscale_delay_s": 4.0, "downscale_delay_s": 20.0},
    "dynamo": {"window_s": 20.0, "has_load_loop": True},
    "wva": {"period_s": 10.0, "learns_steps": True},
    "preserve_paper": {"window_s": 20.0},
    "preserve_artifact": {"window_s": 20.0, "freeze_s": 15.0},
    "sageserve_lt_i": {"period_s": 40.0, "window_s": 20.0},
    "sageserve_lt_u": {"period_s": 40.0, "window_s": 20.0},
    "sageserve_lt_ua": {"period_s": 40.0, "window_s": 20.0},
    "forebay": {"window_s": 20.0},
}
SYSTEMS = {"chiron": "chiron", "preserve_paper": "preserve_paper", "llumnix_band": "llumnix"}
SLOW = "L4/Llama-3-8B/tp1"
CALM = ("static", "sageserve_lt_i", "sageserve_lt_u", "sageserve_lt_ua")
"""These take a rush as it comes, or as it was planned for."""
FINISHED = STATUSES.index("finished")


def rush(count: int = 180, seed: int = 1) -> Workload:
    """A quiet minute, a busy one and another quiet one, from both regions, in all classes."""
    rng = np.random.default_rng(seed)
    spans = ((0, 60, count // 6), (60, 120, count // 3 * 2), (120, 180, count // 6))
    arrivals = np.sort(np.concatenate([rng.uniform(first, last, many) for first, last, many in spans]))
    many = len(arrivals)
    return make_workload(
        (arrivals * S).astype(int).tolist(),
        rng.integers(10, 200, many),
        rng.integers(20, 300, many),
        names={"regions": ("east", "west")},
        slo_class=rng.choice([int(one) for one in SloClass], many),
        region=rng.integers(0, 2, many),
        deadline_us=[0] * many,
    )


def pools(**given: Any) -> World:
    """Pools of one model: two regions, two prices, and one that is there for deferred work."""
    rules: dict[str, Any] = {"instances_initial": 1, "instances_min": 1, "instances_max": 4, "concurrency_target": 4.0}
    rules |= {"prompt_tokens_per_s": 400.0, "response_tokens_per_s": 80.0, "tokens_per_s": 400.0, "profile": SLOW}
    return world(
        group(region="east", pool="east", **rules),
        group(region="west", pool="west", gpu_hour_price=0.5, **rules),
        group(region="west", pool="batch", role="batch", **{**rules, "instances_min": 0, "instances_initial": 0}),
        start=StartConfig(provisioning_s=4.0, warm_s=2.0, weights_gb_per_s=0.0, variation=0.2),
        **given,
    )


def policy(name: str) -> dict[str, Any]:
    """The arm, in which everybody may wait."""
    waits = {f"hold_timeout_{one}_s": 300.0 for one in ("interactive_fast", "interactive_normal", "deferred")}
    scheduler: dict[str, Any] = {"system": SYSTEMS[name]} if name in SYSTEMS else {}
    return {
        "autoscaler": {"policy": name, "parameters": SHORT.get(name, {})},
        "scheduler": scheduler | waits,
        "predictor": {"length": "histogram", "forecaster": "last_value"},
    }


def peak(result: RunResult, pool: str = "") -> int:
    """The most instances at one time."""
    there, most = set[str](), 0
    for change in result.changes:
        if change.state in ("STOPPED", "LOST"):
            there.discard(change.instance_id)
        elif change.region == pool or not pool:
            there.add(change.instance_id)
        most = max(most, len(there))
    return most


@pytest.mark.parametrize("name", AUTOSCALERS)
def test_every_policy_carries_a_rush_over_many_pools(name: str) -> None:
    result = run(rush(), pools(), policy=policy(name), kernel="fast")
    assert (result.requests.status == FINISHED).mean() > 0.99
    assert peak(result) <= 12
    assert name in CALM or peak(result) > 2
    assert result.counters.get("scaling_alarms", 0) < 20


def test_no_policy_takes_more_gpus_than_there_are() -> None:
    stocks = (Stock("west", "L4", 2),)
    for name in ("chiron", "dynamo", "preserve_paper"):
        result = run(rush(), pools(stocks=stocks), policy=policy(name), kernel="fast")
        assert peak(result, "west") <= 2


def longest_hold_s(theta: float) -> float:
    """A steady load that one instance carries, then three times as much: how long anybody waits for a seat."""
    steady = [int((60.0 + number * 1.1) * S) for number in range(100)]
    step = [int((170.0 + number * 1.1 / 3) * S) for number in range(240)]
    load = make_workload([*steady, *step], [40] * 340, [100] * 340, slo_class=[int(SloClass.INTERACTIVE_FAST)] * 340)
    pool = group(profile=SLOW, instances_initial=1, instances_min=1, instances_max=6, response_tokens_per_s=100.0)
    start = StartConfig(provisioning_s=30.0, warm_s=10.0, weights_gb_per_s=0.0)
    arm = policy("chiron") | {"autoscaler": {"policy": "chiron", "parameters": {"theta": theta}}}
    result = run(load, world(pool, start=start), policy=arm, kernel="fast")
    assert (result.requests.status == FINISHED).all()
    return float(result.requests.held_us.max()) / S


def test_a_step_of_one_over_theta_finds_its_instances_ready() -> None:
    # Without head-room the same step waits until instances have started.
    assert longest_hold_s(1 / 3) < 1.0 < 5.0 < longest_hold_s(1.0)
