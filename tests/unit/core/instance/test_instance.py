"""One engine, iteration by iteration: timing by hand, queueing, eviction, cancelling, hanging."""

from dataclasses import replace

import pytest

from forebay.core.instance import (
    EngineFlags,
    EngineProfile,
    EngineRequest,
    InstanceModel,
    PrefillChunk,
    TokenEvent,
)
from forebay.core.instance.batcher import BatchPlan, BatchView, ChunkedPrefill

PROFILE = EngineProfile(
    name="small",
    status="uncalibrated",
    iteration_ps=(0, *(1000 + 10 * tokens for tokens in range(1, 17))),
    decode_ps=3,
    context_token_ps=2,
    prefill_ps=50,
    half_pair_fixed=1024,
    prefill_token_fixed=0,
    kv_tokens=64,
    max_seqs=4,
    block_size=4,
)
FOREVER = 10**12


class Journal:
    """A batcher that writes down what it planned."""

    def __init__(self) -> None:
        self.plans: list[BatchPlan] = []

    def plan(self, view: BatchView) -> BatchPlan:
        self.plans.append(ChunkedPrefill().plan(view))
        return self.plans[-1]


def summary(events: list[TokenEvent]) -> list[tuple[str, int, bool]]:
    return [(event.request_id, event.token_count, event.finished) for event in events]


def test_one_request_alone_takes_the_closed_form() -> None:
    instance = InstanceModel(PROFILE)
    assert instance.arrive(EngineRequest("a", 10, 3), 500)
    first_ps = 500 + PROFILE.duration_ps(0, 0, [PrefillChunk(10, 0)])
    second_ps = first_ps + PROFILE.duration_ps(1, 10)
    third_ps = second_ps + PROFILE.duration_ps(1, 11)
    assert instance.next_ps == first_ps
    assert instance.advance(FOREVER) == [
        TokenEvent("a", first_ps, 1, False),
        TokenEvent("a", second_ps, 2, False),
        TokenEvent("a", third_ps, 3, True),
    ]
    assert instance.next_ps is None


def test_a_late_caller_gets_every_boundary_with_its_own_time() -> None:
    prompt, late = InstanceModel(PROFILE), InstanceModel(PROFILE)
    for instance in (prompt, late):
        instance.arrive(EngineRequest("a", 10, 8), 0)
    step_by_step = []
    while (next_ps := prompt.next_ps) is not None:
        step_by_step += prompt.advance(next_ps)
    assert late.advance(FOREVER) == step_by_step


def test_a_long_prompt_is_computed_in_chunks_of_the_budget() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 40, 1), 0)
    chunks = [PrefillChunk(16, 0), PrefillChunk(16, 16), PrefillChunk(8, 32)]
    end_ps = sum(PROFILE.duration_ps(0, 0, [chunk]) for chunk in chunks)
    assert instance.advance(FOREVER) == [TokenEvent("a", end_ps, 1, True)]


def test_a_second_arrival_of_the_same_instant_joins_the_next_iteration() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 4, 2), 0)
    instance.arrive(EngineRequest("b", 4, 1), 0)
    first_ps = PROFILE.duration_ps(0, 0, [PrefillChunk(4, 0)])
    second_ps = first_ps + PROFILE.duration_ps(1, 4, [PrefillChunk(4, 0)])
    events = instance.advance(FOREVER)
    assert [(event.request_id, event.at_ps) for event in events] == [
        ("a", first_ps),
        ("a", second_ps),
        ("b", second_ps),
    ]


def test_a_prefix_hit_saves_compute_in_whole_blocks_but_not_memory() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 12, 1, hit_tokens=7), 0)
    assert instance.view().free_block_count == 16 - 3
    assert instance.next_ps == PROFILE.duration_ps(0, 0, [PrefillChunk(8, 4)])


def test_a_hit_of_the_whole_prompt_still_computes_one_token() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 12, 1, hit_tokens=12), 0)
    assert instance.next_ps == PROFILE.duration_ps(0, 0, [PrefillChunk(4, 8)])


def test_the_last_token_of_an_answer_never_enters_the_cache() -> None:
    instance = InstanceModel(replace(PROFILE, kv_tokens=16))
    instance.arrive(EngineRequest("a", 12, 4), 0)
    seen = []
    while (next_ps := instance.next_ps) is not None:
        instance.advance(next_ps)
        seen.append(instance.view().context_tokens)
    assert seen == [12, 13, 14, 0]


def test_seats_limit_the_running_requests() -> None:
    instance = InstanceModel(PROFILE)
    for name in "abcdef":
        instance.arrive(EngineRequest(name, 1, 5), 0)
    instance.advance(PROFILE.duration_ps(0, 0, [PrefillChunk(1, 0)]))
    view = instance.view()
    assert (view.running_count, view.waiting_count) == (4, 2)


