"""Systems for classes of requests, in whole runs."""

import numpy as np

from forebay.core.values import SloClass
from forebay.simulator.config import EngineConfig, Group, PolicyConfig, World
from forebay.simulator.results import RunResult
from forebay.simulator.run import Scenario, simulate
from forebay.simulator.workload import Workload, make_workload

S = 1_000_000
PROFILE = "A100-80G/Llama-3-8B/tp1"
FAST, DEFERRED = int(SloClass.INTERACTIVE_FAST), int(SloClass.DEFERRED)
HOLDS = {"hold_timeout_interactive_fast_s": 600.0, "hold_timeout_deferred_s": 3_600.0}


def workload(
    arrivals_s: list[float], classes: list[int], tokens: int = 600, regions: tuple[str, ...] = ("local",)
) -> Workload:
    count = len(arrivals_s)
    names = {"models": ("m",), "tenants": ("default",), "regions": regions, "applications": ("",)}
    arrival_us = (np.array(arrivals_s) * S).astype(np.int64)
    return make_workload(
        arrival_us, np.full(count, 50), np.full(count, tokens), names=names, slo_class=np.array(classes)
    )


def run(of: Workload, scheduler: dict[str, object], groups: tuple[Group, ...], **engine: object) -> RunResult:
    world = World(groups=groups, engine=EngineConfig(**engine))  # type: ignore[arg-type]
    policy = PolicyConfig(
        name="arm", scheduler=HOLDS | scheduler, autoscaler={"policy": "static"}, predictor={"length": "histogram"}
    )
    return simulate(Scenario(of, world, policy, seed=1))


def waits_s(result: RunResult, of: Workload) -> list[float]:
    """Arrival to first token by row."""
    return ((result.requests.first_us - of.arrival_us) / S).tolist()


def mixed(count: int = 1) -> tuple[Group, ...]:
    return (Group("m", PROFILE, instances_initial=count, instances_min=count, instances_max=count, role="mixed"),)


def chiron(evicts: bool, reserve_share: float = 0.0) -> dict[str, object]:
    parameters = {"evicts": evicts, "reserve_share": reserve_share}
    return {
        "system": "chiron",
        "router_parameters": parameters,
        "puller_parameters": {"evicts": evicts, "start_count": 4},
    }


def test_chiron_evicts_deferred_work_for_an_interactive_request_where_the_engine_can() -> None:
    of = workload([0.0] * 4 + [2.0], [DEFERRED] * 4 + [FAST])
    engine = {"max_seqs": 4, "order": "preemptive", "preemption": "swap"}
    evicting = run(of, chiron(True), mixed(), **engine)
    holding = run(of, chiron(False), mixed(), **engine)
    assert waits_s(evicting, of)[4] < 0.5 < 2.0 < waits_s(holding, of)[4]
    assert evicting.requests.preemption_count.tolist() == [0, 0, 0, 1, 0]
    assert evicting.requests.lost_tokens.sum() == 0
    assert not holding.requests.preemption_count.any()


def test_chiron_without_eviction_keeps_room_for_interactive_requests() -> None:
    of = workload([0.0] * 4 + [2.0], [DEFERRED] * 4 + [FAST])
    held_back = waits_s(run(of, chiron(False, 0.25), mixed(), max_seqs=4), of)
    assert held_back[4] < 0.5
    assert [wait > 2 for wait in held_back] == [False, False, False, True, False]


def test_sageserve_lets_deferred_work_wait_while_interactive_requests_fill_the_caches() -> None:
    """Sixteen interactive requests take most of the cache; deferred ones go one by one when they end."""
    of = workload([0.0] * 16 + [3.0] * 4, [FAST] * 16 + [DEFERRED] * 4)
    filled = {"kv_tokens": 16 * 450, "max_seqs": 64}
    plain = waits_s(run(of, {"router": "least_requests"}, mixed(), **filled), of)
    held_back = waits_s(run(of, {"system": "sageserve_edf"}, mixed(), **filled), of)
    assert max(held_back[:16]) <= max(plain[:16])
    assert min(held_back[16:]) > max(plain[16:18])


def test_every_system_for_classes_serves_everything_in_the_end() -> None:
    generator = np.random.default_rng(4)
    of = workload(sorted(generator.uniform(0, 20, 60).tolist()), generator.choice([1, 2, 3], 60).tolist(), tokens=120)
    groups = (
        *mixed(),
        Group("m", PROFILE, role="interactive"),
        Group("m", PROFILE, role="batch"),
    )
    for system in ("sageserve_fcfs", "sageserve_edf", "sageserve_pf", "sageserve_dpa", "chiron", "qlm"):
        result = run(of, {"system": system}, groups, max_seqs=16)
        assert (result.requests.finish_us > 0).all(), system


def test_sageserve_sends_on_what_the_first_region_has_no_room_for() -> None:
    """All requests come from the east, which has room for about a third of their caches."""
    of = workload([0.5 * number for number in range(24)], [FAST] * 24, regions=("east",))
    groups = tuple(Group("m", PROFILE, region=region) for region in ("east", "north", "west"))
    filled = {"kv_tokens": 8 * 650, "max_seqs": 64}

    def regions_of(**parameters: object) -> list[str]:
        result = run(of, {"system": "sageserve_edf", "router_parameters": parameters}, groups, **filled)
        regions = {change.instance_id: change.region for change in result.changes}
        return [regions[result.instances[index]] for index in result.requests.instance.tolist()]

    spread = regions_of(preferences={"east": ["east", "west"]})
    assert spread[:3] == ["east"] * 3
    assert {"east", "west"} == set(spread)
    assert 4 <= spread.count("west") <= 20
    assert set(regions_of(utilization_max=10.0)) == {"east"}
