"""Snapshots say who answers, what instances tell, and what each model's last minute was."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.metrics import Event, InstanceChange, QueueSample, RequestRecord, RequestStatus
from forebay.core.values import Instance, InstanceLoad, ModelLoad
from forebay.metrics import engine as module
from forebay.metrics.engine import MetricsEngine, Reading, quantile

S = 1_000_000
NOW = 1_800_000_000 * S


def made() -> MetricsEngine:
    return MetricsEngine(unreachable_after_count=2, queue_stale_after_us=5 * S)


def instance(name: str = "a/m", model: str = "m", address: str = "127.0.0.1:1") -> Instance:
    return Instance(name, model, address, name.split("/")[0])


def ended(event_id: str, end_us: int = NOW, status: RequestStatus = RequestStatus.OK, ttft_us: int = S) -> Event:
    record = RequestRecord(
        f"r-{event_id}",
        "m",
        end_us - 2 * S,
        status,
        prompt_tokens=10,
        response_tokens=3,
        ttft_us=ttft_us,
        end_to_end_us=2 * S,
    )
    return Event(event_id, record)


def load(engine: MetricsEngine, now_us: int = NOW) -> ModelLoad:
    return next(one for one in engine.snapshot(now_us).models if one.model == "m")


def seen(engine: MetricsEngine, now_us: int = NOW) -> InstanceLoad:
    return engine.snapshot(now_us).instances[0]


def test_an_instance_is_left_out_until_its_silence_lasts() -> None:
    engine = made()
    engine.on_fleet([instance()], NOW)
    engine.on_silence("a/m", NOW)
    assert engine.snapshot(NOW).instances == ()
    engine.on_silence("a/m", NOW + S)
    assert seen(engine) == InstanceLoad("a/m", "m", reachable=False)


def test_a_reading_is_told_with_the_time_it_was_made() -> None:
    engine = made()
    engine.on_fleet([instance()], NOW)
    engine.on_reading("a/m", Reading(3, 4, 0.5, 100, 2), NOW + 1)
    assert seen(engine, NOW + 9) == InstanceLoad("a/m", "m", True, NOW + 1, 3, 4, 0.5, 100, 2)


def test_an_answer_without_numbers_keeps_the_last_numbers() -> None:
    engine = made()
    engine.on_fleet([instance()], NOW)
    engine.on_reading("a/m", Reading(running_count=3), NOW)
    engine.on_reading("a/m", None, NOW + S)
    assert (seen(engine).running_count, seen(engine).seen_us) == (3, NOW + S)


def test_silence_makes_unreachable_only_when_it_lasts_and_one_answer_ends_it() -> None:
    engine = made()
    engine.on_fleet([instance()], NOW)
    engine.on_reading("a/m", None, NOW)
    engine.on_silence("a/m", NOW + S)
    assert seen(engine).reachable
    engine.on_silence("a/m", NOW + 2 * S)
    assert not seen(engine).reachable
    assert seen(engine).seen_us == NOW
    engine.on_reading("a/m", None, NOW + 3 * S)
    assert seen(engine).reachable
    engine.on_silence("a/m", NOW + 4 * S)
    assert seen(engine).reachable


def test_what_was_seen_stays_with_the_instances_that_stay() -> None:
    engine = made()
    engine.on_fleet([instance("b/m"), instance("a/m")], NOW)
    engine.on_reading("a/m", None, NOW)
    engine.on_fleet([instance("a/m"), instance("c/m")], NOW)
    assert [(one.instance_id, one.reachable) for one in engine.snapshot(NOW).instances] == [("a/m", True)]
    assert [one.instance_id for one in engine.instances] == ["a/m", "c/m"]


def test_an_instance_that_comes_back_at_another_address_starts_anew() -> None:
    engine = made()
    engine.on_fleet([instance()], NOW)
    engine.on_reading("a/m", Reading(3), NOW)
    engine.on_fleet([instance(address="127.0.0.1:2")], NOW)
    assert engine.snapshot(NOW).instances == ()


def test_answers_of_instances_that_left_are_ignored() -> None:
    engine = made()
    engine.on_reading("a/m", None, NOW)
    engine.on_silence("a/m", NOW)
    assert engine.snapshot(NOW).instances == ()


def test_a_model_with_an_instance_is_told_even_without_traffic() -> None:
    engine = made()
    engine.on_fleet([instance()], NOW)
    assert engine.snapshot(NOW).models == (ModelLoad("m"),)


def test_requests_that_ended_are_summed() -> None:
    engine = made()
    engine.on_event(ended("1", ttft_us=1 * S), NOW)
    engine.on_event(ended("2", ttft_us=3 * S), NOW)
    engine.on_event(ended("3", status=RequestStatus.FAILED, ttft_us=99 * S), NOW)
    engine.on_event(ended("4", status=RequestStatus.CANCELLED, ttft_us=99 * S), NOW)
    assert load(engine) == ModelLoad("m", 0, 0, 4, 1, 2.0, 2.98, 40, 12)


def test_an_event_that_comes_twice_counts_once() -> None:
    engine = made()
    assert engine.on_event(ended("1"), NOW)
    assert not engine.on_event(ended("1"), NOW)
    assert load(engine).ended_count == 1


def test_requests_leave_the_window_after_a_minute_in_the_order_they_ended() -> None:
    engine = made()
    for event_id, age_s in (("1", 10), ("2", 30), ("3", 20)):
        engine.on_event(ended(event_id, NOW - age_s * S, status=RequestStatus.FAILED), NOW)
    counts = [(load(engine, NOW + s * S).ended_count) for s in (0, 29)]
    assert counts == [3, 3]
    for second, count in ((30, 2), (40, 1)):
        now = load(engine, NOW + second * S)
        assert (now.ended_count, now.failed_count, now.prompt_tokens, now.response_tokens) == (
            count,
            count,
            10 * count,
            3 * count,
        )
    assert engine.snapshot(NOW + 50 * S).models == ()


def test_a_request_that_is_told_late_does_not_count_as_of_now() -> None:
    engine = made()
    assert engine.on_event(ended("1", NOW - 61 * S), NOW)
    assert engine.snapshot(NOW).models == ()


def test_a_clock_that_runs_ahead_does_not_keep_requests_in_the_window() -> None:
    engine = made()
    engine.on_event(ended("1", NOW + 3600 * S), NOW)
    assert load(engine, NOW + 59 * S).ended_count == 1
    assert engine.snapshot(NOW + 60 * S).models == ()


def test_the_last_samples_of_all_schedulers_are_summed() -> None:
    engine = made()
    engine.on_event(Event("1", QueueSample("m", NOW, 9, 9, "s1")), NOW)
    engine.on_event(Event("2", QueueSample("m", NOW + 1, 1, 2, "s1")), NOW)
    engine.on_event(Event("3", QueueSample("m", NOW, 3, 4, "s2")), NOW)
    engine.on_event(Event("4", QueueSample("m", NOW - 1, 50, 50, "s2")), NOW)
    assert (load(engine).held_count, load(engine).in_flight_count) == (4, 6)


def test_a_scheduler_that_falls_silent_stops_to_count() -> None:
    engine = made()
    engine.on_event(Event("1", QueueSample("m", NOW, 1, 2, "s1")), NOW)
    engine.on_event(Event("2", QueueSample("m", NOW, 3, 4, "s2")), NOW + 2 * S)
    assert load(engine, NOW + 4 * S).held_count == 4
    assert load(engine, NOW + 5 * S).held_count == 3
    assert engine.snapshot(NOW + 7 * S).models == ()


def test_a_change_of_an_instance_is_an_event_and_not_membership() -> None:
    engine = made()
    assert engine.on_event(Event("1", InstanceChange(instance())), NOW)
    assert engine.snapshot(NOW).instances == ()


def test_memory_of_events_is_bounded_and_forgets_the_oldest() -> None:
    engine = made()
    for number in range(module.EVENT_IDS_MAX + 1):
        engine.on_event(Event(str(number), QueueSample("m", NOW)), NOW)
    assert engine.on_event(Event("0", QueueSample("m", NOW)), NOW)
    assert not engine.on_event(Event("2", QueueSample("m", NOW)), NOW)


times = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 100)), max_size=40)


@given(drawn=times, steps=st.lists(st.integers(0, 40), max_size=6))
def test_a_window_holds_what_a_plain_recount_finds(drawn: list[tuple[int, int]], steps: list[int]) -> None:
    engine = made()
    for number, (age_s, ttft_s) in enumerate(drawn):
        engine.on_event(ended(str(number), NOW - age_s * S, ttft_us=ttft_s * S), NOW)
    now_us = NOW
    for step_s in steps:
        now_us += step_s * S
        inside = [ttft for age_s, ttft in drawn if age_s < 60 and NOW - age_s * S > now_us - 60 * S]
        told = engine.snapshot(now_us).models
        assert sum(one.ended_count for one in told) == len(inside)
        assert sum(one.prompt_tokens for one in told) == 10 * len(inside)
        if inside:
            assert np.isclose(told[0].ttft_p50_s, np.median(inside))


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.sampled_from((0.0, 0.5, 0.9, 0.99, 1.0)))
def test_quantiles_are_those_of_numpy_to_the_last_bit(values: list[int], level: float) -> None:
    assert quantile(sorted(values), level) == np.quantile(np.array(values, dtype=np.float64), level)
