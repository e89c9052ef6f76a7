"""Crashes, hangs, slow-downs and spot instances, at times worked out by hand."""

from collections import Counter

import pytest

from forebay.core.values import InstanceLoad, InstanceState
from forebay.simulator.config import Fault, SpotConfig
from tests.unit.simulator.shell.stage import Stage, group, slow_start, world

STATIC = {"policy": "static"}


def reachable(loads: tuple[InstanceLoad, ...], instance_id: str) -> bool | None:
    """Whether a snapshot shows the instance as reachable; None where it does not show it."""
    return next((load.reachable for load in loads if load.instance_id == instance_id), None)


def test_a_crash_is_found_within_a_second_and_the_instance_replaced() -> None:
    stage = Stage(world(group(instances_initial=2), start=slow_start(), faults=(Fault(10.1, "crash", "m", 1),)), STATIC)
    stage.until(10)
    stage.place(7, "local-2/m")
    stage.place(8, "local-1/m")
    stage.until(60)
    assert stage.gateway.told == [((7,), "it crashed")]
    assert stage.steps[2:] == [
        (11.0, "local-2/m", "STOPPED"),
        (11.0, "local-3/m", "PROVISIONING"),
        (21.2, "local-3/m", "LOADING"),
        (41.0, "local-3/m", "READY"),
    ]
    assert stage.rows[2] == (10.1, "local-2/m", "LOST")
    assert stage.context.kernel.finish_ps(8) > 0


def test_a_crashed_instance_that_nobody_scales_is_lost_after_three_questions() -> None:
    groups = (group(instances_max=1), group(instances_initial=1, region="east"))
    stage = Stage(world(*groups, faults=(Fault(10.5, "crash", "m", 1),)), STATIC)
    stage.until(100)
    assert stage.steps[2:] == [(13.0, "local-2/m", "LOST")]


