"""Fleets of drawn worlds in which everything may go wrong at once: what must hold in each of them."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from forebay.simulator.config import ClientConfig, Fault, Group, ObservationConfig, SpotConfig, StartConfig, World
from forebay.simulator.results import STATUSES, RunResult
from forebay.simulator.usage import fleet_usage
from forebay.simulator.workload import make_workload
from tests.unit.simulator.shell.worlds import S, group, run, world

NEXT = {
    "": {"PROVISIONING", "READY"},
    "PROVISIONING": {"LOADING", "READY", "DRAINING", "LOST"},
    "LOADING": {"READY", "DRAINING", "LOST"},
    "READY": {"LOADING", "DRAINING", "LOST"},
    "DRAINING": {"STOPPED", "LOST"},
    "STOPPED": set(),
    "LOST": set(),
}
HORIZON_S = 1_000.0


def drawn_world(rng: np.random.Generator) -> World:
    """One or two models, each with a scaled group and perhaps another one, and all kinds of trouble."""
    groups: list[Group] = []
    for model in ("a", "b")[: 1 + int(rng.integers(2))]:
        least = int(rng.integers(1, 3))
        most = least + int(rng.integers(1, 4))
        groups.append(
            group(
                model=model,
                instances_initial=int(rng.integers(least, most + 1)),
                instances_min=least,
                instances_max=most,
                concurrency_target=float(rng.choice([1.0, 4.0])),
                spot=bool(rng.random() < 0.4),
            )
        )
        if rng.random() < 0.5:
            groups.append(group(1, model=model, region="east", spot=bool(rng.random() < 0.3)))
    return world(
        *groups,
        start=StartConfig(
            provisioning_s=float(rng.choice([0.0, 5.0, 20.0])),
            weights_gb_per_s=0.0,
            warm_s=float(rng.choice([0.0, 10.0])),
            variation=float(rng.choice([0.0, 0.7])),
            failure_share=float(rng.choice([0.0, 0.3])),
        ),
        faults=tuple(drawn_fault(rng) for _ in range(int(rng.integers(6)))),
        spot=SpotConfig(float(rng.choice([0.0, 60.0])), float(rng.choice([0.0, 5.0]))),
        observation=ObservationConfig(float(rng.choice([0.5, 1.0, 3.0])), float(rng.choice([0.0, 0.7]))),
        clients=ClientConfig(int(rng.integers(1, 4))),
        horizon_s=HORIZON_S,
    )


def drawn_fault(rng: np.random.Generator) -> Fault:
    """A fault within the first minute."""
    kind, model = str(rng.choice(["crash", "hang", "slow"])), str(rng.choice(["a", "b", ""]))
    return Fault(float(rng.uniform(0, 60)), kind, model, int(rng.integers(3)), float(rng.choice([0.5, 5.0, 80.0])))


def drawn_run(seed: int) -> tuple[World, RunResult]:
    rng = np.random.default_rng(seed)
    of = drawn_world(rng)
    models = tuple(dict.fromkeys(one.model for one in of.groups))
    arrival_us = np.sort(rng.uniform(0, 60, 120) * S).astype(int)
    which, regions = rng.integers(len(models), size=120), rng.integers(2, size=120)
    names = {"models": models, "regions": ("local", "east")}
    load = make_workload(
        arrival_us, rng.integers(10, 300, 120), rng.integers(5, 300, 120), model=which, region=regions, names=names
    )
    policy = {
        "autoscaler": {"policy": str(rng.choice(["kpa", "hpa_ratio", "static"]))},
        "predictor": {"length": "none"},
    }
    return of, run(load, of, policy=policy, seed=seed)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_goes_wrong_every_instance_lives_by_the_rules_and_every_request_is_answered(seed: int) -> None:
    of, result = drawn_run(seed)
    states: defaultdict[str, list[str]] = defaultdict(lambda: [""])
    for change in result.changes:
        states[change.instance_id].append(change.state)
    for instance_id, steps in states.items():
        assert all(after in NEXT[before] for before, after in pairwise(steps)), (instance_id, steps)
    assert (result.requests.status != STATUSES.index("unfinished")).all()
    assert result.end_us < HORIZON_S * S
    usage = fleet_usage(result, of)
    parts = (usage.serving_gpu_hours, usage.idle_gpu_hours, usage.loading_gpu_hours, usage.draining_gpu_hours)
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(usage.gpu_hours)
    assert usage.instances_peak <= sum(one.instances_max for one in of.groups)
