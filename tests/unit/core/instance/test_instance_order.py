"""Who is admitted first and who is evicted first, by the order of the engine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import EngineFlags, EngineProfile, EngineRequest, InstanceModel, TokenEvent
from forebay.core.instance.batcher import BatchPlan, BatchView, ChunkedPrefill
from forebay.core.instance.sequence import ORDERS
from tests.unit.core.instance.kit import AMPLE, FOREVER, PROFILE, Arrival, few, flag_sets, play, profiles, traces

orders = st.sampled_from(ORDERS)


def finishes(order: str, requests: list[EngineRequest], max_seqs: int) -> list[str]:
    """Who finishes, in order, if all come at once."""
    instance = InstanceModel(replace(PROFILE, max_seqs=max_seqs), EngineFlags(order=order))
    for request in requests:
        instance.arrive(request, 0)
    return [event.request_id for event in instance.advance(FOREVER) if event.finished]


def urgent(name: str, priority: int, output_tokens: int = 3) -> EngineRequest:
    return EngineRequest(name, 8, output_tokens, priority=priority)


def test_the_smallest_number_is_admitted_first_and_equals_by_arrival() -> None:
    requests = [urgent("a", 1), urgent("b", 2), urgent("c", 0), urgent("d", 1), urgent("e", 0)]
    assert finishes("fcfs", requests, max_seqs=1) == ["a", "b", "c", "d", "e"]
    assert finishes("priority", requests, max_seqs=1) == ["a", "c", "e", "d", "b"]


def test_a_priority_order_lets_finish_who_runs_and_a_preemptive_one_does_not() -> None:
    requests = [urgent("a", 1, 30), urgent("b", 0)]
    assert finishes("priority", requests, max_seqs=1) == ["a", "b"]
    assert finishes("preemptive", requests, max_seqs=1) == ["b", "a"]


def test_the_worst_rank_loses_its_cache_whenever_it_was_admitted() -> None:
    instance = InstanceModel(replace(PROFILE, kv_tokens=40), EngineFlags(order="priority"))
    for request in (urgent("low", 2, 20), urgent("high", 0, 20)):
        instance.arrive(request, 0)
    events = instance.advance(FOREVER)
    assert [event.request_id for event in events if event.finished] == ["high", "low"]
    assert instance.view().preemption_count == 1


def test_a_victim_waits_at_its_rank_and_not_in_front() -> None:
    instance = InstanceModel(replace(PROFILE, max_seqs=1), EngineFlags(order="preemptive"))
    instance.arrive(urgent("a", 2, 20), 0)
    instance.arrive(urgent("b", 0), 0)
    instance.arrive(urgent("c", 1), 0)
    finished = [event.request_id for event in instance.advance(FOREVER) if event.finished]
    assert finished == ["b", "c", "a"]


@few
@given(traces(), profiles, flag_sets(), orders)
def test_with_equal_priorities_every_order_is_first_come_first_served(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags, order: str
) -> None:
    equal = [(now_ps, replace(request, priority=7)) for now_ps, request in trace]
    flags = replace(flags, no_evict=flags.no_evict and order != "preemptive", order="fcfs", admits_ahead=False)
    ordered = InstanceModel(profile, replace(flags, order=order))
    assert play(ordered, equal) == play(InstanceModel(profile, flags), equal)


@few
@given(traces(), profiles)
def test_first_come_first_served_heeds_no_priority(trace: list[Arrival], profile: EngineProfile) -> None:
    plain = [(now_ps, replace(request, priority=0)) for now_ps, request in trace]
    assert play(InstanceModel(profile), trace).events == play(InstanceModel(profile), plain).events


@pytest.mark.parametrize("order", ORDERS[1:])
@few
@given(trace=traces())
def test_where_nobody_waits_for_room_the_order_changes_no_time(order: str, trace: list[Arrival]) -> None:
    roomy = replace(AMPLE, max_seqs=64, iteration_ps=(0, *(1000 + 10 * n for n in range(1, 2000))))

    def times(flags: EngineFlags) -> list[TokenEvent]:
        events = play(InstanceModel(roomy, flags), trace).events
        return sorted(events, key=lambda event: (event.at_ps, event.request_id))

    assert times(EngineFlags(order=order)) == times(EngineFlags())


class OneSeat:
    """A batcher that checks who has the only seat."""

    def plan(self, view: BatchView) -> BatchPlan:
        planned = ChunkedPrefill().plan(view)
        ranks = {sequence.request_id: sequence.rank for sequence in (*view.running, *view.waiting)}
        seated = planned.decodes or (planned.chunks[0].request_id,)
        assert ranks.pop(seated[0])[0] <= min((priority for priority, _ in ranks.values()), default=9)
        return planned


@few
@given(traces())
def test_a_preemptive_engine_with_one_seat_runs_the_most_urgent_at_every_boundary(trace: list[Arrival]) -> None:
    alone = replace(PROFILE, max_seqs=1, iteration_ps=(0, *(1000 + 10 * n for n in range(1, 200))))
    play(InstanceModel(alone, EngineFlags(order="preemptive"), OneSeat()), trace)
