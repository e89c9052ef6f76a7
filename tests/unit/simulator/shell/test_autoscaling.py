"""The live autoscaler in virtual time, at times worked out by hand."""

from collections.abc import Callable

import pytest

from forebay.core.values import InstanceState
from forebay.simulator.config import Fault, ObservationConfig
from forebay.simulator.shell.autoscaling_probes import is_settled
from tests.unit.simulator.shell.stage import Stage, group, slow_start, world


def step_at(at_s: float, level: int) -> Callable[[float], int]:
    """Nothing in flight before a time, and so much from then on."""
    return lambda now_s: level if now_s >= at_s else 0


def test_a_static_fleet_is_what_it_was_at_the_start() -> None:
    stage = Stage(world(group(instances_initial=3)), {"policy": "static"})
    stage.concurrency["m"] = step_at(0, 500)
    stage.until(120)
    assert stage.steps == [(0.0, f"local-{n}/m", "READY") for n in (1, 2, 3)]
    assert stage.context.counters["scaling_decisions"] == 0


def test_kpa_panics_when_the_mean_of_six_seconds_is_twice_what_is_ready() -> None:
    # 25 from second 10 on, 10 an instance: at 12 three of six samples, ceil(1.25) = 2 of 1 ready: panic at 2.
    # At 14 five of six, ceil(2.08) = 3; at 16 all six, ceil(2.5) = 3.
    stage = Stage(world(start=slow_start()), {"policy": "kpa"})
    stage.concurrency["m"] = step_at(10, 25)
    stage.until(40)
    assert stage.entered("PROVISIONING") == [12.0, 14.0]
    assert stage.entered("LOADING") == [22.2, 24.2]


def test_kpa_goes_down_once_the_stable_mean_fits_fewer() -> None:
    # 15 until 30, then 5. A fleet of 2 without memory begins in panic, which has lasted longer than a stable window at
    # 64. Then 25 of the 60 samples of (4, 64] are 15 and the others 5, 9.2 on average: one is enough.
    stage = Stage(world(group(instances_initial=2)), {"policy": "kpa"})
    stage.concurrency["m"] = lambda now_s: 15 if now_s < 30 else 5
    stage.until(70)
    assert stage.entered("DRAINING") == [64.0]


def test_hpa_follows_the_ratio_of_fifteen_seconds_outside_the_tolerance() -> None:
    # 25 from second 10 on. Seven of fifteen samples at 16: 11.7 / 10 = 1.17, so 2. At 20 and 22 the ratio to 2 is
    # 0.92 and 1.08, within the tolerance. At 24 it is 1.25: ceil(25 / 10) = 3.
    stage = Stage(world(start=slow_start()), {"policy": "hpa_ratio"})
    stage.concurrency["m"] = step_at(10, 25)
    stage.until(60)
    assert stage.entered("PROVISIONING") == [16.0, 24.0]


def test_hpa_keeps_what_the_last_five_minutes_needed() -> None:
    # 20 until 100: the last mean above 10 is that of 106, over (91, 106]. What it recommends holds for 300 s.
    stage = Stage(world(group(instances_initial=2)), {"policy": "hpa_ratio"})
    stage.concurrency["m"] = lambda now_s: 20 if now_s <= 100 else 0
    stage.until(420)
    assert stage.entered("DRAINING") == [406.0]


def test_a_stale_snapshot_makes_the_decision_later_by_its_age() -> None:
    stage = Stage(world(observation=ObservationConfig(delay_s=2.0)), {"policy": "kpa"})
    stage.concurrency["m"] = step_at(10, 25)
    stage.until(40)
    assert stage.entered("READY")[1] == 14.0
    assert all(load.seen_us <= at_us - 2_000_000 for at_us, loads in stage.scheduler.seen for load in loads)
    assert stage.scheduler.seen[0][0] == 2_000_000


