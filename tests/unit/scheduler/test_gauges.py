from dataclasses import replace

import pytest

from forebay.core.scheduling import Placement
from forebay.core.values import InferenceRequest, InstanceRole, Outcome, SloClass, WakeAt
from forebay.scheduler.actions import Action
from forebay.scheduler.config import Config
from forebay.scheduler.gauges import MEMORY_US, Gauge, needed_tokens_per_s
from forebay.scheduler.leases import Lease
from forebay.scheduler.policy.puller.base import Measured
from tests.unit.scheduler.kit import S, engine, instance, prediction, request

SLO_US = Config().itl_slo_us


def lease(slo_class: SloClass = SloClass.INTERACTIVE_FAST) -> Lease:
    asked = replace(request(), slo_class=slo_class)
    return Lease(Placement("r", "l", "d", "i", "", prediction().quantiles, "", S), asked, "", 0, 0, S)


def test_the_pace_is_the_time_from_the_first_report_on_over_the_tokens_since() -> None:
    gauge, one, other = Gauge(0), lease(), lease()
    gauge.moved(one, 1, 1 * S)
    gauge.moved(other, 5, 1 * S)
    gauge.moved(one, 10, 2 * S)
    gauge.moved(other, 20, 3 * S)
    # 30 tokens in 1 + 2 seconds; 36 tokens in 4 seconds, of which 6 came first.
    assert gauge.step(2, SLO_US, 4 * S) == Measured(2, 0.1, 0.2, 9.0, 0.0, ((2, 0.1),))
    assert gauge.step(2, SLO_US, 6 * S) is None


def test_only_the_class_with_the_tightest_promise_tells_the_pace() -> None:
    gauge, fast, deferred = Gauge(0), lease(), lease(SloClass.DEFERRED)
    gauge.moved(deferred, 1, S)
    gauge.moved(deferred, 2, 3 * S)
    assert gauge.step(1, SLO_US, 4 * S) == Measured(1, 1.0, 2.0, 0.75, 0.0, ((1, 1.0),))
    gauge.moved(fast, 1, 5 * S)
    gauge.moved(fast, 10, 6 * S)
    gauge.moved(deferred, 1, 6 * S)
    assert gauge.step(2, SLO_US, 8 * S) == Measured(2, 0.1, 0.2, 3.0, 0.75, ((1, 1.0), (2, 4 / 11)))


def test_the_pace_of_all_classes_is_kept_by_the_number_of_requests_and_smoothed() -> None:
    gauge, one = Gauge(0), lease()
    gauge.moved(one, 1, S)
    for tokens, at_us in ((10, 2 * S), (20, 3 * S)):
        gauge.moved(one, tokens, at_us)
        seen = gauge.step(1, SLO_US, at_us)
    assert seen is not None
    assert seen.itls == ((1, pytest.approx((0.1 + 0.05) / 2)),)


def test_the_speed_needed_is_the_highest_of_classes_and_of_deadlines_of_their_own() -> None:
    fast, deferred = lease(), lease(SloClass.DEFERRED)
    own = lease()
    own.request = replace(own.request, deadline_us=9 * S)
    own.remaining_tokens = 90
    # Promised 200 ms and 2 s a token; 90 tokens in 9 s, of which 3 remain at last, and none once it is too late.
    assert needed_tokens_per_s([], SLO_US, 0) == 0
    assert needed_tokens_per_s([deferred], SLO_US, 0) == 0.5
    assert needed_tokens_per_s([fast, deferred], SLO_US, 0) == 5
    assert needed_tokens_per_s([fast, own], SLO_US, 0) == 10
    assert needed_tokens_per_s([fast, own], SLO_US, 6 * S) == 30
    assert needed_tokens_per_s([fast, own], SLO_US, 9 * S) == 5


def test_throughput_is_kept_by_the_number_of_requests_for_a_while() -> None:
    gauge = Gauge(0)
    for count, tokens, at_us in ((4, 40, S), (8, 60, 2 * S), (4, 80, 3 * S), (6, 50, 4 * S)):
        gauge.moved(lease(), tokens, at_us)
        seen = gauge.step(count, SLO_US, at_us)
    assert seen == Measured(6, 0.0, 0.0, 50.0, 60.0)
    nearly = Gauge(0)
    nearly.moved(lease(), 40, S)
    nearly.step(5, SLO_US, S)
    nearly.moved(lease(), 50, 2 * S)
    assert nearly.step(7, SLO_US, 2 * S) == Measured(7, 0.0, 0.0, 50.0, 0.0)
    gauge.moved(lease(), 10, 4 * S + MEMORY_US)
    later = gauge.step(9, SLO_US, 4 * S + MEMORY_US)
    assert later is not None
    # Only the step at 4 s is young enough.
    assert later.tokens_per_s_below == 50.0