def test_the_last_request_is_evicted_and_recomputes_prompt_and_answer() -> None:
    journal = Journal()
    instance = InstanceModel(replace(PROFILE, kv_tokens=32), batcher=journal)
    instance.arrive(EngineRequest("a", 12, 14), 0)
    instance.arrive(EngineRequest("b", 12, 9), 0)
    events = instance.advance(FOREVER)
    evictions = [plan for plan in journal.plans if plan.preempted]
    assert [plan.preempted for plan in evictions] == [("b",)]
    assert evictions[0].admitted == ()
    recomputed = [c.tokens for plan in journal.plans for c in plan.chunks if c.request_id == "b"]
    assert recomputed == [12, 12 + 4]
    assert [count for name, count, _ in summary(events) if name == "b"] == list(range(1, 10))
    assert instance.view().preemption_count == 1


def test_a_preempted_request_stands_at_the_front_of_the_queue() -> None:
    instance = InstanceModel(replace(PROFILE, kv_tokens=32))
    for name, prompt, output in (("a", 12, 9), ("b", 12, 9), ("c", 9, 1)):
        instance.arrive(EngineRequest(name, prompt, output), 0)
    finished = [event.request_id for event in instance.advance(FOREVER) if event.finished]
    assert instance.view().preemption_count == 1
    # The blocks that b lost would hold c, which yet waits behind b until a is done.
    assert finished == ["a", "c", "b"]


def test_a_preempted_request_computes_its_prefix_again() -> None:
    journal = Journal()
    instance = InstanceModel(replace(PROFILE, kv_tokens=32), batcher=journal)
    instance.arrive(EngineRequest("a", 12, 14), 0)
    instance.arrive(EngineRequest("b", 12, 9, hit_tokens=8), 0)
    instance.advance(FOREVER)
    assert [c.tokens for plan in journal.plans for c in plan.chunks if c.request_id == "b"] == [4, 12 + 4]


def test_a_head_that_does_not_fit_holds_those_behind_it() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("big", 50, 2), 0)
    instance.arrive(EngineRequest("wide", 40, 1), 0)
    instance.arrive(EngineRequest("tiny", 1, 1), 0)
    finished = [event.request_id for event in instance.advance(FOREVER) if event.finished]
    assert finished == ["big", "wide", "tiny"]


@pytest.mark.parametrize(
    ("flags", "counts", "reason"),
    [
        (EngineFlags(), (60, 5), "exceed the KV cache's 64"),
        (EngineFlags(watermark_blocks=2), (50, 10), "exceed the KV cache's 56"),
        (EngineFlags(model_tokens_max=20), (18, 3), "exceed the model's 20"),
        (EngineFlags(chunked_prefill=False), (15, 2), "exceed the 16 of one unchunked prefill"),
        (EngineFlags(no_evict=True), (10, 2, 0, 60), "exceed the KV cache's 64"),
    ],
)
def test_what_can_never_fit_is_refused_on_arrival(flags: EngineFlags, counts: tuple[int, ...], reason: str) -> None:
    instance = InstanceModel(PROFILE, flags)
    request = EngineRequest("a", *counts)
    assert not instance.arrive(request, 0)
    assert reason in str(instance.refusal(request))
    assert instance.next_ps is None


def test_what_fits_exactly_is_accepted() -> None:
    instance = InstanceModel(PROFILE)
    assert instance.arrive(EngineRequest("a", 60, 4), 0)
    assert summary(instance.advance(FOREVER))[-1] == ("a", 4, True)


def test_without_the_reserve_flag_the_first_chunk_is_enough() -> None:
    def running_after_first_pass(flags: EngineFlags) -> int:
        instance = InstanceModel(PROFILE, flags)
        instance.arrive(EngineRequest("a", 16, 20), 0)
        instance.arrive(EngineRequest("b", 60, 1), 0)
        instance.advance(instance.next_ps or 0)
        return instance.view().running_count

    assert running_after_first_pass(EngineFlags()) == 1
    assert running_after_first_pass(EngineFlags(reserve_full_prompt=False)) == 2


def test_a_watermark_keeps_blocks_free_at_admission() -> None:
    def running_after_first_pass(flags: EngineFlags) -> int:
        instance = InstanceModel(PROFILE, flags)
        instance.arrive(EngineRequest("a", 16, 20), 0)
        instance.arrive(EngineRequest("b", 40, 1), 0)
        instance.advance(instance.next_ps or 0)
        return instance.view().running_count

    assert running_after_first_pass(EngineFlags(watermark_blocks=1)) == 2
    assert running_after_first_pass(EngineFlags(watermark_blocks=2)) == 1


def test_an_engine_that_never_evicts_reserves_the_longest_answer() -> None:
    def run(flags: EngineFlags) -> tuple[int, int]:
        instance = InstanceModel(replace(PROFILE, kv_tokens=32), flags)
        for name in "ab":
            instance.arrive(EngineRequest(name, 12, 8), 0)
        instance.advance(instance.next_ps or 0)
        running_count = instance.view().running_count
        instance.advance(FOREVER)
        return running_count, instance.view().preemption_count

    assert run(EngineFlags()) == (2, 1)
    assert run(EngineFlags(no_evict=True)) == (1, 0)


