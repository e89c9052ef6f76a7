"""Victims whose cache goes to the host and comes back, and what the transfers cost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import EngineFlags, EngineProfile, EngineRequest, InstanceModel, PrefillChunk
from forebay.core.instance.batcher import BatchPlan, BatchView, ChunkedPrefill
from tests.unit.core.instance.kit import AMPLE, FOREVER, PROFILE, Arrival, few, flag_sets, play, profiles, traces

SMALL = replace(PROFILE, kv_tokens=32, iteration_ps=(0, *(1000 + 10 * n for n in range(1, 40))))
SWAP = EngineFlags(preemption="swap", swap_block_ps=100)


class Journal:
    """A batcher that writes down what it saw and planned."""

    def __init__(self) -> None:
        self.plans: list[BatchPlan] = []

    def plan(self, view: BatchView) -> BatchPlan:
        self.plans.append(ChunkedPrefill().plan(view))
        return self.plans[-1]


def contended(flags: EngineFlags, journal: Journal | None = None) -> InstanceModel:
    """Seven and five blocks are wanted, eight are there: the second one is evicted with 15 tokens in four blocks."""
    instance = InstanceModel(SMALL, flags, journal)
    instance.arrive(EngineRequest("a", 12, 14), 0)
    instance.arrive(EngineRequest("b", 12, 9), 0)
    return instance


def until_preempted(instance: InstanceModel) -> int:
    """Start of the iteration whose pass evicted."""
    while not instance.view().preemption_count:
        now_ps = instance.next_ps or 0
        instance.advance(now_ps)
    return now_ps


def test_a_swapped_decode_goes_on_with_its_next_token_and_computes_nothing_again() -> None:
    journal = Journal()
    events = contended(SWAP, journal).advance(FOREVER)
    assert [c.tokens for plan in journal.plans for c in plan.chunks] == [12, 12]
    back = next(plan for plan in journal.plans if plan.admitted == ("b",) and not plan.chunks)
    assert "b" in back.decodes
    assert [event.token_count for event in events if event.request_id == "b"] == list(range(1, 10))


def test_an_iteration_lasts_longer_by_the_blocks_that_leave_in_its_pass() -> None:
    instance = contended(SWAP)
    start_ps = until_preempted(instance)
    assert instance.next_ps == start_ps + SMALL.duration_ps(1, 16) + 4 * 100


def test_an_iteration_lasts_longer_by_the_blocks_that_come_back() -> None:
    journal = Journal()
    instance = contended(SWAP, journal)
    until_preempted(instance)
    while instance.view().waiting_count:
        now_ps = instance.next_ps or 0
        instance.advance(now_ps)
    assert journal.plans[-1] == BatchPlan(("b",), (), admitted=("b",))
    assert instance.next_ps == now_ps + SMALL.duration_ps(1, 15) + 4 * 100


@pytest.mark.parametrize(("swap_block_ps", "extra_ps"), [(100, 0), (1000, 4000 - 1000 - 10 - 3 - 2 * 16)])
def test_overlapped_transfers_show_only_where_they_outlast_the_computing(swap_block_ps: int, extra_ps: int) -> None:
    instance = contended(replace(SWAP, swap_block_ps=swap_block_ps, swap_overlaps=True))
    start_ps = until_preempted(instance)
    assert instance.next_ps == start_ps + SMALL.duration_ps(1, 16) + extra_ps


def test_a_partial_prompt_goes_on_where_it_stopped() -> None:
    journal = Journal()
    profile = replace(PROFILE, kv_tokens=40, iteration_ps=(0, *(1000 + 10 * n for n in range(1, 9))))
    instance = InstanceModel(profile, replace(SWAP, reserve_full_prompt=False), journal)
    instance.arrive(EngineRequest("a", 8, 12), 0)
    instance.arrive(EngineRequest("b", 30, 1), 0)
    instance.advance(FOREVER)
    assert instance.view().preemption_count > 0
    assert sum(c.tokens for plan in journal.plans for c in plan.chunks if c.request_id == "b") == 30


def test_a_moved_request_takes_along_what_lies_on_the_host() -> None:
    instance = contended(SWAP)
    now_ps = until_preempted(instance)
    assert instance.view().queued_tokens == 0
    assert instance.evict("b", now_ps) == EngineRequest("b", 12 + 4, 9 - 4, hit_tokens=15)


def test_a_prefix_hit_is_no_transfer() -> None:
    instance = InstanceModel(SMALL, SWAP)
    instance.arrive(EngineRequest("a", 12, 4, hit_tokens=8), 0)
    assert instance.next_ps == SMALL.duration_ps(0, 0, [PrefillChunk(4, 8)])


@few
@given(traces(), st.builds(replace, flag_sets(), preemption=st.just("recompute")), st.integers(0, 900))
def test_where_nobody_is_evicted_swapping_changes_nothing(
    trace: list[Arrival], flags: EngineFlags, swap_block_ps: int
) -> None:
    flags = replace(flags, order="fcfs")
    swapping = replace(flags, preemption="swap", swap_block_ps=swap_block_ps)
    assert play(InstanceModel(AMPLE, swapping), trace) == play(InstanceModel(AMPLE, flags), trace)


@few
@given(traces(), profiles, st.builds(replace, flag_sets(), swap_block_ps=st.just(0), preemption=st.just("swap")))
def test_free_transfers_need_no_overlap(trace: list[Arrival], profile: EngineProfile, flags: EngineFlags) -> None:
    overlapped = replace(flags, swap_overlaps=not flags.swap_overlaps)
    assert play(InstanceModel(profile, flags), trace) == play(InstanceModel(profile, overlapped), trace)


@few
@given(traces(), profiles, st.builds(replace, flag_sets(), preemption=st.just("swap")))
def test_no_prompt_token_is_computed_twice(trace: list[Arrival], profile: EngineProfile, flags: EngineFlags) -> None:
    journal = Journal()
    run = play(InstanceModel(profile, flags, journal), trace)
    computed = sum(chunk.tokens for plan in journal.plans for chunk in plan.chunks)
    size = profile.block_size
    hits = sum(min(r.hit_tokens, r.prompt_tokens - 1) // size * size for r in run.accepted)
    assert computed == sum(request.prompt_tokens for request in run.accepted) - hits