def wakes(actions: list[Action]) -> list[int]:
    return [action.at_us for action in actions if isinstance(action, WakeAt)]


def test_a_level_that_was_reached_grows_at_the_next_step_and_those_that_wait_go() -> None:
    one = engine(instance("a", concurrency_max=64), puller="chiron", puller_parameters={"start_count": 4})
    first = one.on_arrive(request("r0"), prediction(500), S)
    assert wakes(first) == [3 * S]
    for number in range(1, 10):
        one.on_arrive(request(f"r{number}"), prediction(500), S)
    assert one.lease_count("a/m") == 4
    for held in one.leases():
        one.on_progress(held.lease_id, 10, S + S // 2)
        one.on_progress(held.lease_id, 30, 2 * S + S // 2)
    actions = one.on_wake(3 * S)
    assert [action.request_id for action in actions if isinstance(action, Placement)] == ["r4", "r5"]
    assert wakes(actions) == [5 * S]
    assert one.instances()[0].concurrency_cap == 6


def test_a_slow_instance_shrinks_and_keeps_its_level_when_the_fleet_changes() -> None:
    one = engine(instance("a", concurrency_max=64), puller="chiron", puller_parameters={"start_count": 4})
    for number in range(4):
        one.on_arrive(request(f"r{number}"), prediction(500), S)
    for tokens, at_us in ((1, S + 1), (2, S + 500_001)):
        for held in one.leases():
            one.on_progress(held.lease_id, tokens, at_us)
    one.on_wake(3 * S)
    # 0.5 s a token is 2.5 times the promise: at most halved, and half the way at once.
    assert one.instances()[0].concurrency_cap == 3
    one.on_fleet([instance("a", concurrency_max=64), instance("b", concurrency_max=64)], 4 * S)
    assert [each.concurrency_cap for each in one.instances()] == [3, 4]


def test_the_level_stays_within_what_the_cache_holds_of_whole_requests() -> None:
    one = engine(instance("a", kv_tokens_max=1_000), puller="chiron", puller_parameters={"start_count": 60})
    for number in range(4):
        one.on_arrive(request(f"r{number}", prompt=50), prediction(150), S)
    one.on_loads([], 2 * S)
    assert one.instances()[0].concurrency_cap == 2
    room = engine(instance("a", kv_tokens_max=1_000, concurrency_max=0), puller="chiron")
    for number in range(4):
        room.on_arrive(request(f"r{number}", prompt=50), prediction(150), S)
    for lease in room.leases():
        room.on_progress(lease.lease_id, 100, S)
    room.on_loads([], 2 * S)
    # 50 tokens of prompt, 100 that are there and 50 to come: five fit.
    assert room.instances()[0].concurrency_cap == 5


def test_an_idle_scheduler_takes_no_steps() -> None:
    one = engine(instance("a"), puller="chiron")
    one.on_arrive(request("r"), prediction(5), S)
    one.on_finish(one.leases()[0].lease_id, Outcome.STOPPED, 5, 2 * S)
    assert wakes(one.on_wake(3 * S)) == []
    assert wakes(engine(instance("a")).on_arrive(request("r"), prediction(5), S)) == [61 * S]


def test_the_system_chiron_keeps_classes_apart_and_deferred_work_waiting() -> None:
    one = engine(
        instance("a", role=InstanceRole.INTERACTIVE, concurrency_max=64),
        instance("b", role=InstanceRole.MIXED, concurrency_max=64),
        system="chiron",
        puller_parameters={"start_count": 4},
    )
    classes = [SloClass.DEFERRED] * 5 + [SloClass.INTERACTIVE_FAST] * 6
    for number, slo_class in enumerate(classes):
        one.on_arrive(InferenceRequest(f"r{number}", "m", 10, slo_class), prediction(50), number + 1)
    on = {held.request_id: held.instance_id for held in one.leases()}
    assert sorted(name for name, where in on.items() if where == "a/m") == ["r5", "r6", "r7", "r8"]
    # Three quarters of the level are for deferred work; the last seat is for who overflows.
    assert sorted(name for name, where in on.items() if where == "b/m") == ["r0", "r1", "r2", "r9"]
    assert one.queues(20)[0].held_count == 3


@pytest.mark.parametrize("name", ["itl_slo_interactive_fast_s", "itl_slo_interactive_normal_s", "itl_slo_deferred_s"])
def test_promises_of_pace_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Config(**{name: 0.0})