def test_without_chunking_a_prompt_waits_for_a_budget_that_holds_it() -> None:
    journal = Journal()
    instance = InstanceModel(PROFILE, EngineFlags(chunked_prefill=False), journal)
    for name in "abc":
        instance.arrive(EngineRequest(name, 9, 1), 0)
    instance.advance(FOREVER)
    assert [[chunk.tokens for chunk in plan.chunks] for plan in journal.plans] == [[9], [9], [9]]


def test_a_waiting_request_is_cancelled_at_once() -> None:
    instance = InstanceModel(PROFILE)
    for name in "ab":
        instance.arrive(EngineRequest(name, 4, 3), 0)
    assert instance.cancel("b", 10)
    assert instance.view().waiting_count == 0
    assert {event.request_id for event in instance.advance(FOREVER)} == {"a"}


def test_a_running_request_is_cancelled_at_the_next_boundary() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 4, 30), 0)
    boundary_ps = instance.next_ps
    assert instance.cancel("a", 10)
    assert instance.view().free_block_count == 15
    assert instance.next_ps == boundary_ps
    assert instance.advance(FOREVER) == []
    view = instance.view()
    assert (view.free_block_count, view.cancelled_count, view.finished_count) == (16, 1, 0)


def test_cancelling_twice_or_a_stranger_does_nothing() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 4, 3), 0)
    assert instance.cancel("a", 1)
    assert not instance.cancel("a", 2)
    assert not instance.cancel("b", 2)


def test_an_id_can_come_back_only_after_it_left() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 4, 1), 0)
    with pytest.raises(ValueError, match="'a' is here already"):
        instance.arrive(EngineRequest("a", 4, 1), 1)
    instance.advance(FOREVER)
    assert instance.arrive(EngineRequest("a", 4, 1), FOREVER)


def test_time_does_not_run_backwards() -> None:
    instance = InstanceModel(PROFILE)
    instance.advance(100)
    with pytest.raises(ValueError, match="time runs backwards"):
        instance.arrive(EngineRequest("a", 4, 1), 99)


def test_a_due_boundary_comes_before_an_arrival() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 4, 1), 0)
    with pytest.raises(ValueError, match="boundary at 1110 ps is due"):
        instance.arrive(EngineRequest("b", 4, 1), 1110)


def test_a_hung_engine_makes_no_progress_and_goes_on_where_it_stopped() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 4, 1), 0)
    end_ps = instance.next_ps or 0
    instance.hang(100)
    assert instance.next_ps is None
    assert instance.advance(5_000) == []
    instance.resume(5_000)
    assert instance.next_ps == end_ps + 4_900


def test_an_engine_that_hung_while_idle_starts_when_it_resumes() -> None:
    instance = InstanceModel(PROFILE)
    instance.hang(0)
    instance.arrive(EngineRequest("a", 4, 1), 100)
    instance.resume(300)
    assert instance.next_ps == 300 + PROFILE.duration_ps(0, 0, [PrefillChunk(4, 0)])
    instance.resume(400)
    assert instance.next_ps == 300 + PROFILE.duration_ps(0, 0, [PrefillChunk(4, 0)])


def test_another_profile_counts_from_the_next_iteration() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 4, 2), 0)
    first_ps = instance.next_ps or 0
    instance.retime(PROFILE.slowed(2))
    assert instance.next_ps == first_ps
    instance.advance(first_ps)
    assert instance.next_ps == first_ps + 2 * PROFILE.duration_ps(1, 4)


def test_a_profile_with_other_memory_cannot_take_over() -> None:
    with pytest.raises(ValueError, match="other memory or limits"):
        InstanceModel(PROFILE).retime(replace(PROFILE, kv_tokens=32))


def test_the_view_counts_who_is_where() -> None:
    instance = InstanceModel(PROFILE)
    for name in "abc":
        instance.arrive(EngineRequest(name, 8, 4), 0)
    instance.advance(instance.next_ps or 0)
    view = instance.view()
    assert (view.running_count, view.prefill_count, view.waiting_count) == (3, 2, 0)
    assert view.queued_tokens == 16
    assert (view.generated_tokens, view.iteration_count, view.arrived_count) == (1, 2, 3)


def test_a_batcher_that_plans_nothing_is_a_bug_that_surfaces() -> None:
    class Idle:
        def plan(self, view: BatchView) -> BatchPlan:
            return BatchPlan((), ())

    with pytest.raises(ValueError, match="without work"):
        InstanceModel(PROFILE, batcher=Idle()).arrive(EngineRequest("a", 4, 1), 0)


def test_a_batcher_that_jumps_the_queue_is_a_bug_that_surfaces() -> None:
    class Jumper:
        def plan(self, view: BatchView) -> BatchPlan:
            return BatchPlan((), (), admitted=(view.waiting[-1].request_id,))

    instance = InstanceModel(PROFILE, batcher=Jumper())
    instance.hang(0)
    for name in "ab":
        instance.arrive(EngineRequest(name, 4, 1), 0)
    with pytest.raises(ValueError, match="out of order"):
        instance.resume(1)