def test_a_start_passes_its_phases_and_is_seen_at_the_next_question() -> None:
    # Provisioning, image and runtime end after 10 s, warming 20 s later; asked each 0.3 s from 12.0 on: 22.2 and 42.0.
    stage = Stage(world(group(instances_max=2), start=slow_start()), {"policy": "kpa"})
    stage.concurrency["m"] = step_at(10, 25)
    stage.until(60)
    assert stage.steps[1:] == [
        (12.0, "local-2/m", "PROVISIONING"),
        (22.2, "local-2/m", "LOADING"),
        (42.0, "local-2/m", "READY"),
    ]


def test_a_cold_start_of_nothing_is_ready_at_once() -> None:
    stage = Stage(world(group(instances_max=2)), {"policy": "kpa"})
    stage.concurrency["m"] = step_at(10, 25)
    stage.until(12)
    assert stage.rows[1:] == [(12.0, "local-2/m", "PROVISIONING"), (12.0, "local-2/m", "READY")]
    assert stage.states()["local-2/m"] is InstanceState.READY


def test_a_fleet_drains_until_the_scheduler_has_reported_no_lease_for_three_seconds() -> None:
    stage = Stage(world(group(instances_initial=2)), {"policy": "kpa"})
    stage.concurrency["m"] = lambda now_s: 15 if now_s < 30 else 5
    stage.scheduler.leases["local-1/m"] = 4
    stage.until(80)
    assert stage.steps[2:] == [(64.0, "local-1/m", "DRAINING")]
    stage.scheduler.leases["local-1/m"] = 0
    stage.until(90)
    # The first question without a lease is that of 81.
    assert stage.steps[3:] == [(84.0, "local-1/m", "STOPPED")]
    assert stage.context.machines.get("local-1/m") is None


def test_starts_wait_where_bounds_and_budget_are_used_up_by_those_that_drain() -> None:
    stage = Stage(world(group("a", instances_initial=2, instances_min=0), group("b")), {"instances_max": 3})
    stage.scheduler.leases = {"local-2/a": 1, "local-1/a": 1}
    stage.concurrency["b"] = step_at(100, 80)
    stage.concurrency["a"] = lambda now_s: 0
    stage.until(200)
    drained = [step for step in stage.steps if step[2] == "DRAINING"]
    assert drained, "the idle model shrinks"
    assert len(stage.rows) == 5
    stage.scheduler.leases = {}
    stage.until(260)
    later = [state for _, _, state in stage.rows[5:]]
    assert sorted(later) == sorted(["STOPPED", "PROVISIONING", "READY"] * 2)
    assert later.index("STOPPED") < later.index("PROVISIONING")


def test_an_advisory_arm_changes_nothing() -> None:
    stage = Stage(world(), {"policy": "kpa", "mode": "advisory"})
    stage.concurrency["m"] = step_at(10, 25)
    stage.until(60)
    assert stage.steps == [(0.0, "local-1/m", "READY")]
    assert stage.context.counters["scaling_decisions"] > 0


@pytest.mark.parametrize("policy", ["kpa", "hpa_ratio"])
def test_questions_that_are_left_out_would_change_nothing(policy: str) -> None:
    faults = (Fault(20.5, "hang", "m", 0, 12.0), Fault(50.2, "crash", "m", 1), Fault(70.0, "hang", "r", 0, 100.0))
    of = world(group(), group("r", instances_max=1), group("r", instances_initial=2), start=slow_start(), faults=faults)

    def run(asking: bool) -> Stage:
        stage = Stage(of, {"policy": policy, "lost_timeout_s": 20.0})
        stage.concurrency["m"] = lambda now_s: 35 if 10 < now_s < 90 else 2

        def ask() -> None:
            for instance_id, state in stage.states().items():
                server = stage.fleet.servers.get(instance_id)
                if server is not None and is_settled(state, server):
                    stage.fleet.autoscaler.probed(instance_id, server.answers, server.ready)

        if asking:
            stage.context.every_s(0.1, ask)
        return stage.until(400)

    assert run(True).steps == run(False).steps