def test_an_instance_that_hangs_is_avoided_lost_and_found_again() -> None:
    one = group(instances_max=1)
    stage = Stage(world(one, faults=(Fault(10.1, "hang", "m", 0, 30.4),)), STATIC)
    stage.until(10)
    stage.place(3, "local-1/m")
    stage.until(60)
    # The questions of 11, 12 and 13 wait a second each.
    assert stage.steps[1:] == [(14.0, "local-1/m", "LOST"), (41.0, "local-1/m", "READY")]
    # Two readings without an answer, those of 11 and 12, are given up at 12.25 and 13.25; the one of 41 finds it.
    by_time = {at_us // 1_000_000: reachable(loads, "local-1/m") for at_us, loads in stage.scheduler.seen}
    assert [by_time[at_s] for at_s in (10, 13, 14, 40, 41)] == [True, True, False, False, True]
    alone = Stage(world(one), STATIC).until(10)
    alone.place(3, "local-1/m")
    alone.until(60)
    assert stage.context.kernel.finish_ps(3) - alone.context.kernel.finish_ps(3) == 30_400 * 10**9


def test_an_instance_that_hangs_for_too_long_is_taken_out_and_replaced() -> None:
    stage = Stage(world(faults=(Fault(10.5, "hang", "m", 0, 500.0),)), {**STATIC, "lost_timeout_s": 20.0})
    stage.until(60)
    assert stage.steps[1:] == [
        (14.0, "local-1/m", "LOST"),
        (16.0, "local-2/m", "PROVISIONING"),
        (16.0, "local-2/m", "READY"),
        (34.0, "local-1/m", "DRAINING"),
        (37.0, "local-1/m", "STOPPED"),
    ]
    # It is there and paid for until it is stopped.
    assert [state for _, instance_id, state in stage.rows if instance_id == "local-1/m"] == [
        "READY",
        "DRAINING",
        "STOPPED",
    ]


def test_a_slow_instance_takes_as_many_times_longer() -> None:
    def duration_ps(*faults: Fault) -> int:
        stage = Stage(world(faults=faults), STATIC)
        stage.until(1.5)
        stage.place(0, "local-1/m")
        stage.until(30)
        return stage.context.kernel.finish_ps(0) - round(1.5e12)

    plain_ps = duration_ps()
    assert duration_ps(Fault(1.0, "slow", "m", 0, 20.0, 3.0)) == pytest.approx(3 * plain_ps, rel=1e-6)
    twice = (Fault(1.0, "slow", "m", 0, 20.0, 3.0), Fault(1.0, "slow", "m", 0, 20.0, 2.0))
    assert duration_ps(*twice) == pytest.approx(6 * plain_ps, rel=1e-6)
    assert duration_ps(Fault(0.5, "slow", "m", 0, 0.5, 3.0)) == plain_ps


def test_a_place_that_nobody_has_is_missed() -> None:
    stage = Stage(world(faults=(Fault(5.0, "crash", "m", 1), Fault(6.0, "crash", "other", 0))), STATIC).until(10)
    assert stage.steps == [(0.0, "local-1/m", "READY")]
    assert stage.context.counters["faults_missed"] == 2


def test_a_start_that_fails_is_tried_again_later_each_time() -> None:
    start = slow_start(failure_share=1.0)
    stage = Stage(
        world(group(instances_initial=1), start=start, faults=(Fault(10.5, "crash", "m", 0),)), STATIC, seed=4
    )
    stage.until(600)
    starts, ends = stage.entered("PROVISIONING"), stage.entered("STOPPED")
    assert not [step for step in stage.steps if step[2] == "READY" and step[0] > 0]
    assert len(starts) >= 4
    # The n-th failure in a row keeps the next start waiting for 2^(n-1) s, a minute at most; refusals count as well.
    waits = [later - earlier for earlier, later in zip(ends[1:], starts[1:], strict=False)]
    assert all(wait >= min(60.0, 2.0**number) for number, wait in enumerate(waits))


def test_a_refused_start_costs_nothing() -> None:
    start = slow_start(failure_share=1.0)
    for seed in range(8):
        stage = Stage(world(start=start, faults=(Fault(10.5, "crash", "m", 0),)), STATIC, seed=seed).until(11)
        if stage.context.counters["starts_refused"]:
            assert stage.steps[1:] == [(11.0, "local-1/m", "STOPPED")]
            return
    pytest.fail("no start was refused")


def test_a_spot_instance_drains_on_its_notice_is_replaced_and_ends_when_the_notice_is_over() -> None:
    spot = SpotConfig(reclaims_per_hour=60.0, notice_s=30.0)
    stage = Stage(world(group(instances_initial=1, spot=True), start=slow_start(), spot=spot), STATIC, seed=1)
    notice_s = next(t for t in (n / 10 for n in range(6_000)) if stage.until(t).context.counters["spot_notices"])
    assert stage.states()["local-1/m"] is InstanceState.DRAINING
    stage.place(5, "local-1/m")
    stage.scheduler.leases["local-1/m"] = 1
    # Kept from ending: the request is on a machine that makes no progress.
    server = stage.fleet.servers.get("local-1/m")
    assert server is not None
    stage.fleet.servers.hang(server)
    stage.until(notice_s + 31)
    assert stage.gateway.told == [((5,), "its spot instance was taken away")]
    states = [(instance_id, state) for _, instance_id, state in stage.steps]
    assert ("local-2/m", "PROVISIONING") in states
    drain_s, stop_s = stage.entered("DRAINING")[0], stage.entered("STOPPED")[0]
    assert stop_s - drain_s == pytest.approx(30.0, abs=1.0)


def test_spot_stays_are_exponential_with_the_given_rate() -> None:
    spot = SpotConfig(reclaims_per_hour=20.0, notice_s=0.0)
    stage = Stage(world(group(instances_initial=8, spot=True), spot=spot), STATIC, seed=2).until(3_600)
    assert stage.context.counters["spot_notices"] == pytest.approx(8 * 20, rel=0.25)
    assert Counter(state for _, _, state in stage.steps)["STOPPED"] == stage.context.counters["spot_notices"]


def test_groups_that_are_no_spot_are_never_taken_away() -> None:
    stage = Stage(world(group(instances_initial=4), spot=SpotConfig(600.0, 1.0)), STATIC).until(3_600)
    assert stage.context.counters["spot_notices"] == 0
