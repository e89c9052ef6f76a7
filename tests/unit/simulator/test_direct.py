"""A direct run gives what the whole path gives where nothing stands between router and engines."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.errors import ConfigError
from forebay.simulator.config import Fault, NetworkConfig, PolicyConfig, World
from forebay.simulator.direct import simulate_direct
from forebay.simulator.results import RunResult
from forebay.simulator.run import Scenario, simulate
from forebay.simulator.workload import Workload
from tests.unit.simulator.shell.worlds import S, group, workload, world

ROUTERS = ("round_robin", "least_requests", "power_of_two", "least_predicted_tokens")
LENGTHS = ("none", "input_ratio", "input_ratio bare", "histogram", "clairvoyant")
BARE = {"calibration_window_count": 0, "drift_window_count": 0}


def policy(router: str = "least_requests", length: str = "input_ratio", **scheduler: Any) -> PolicyConfig:
    """An arm for both paths: the whole one renews no lease before the run is over. Bare: no bound ever learns."""
    length, _, bare = length.partition(" ")
    return PolicyConfig(
        name="arm",
        scheduler={"router": router, "puller": "unlimited", "lease_ttl_s": 3_600.0, **scheduler},
        predictor={"length": length, **(BARE if bare else {})},
        gateway={"progress_interval_s": 1_000.0},
        autoscaler={"policy": "static"},
    )


def both(workload: Workload, world: World, arm: PolicyConfig, kernel: str = "reference") -> tuple[RunResult, RunResult]:
    scenario = Scenario(workload, world, arm)
    return simulate(scenario, kernel=kernel), simulate_direct(scenario, kernel=kernel)


def drawn(seed: int, count: int = 80) -> Workload:
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.integers(0, 6 * S, count)).tolist()
    return workload(arrivals, rng.integers(1, 200, count).tolist(), rng.integers(1, 120, count).tolist())


def assert_equal(whole: RunResult, direct: RunResult) -> None:
    for name in whole.requests.__slots__:
        np.testing.assert_array_equal(getattr(direct.requests, name), getattr(whole.requests, name), name)
    assert direct.end_us == whole.end_us
    assert direct.instances == whole.instances
    assert direct.rejections == whole.rejections


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("length", LENGTHS)
def test_placements_and_times_are_those_of_the_whole_path(router: str, length: str) -> None:
    assert_equal(*both(drawn(1), world(group(3)), policy(router, length)))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2 * S), st.integers(1, 3_000), st.integers(1, 100)), min_size=1, max_size=40),
    st.integers(1, 12),
    st.sampled_from(ROUTERS),
    st.sampled_from(("none", "input_ratio", "input_ratio bare")),
    st.sampled_from(("reference", "fast")),
)
def test_they_are_so_for_any_requests_also_for_those_that_fit_nowhere(
    rows: list[tuple[int, int, int]], count: int, router: str, length: str, kernel: str
) -> None:
    arrivals, prompts, outputs = zip(*sorted(rows), strict=True)
    load = workload(arrivals, prompts, outputs)
    assert_equal(*both(load, world(group(count)), policy(router, length), kernel))


def test_a_model_may_have_several_groups_and_begins_with_its_fewest() -> None:
    groups = (group(3, instances_initial=1), group(1, profile="H100/Llama-3-8B/tp1"))
    whole, direct = both(drawn(2), world(*groups), policy())
    assert_equal(whole, direct)
    assert len(direct.instances) == 4


@pytest.mark.parametrize("length", ["none", "clairvoyant"])
def test_models_have_their_own_instances(length: str) -> None:
    arrivals = [number * S // 20 for number in range(60)]
    models = [number % 3 for number in range(60)]
    load = workload(arrivals, model=models, names={"models": ("a", "b", "missing")})
    whole, direct = both(load, world(group(2, model="a"), group(3, model="b")), policy(length=length))
    assert_equal(whole, direct)
    assert direct.rejections == {"MODEL_UNKNOWN": 20}


@pytest.mark.parametrize(
    ("given_world", "arm", "what"),
    [
        (world(faults=(Fault(model="model"),)), policy(), "faults"),
        (world(network=NetworkConfig(local_ms=1.0)), policy(), "network"),
        (world(network=NetworkConfig(decision_ms=1.0)), policy(), "network"),
        (world(group(region="far")), policy(), "network"),
        (world(horizon_s=1.0), policy(), "horizon_s"),
        (world(engine={"prefix_cache_tokens": 512}), policy(), "prefix"),
        (world(), policy(puller="fixed_cap"), "puller"),
        (world(), policy(admission="token_budget"), "admission"),
    ],
)
def test_what_needs_the_whole_path_is_refused(given_world: World, arm: PolicyConfig, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        simulate_direct(Scenario(drawn(1), given_world, arm))


def test_closed_loops_are_refused() -> None:
    with pytest.raises(ConfigError, match="closed loops"):
        simulate_direct(Scenario(workload([0, 0], parents=[[], [0]]), world(), policy()))


@pytest.mark.parametrize(("length", "told"), [("none", [0, 0, 0]), ("input_ratio bare", [0, 1_000, 2_000])])
def test_watchers_hear_how_far_the_run_is(length: str, told: list[int]) -> None:
    heard: list[int] = []
    scenario = Scenario(workload([0] * 2_500, output_tokens=1), world(), policy(length=length))
    simulate_direct(scenario, watch=heard.append)
    assert heard == told
