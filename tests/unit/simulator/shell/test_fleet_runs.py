"""Whole runs in which the fleet moves or breaks, with every invariant checked after every event."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from forebay.autoscaler.engine import Engine
from forebay.autoscaler.policy.autoscaler.kpa import Kpa
from forebay.gateway.values import RequestStatus
from forebay.metrics.engine import MetricsEngine
from forebay.simulator.config import Fault, Group, ObservationConfig, SpotConfig, StartConfig, World
from forebay.simulator.kernel import make_kernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.results import STATUSES, RunResult
from forebay.simulator.shell.fleet_plan import make_plan
from forebay.simulator.shell.journal import Journal
from forebay.simulator.shell.machines import Machines
from forebay.simulator.usage import fleet_usage
from forebay.simulator.workload import Workload, make_workload
from tests.unit.simulator.shell.worlds import S, group, run, workload, world

KPA = {"predictor": {"length": "none"}, "autoscaler": {"policy": "kpa"}}
STATIC = {"predictor": {"length": "none"}, "autoscaler": {"policy": "static"}}
FINISHED, FAILED = STATUSES.index("finished"), STATUSES.index("failed")
INSTANT = StartConfig(provisioning_s=0.0, weights_gb_per_s=0.0, warm_s=0.0)


def burst(count: int = 300, seconds: float = 60.0, quiet_s: float = 90.0, seed: int = 0) -> Workload:
    """A burst after ten seconds, and one more request after a quiet time."""
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(10.0, 10.0 + seconds, count - 1)) * S
    arrival_us = [*arrivals.astype(int).tolist(), int((10.0 + seconds + quiet_s) * S)]
    return make_workload(arrival_us, rng.integers(10, 200, count), rng.integers(20, 300, count))


def elastic(**given: Any) -> World:
    """One to four small instances, four requests each."""
    bounds: Any = {"instances_initial": 1, "instances_min": 1, "instances_max": 4, "concurrency_target": 4.0}
    return world(group(**bounds), **given)


def intervals(result: RunResult, *states: str) -> Mapping[str, list[tuple[int, int]]]:
    """When each instance was in one of the states."""
    found: dict[str, list[tuple[int, int]]] = {}
    by_id: dict[str, list[tuple[int, str]]] = {}
    for change in result.changes:
        by_id.setdefault(change.instance_id, []).append((change.at_us, change.state))
    for instance_id, steps in by_id.items():
        spans = pairwise([*steps, (result.end_us, "")])
        found[instance_id] = [(start, end) for (start, state), (end, _) in spans if state in states]
    return found


def mean_ttft_s(result: RunResult) -> float:
    done = result.requests.status == FINISHED
    assert done.mean() > 0.95
    return float((result.requests.first_us - result.requests.arrival_us)[done].mean()) / S


def test_the_colder_the_start_the_later_the_first_token() -> None:
    load = burst()
    cold = (INSTANT, StartConfig(25.0, warm_s=15.0, weights_gb_per_s=0.0), StartConfig(285.0, weights_gb_per_s=0.0))
    results = [run(load, elastic(start=start), policy=KPA) for start in cold]
    ttft_s = [mean_ttft_s(result) for result in results]
    assert ttft_s[0] < 0.5 * ttft_s[1] < 0.5 * ttft_s[2]
    # A start of 300 s comes too late for a burst of 60 s: nothing is gained.
    fixed = run(load, world(group(1)), policy=STATIC)
    assert ttft_s[2] == pytest.approx(mean_ttft_s(fixed), rel=1e-6)
    assert fleet_usage(results[2], elastic()).loading_gpu_hours > fleet_usage(results[1], elastic()).loading_gpu_hours
    assert fleet_usage(results[0], elastic()).loading_gpu_hours == 0


def test_a_drained_instance_is_paid_for_until_its_end_is_over() -> None:
    start = StartConfig(5.0, warm_s=0.0, weights_gb_per_s=0.0, stop_s=7.0)
    drains_s = {
        one.stop_s: [
            (end - begin) / S
            for spans in intervals(run(burst(), elastic(start=one), policy=KPA), "DRAINING").values()
            for begin, end in spans
        ]
        for one in (replace(start, stop_s=0.0), start)
    }
    assert min(drains_s[0.0]) < 7.0
    assert min(drains_s[7.0]) == pytest.approx(min(drains_s[0.0]) + 7.0, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_reaches_an_instance_that_is_not_ready(seed: int) -> None:
    of = elastic(start=StartConfig(8.0, warm_s=4.0, weights_gb_per_s=0.0, variation=0.5, failure_share=0.2))
    result = run(burst(seed=seed), of, policy=KPA, seed=seed)
    ready = intervals(result, "READY")
    rows = result.requests
    assert len({change.instance_id for change in result.changes}) > 2
    assert {change.state for change in result.changes} >= {"DRAINING", "STOPPED"}
    for row in np.flatnonzero(rows.status == FINISHED):
        placed_us = rows.arrival_us[row] + rows.held_us[row]
        spans = ready[result.instances[rows.instance[row]]]
        assert any(start <= placed_us <= end for start, end in spans)


@pytest.mark.parametrize("seed", range(3))
def test_the_fleet_keeps_to_bounds_and_budget_at_all_times(seed: int) -> None:
    start = StartConfig(5.0, warm_s=10.0, weights_gb_per_s=0.0, variation=1.0, failure_share=0.3)
    faults = (Fault(30.0, "crash", "model", 0), Fault(50.0, "hang", "model", 1, 20.0))
    of = elastic(start=start, faults=faults, spot=SpotConfig(60.0, 5.0))
    policy = {**KPA, "autoscaler": {"policy": "kpa", "instances_max": 3}}
    result = run(burst(seed=seed), of, policy=policy, seed=seed)
    spans = [
        one for times in intervals(result, "PROVISIONING", "LOADING", "READY", "DRAINING").values() for one in times
    ]
    edges = sorted([(end, -1) for _, end in spans] + [(start, 1) for start, _ in spans])
    assert max(np.cumsum([step for _, step in edges])) == 3
    assert (result.requests.status == STATUSES.index("unfinished")).sum() == 0


def test_a_crash_loses_nothing_that_had_no_token_yet() -> None:
    # Sixteen seats, sixty requests: some have tokens, some have none, some are held.
    journal = Journal()
    of = world(group(2), faults=(Fault(1.0, "crash", "model", 0),))
    result = run(workload([S * 3 // 4] * 10 + [S - 1] * 50, output_tokens=200), of, policy=STATIC, journal=journal)
    rows = result.requests
    reports = [
        action.record
        for entry in journal.entries
        if entry.part == "gateway"
        for action in entry.answer or ()
        if type(action).__name__ == "Report"
    ]
    failed = [record for record in reports if record.status is RequestStatus.FAILED]
    assert failed
    assert all(record.first_token_us for record in failed)
    assert (rows.status == FAILED).sum() == len(failed)
    assert (rows.attempt_count[rows.status == FINISHED] == 2).any()
    assert (rows.status == FINISHED).sum() == 60 - len(failed)


def test_gpu_hours_add_up_by_hand() -> None:
    # Four GPUs each. One instance from 0 to the end; another from its first phase at 12 until it has drained. The other
    # group's stands all the time in another region.
    four = "A100-80G/Llama-3-70B/tp4"
    start = StartConfig(provisioning_s=6.0, weights_gb_per_s=0.0, warm_s=4.0)
    of = World(
        groups=(
            Group("model", four, instances_max=2, concurrency_target=1.0),
            Group("model", four, region="east"),
        ),
        engine=world().engine,
        start=start,
        horizon_s=400.0,
    )
    load = workload([10 * S] * 12 + [399 * S], 10, 400)
    result = run(load, of, policy=KPA)
    stay = [(change.at_us / S, change.state) for change in result.changes if change.instance_id == "local-3/model"]
    names = [state for _, state in stay]
    assert names == ["PROVISIONING", "LOADING", "READY", "DRAINING", "STOPPED"]
    started_s, stopped_s = stay[0][0], stay[-1][0]
    assert stay[1][0] == pytest.approx(started_s + 6.0, abs=0.3)
    assert stay[2][0] == pytest.approx(started_s + 10.0, abs=0.3)
    usage = fleet_usage(result, of)
    hours = 4 * (2 * 400.0 + stopped_s - started_s) / 3600
    assert usage.gpu_hours == pytest.approx(hours, rel=1e-9)
    assert usage.loading_gpu_hours == pytest.approx(4 * (stay[2][0] - started_s) / 3600, rel=1e-9)
    assert usage.draining_gpu_hours == pytest.approx(4 * (stopped_s - stay[3][0]) / 3600, rel=1e-9)


def test_equal_runs_are_equal_and_other_seeds_start_otherwise() -> None:
    start = StartConfig(8.0, warm_s=4.0, weights_gb_per_s=0.0, variation=0.5, failure_share=0.2)
    one, same, other = (run(burst(), elastic(start=start), policy=KPA, seed=seed) for seed in (1, 1, 2))
    assert one.changes == same.changes
    assert np.array_equal(one.requests.finish_us, same.requests.finish_us)
    assert one.changes != other.changes


def test_stale_snapshots_make_a_fleet_grow_later() -> None:
    fresh = run(burst(), elastic(start=INSTANT), policy=KPA)
    stale = run(burst(), elastic(start=INSTANT, observation=ObservationConfig(delay_s=5.0)), policy=KPA)
    grown_us = [next(c.at_us for c in result.changes if c.instance_id == "local-2/model") for result in (fresh, stale)]
    assert 4 * S <= grown_us[1] - grown_us[0] <= 6 * S


def test_a_slow_instance_makes_its_answers_late() -> None:
    load = workload([S] * 4, output_tokens=200)
    plain, slow = (
        run(load, world(group(1), faults=faults), policy=STATIC)
        for faults in ((), (Fault(0.5, "slow", "model", 0, 100.0, 3.0),))
    )
    spans = [(one.requests.finish_us - one.requests.arrival_us).astype(float) for one in (plain, slow)]
    assert spans[1] == pytest.approx(3 * spans[0], rel=1e-4)


def test_several_models_have_fleets_of_their_own() -> None:
    bounds: Any = {"instances_initial": 1, "instances_min": 1, "instances_max": 3, "concurrency_target": 4.0}
    of = world(group(model="a", **bounds), group(model="b", **bounds), start=INSTANT)
    load = workload([20 * S] * 40 + [21 * S], output_tokens=200, model=[0] * 40 + [1], names={"models": ("a", "b")})
    result = run(load, of, policy=KPA)
    assert {change.instance_id for change in result.changes if change.model == "b"} == {"local-2/b"}
    assert len({change.instance_id for change in result.changes if change.model == "a"}) == 3
    assert (result.requests.status == FINISHED).all()


def test_a_dead_instance_turns_away_all_that_is_sent_there_until_it_is_missed() -> None:
    of = world(group(1), start=INSTANT, faults=(Fault(1.2, "crash", "model", 0),))
    result = run(workload([S] * 1_500, output_tokens=100), of, policy=STATIC, check=False)
    rows = result.requests
    # Nobody knows for 0.8 s: all of them are placed there once. Then they wait for the next instance as long as they
    # may be held, and those that it has no seat for in that time get the error of their first attempt.
    assert set(rows.status.tolist()) == {FINISHED, FAILED}
    assert (rows.attempt_count[rows.status == FINISHED] == 2).all()
    assert (rows.attempt_count[rows.status == FAILED] == 1).all()
    assert result.rejections == {"ABORTED": (rows.status == FAILED).sum()}
    assert [change.state for change in result.changes] == ["READY", "LOST", "PROVISIONING", "READY"]


def test_fresh_engines_answer_the_same_events_with_the_same_actions() -> None:
    # Wake-ups included: nothing but events moves the engines.
    faults = (Fault(20.0, "crash", "model", 0), Fault(30.0, "hang", "model", 1, 8.0))
    of = elastic(start=StartConfig(8.0, warm_s=4.0, weights_gb_per_s=0.0, failure_share=0.2), faults=faults)
    journal = Journal()
    run(burst(), of, policy=KPA, journal=journal, seed=3)
    plan = make_plan(of, KPA["autoscaler"], Machines(make_kernel(0, "reference"), of.engine, profile_of))
    engines = {"autoscaler": Engine(plan.config, Kpa(), plan.state, 0), "metrics": MetricsEngine(2, 5 * S)}
    events = set()
    for entry in journal.entries:
        if entry.part in engines:
            answer = getattr(engines[entry.part], entry.event)(*entry.arguments)
            assert (tuple(answer) if isinstance(answer, list) else answer) == entry.answer
            events.add(entry.event)
    told = {
        "on_tick",
        "on_snapshot",
        "on_probe",
        "on_actuated",
        "on_retired",
        "on_lease_count",
        "on_stopped",
        "on_survey",
    }
    assert events >= {*told, "on_wake", "on_fleet", "on_reading", "on_silence", "on_event"}
