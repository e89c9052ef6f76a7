"""Named invariants of the instance model over generated traces, limits and flags."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import EngineFlags, EngineProfile, EngineRequest, InstanceModel, PrefillChunk, TokenEvent
from tests.unit.core.instance.kit import (
    AMPLE,
    FOREVER,
    PROFILE,
    Arrival,
    Kind,
    flag_sets,
    kinds,
    play,
    profiles,
    traces,
)


@given(traces(), kinds)
def test_every_accepted_request_gets_each_of_its_tokens_once_in_order(trace: list[Arrival], kind: Kind) -> None:
    run = play(kind.make(), trace)
    counts: dict[str, list[int]] = {}
    for event in run.events:
        counts.setdefault(event.request_id, []).append(event.token_count)
    assert counts == {r.request_id: list(range(1, r.output_tokens + 1)) for r in run.accepted}
    assert [e.finished for e in run.events].count(True) == len(run.accepted)


@given(traces(), kinds, st.frozensets(st.sampled_from([f"r{n}" for n in range(14)])))
def test_all_blocks_and_requests_are_accounted_for_in_the_end(
    trace: list[Arrival], kind: Kind, cancelled: frozenset[str]
) -> None:
    instance = kind.make()
    run = play(instance, trace, cancelled)
    view = instance.view()
    assert view.free_block_count == view.block_count
    assert view.running_count == view.waiting_count == view.context_tokens == 0
    assert view.arrived_count == len(run.accepted) == view.finished_count + view.cancelled_count
    assert view.generated_tokens == len(run.events)
    assert view.next_ps is None


@given(traces(), kinds)
def test_the_clock_never_goes_back(trace: list[Arrival], kind: Kind) -> None:
    run = play(kind.make(), trace)
    times = [event.at_ps for event in run.events]
    assert times == sorted(times)
    first_ps = {event.request_id: event.at_ps for event in run.events if event.token_count == 1}
    assert all(first_ps[request.request_id] > now_ps for now_ps, request in trace if request in run.accepted)


@given(traces(), kinds)
def test_the_same_trace_gives_the_same_run(trace: list[Arrival], kind: Kind) -> None:
    assert play(kind.make(), trace) == play(kind.make(), trace)


@given(traces(), kinds)
def test_how_often_the_caller_looks_does_not_matter(trace: list[Arrival], kind: Kind) -> None:
    lazy = kind.make()
    events: list[TokenEvent] = []
    for now_ps, request in trace:
        events += lazy.advance(now_ps)
        lazy.arrive(request, now_ps)
    events += lazy.advance(FOREVER)
    assert events == play(kind.make(), trace).events


@given(st.integers(1, 90), st.integers(1, 40))
def test_one_request_alone_is_the_closed_form(prompt: int, output: int) -> None:
    profile = replace(PROFILE, kv_tokens=4_000)
    instance = InstanceModel(profile)
    instance.arrive(EngineRequest("a", prompt, output), 0)
    budget = profile.max_batch_tokens
    starts = range(0, prompt, budget)
    prefill_ps = sum(profile.duration_ps(0, 0, [PrefillChunk(min(budget, prompt - k), k)]) for k in starts)
    n = output - 1
    decode_ps = n * profile.duration_ps(1, 0) + profile.context_token_ps * (n * prompt + n * (n - 1) // 2)
    events = instance.advance(FOREVER)
    assert (events[0].at_ps, events[-1].at_ps) == (prefill_ps, prefill_ps + decode_ps)


@given(traces(), flag_sets())
def test_unlimited_memory_means_no_eviction(trace: list[Arrival], flags: EngineFlags) -> None:
    instance = InstanceModel(AMPLE, replace(flags, order="priority", admits_ahead=False))
    play(instance, trace)
    assert instance.view().preemption_count == 0


@given(traces(), profiles, flag_sets())
def test_an_engine_that_never_evicts_never_evicts(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags
) -> None:
    instance = InstanceModel(profile, replace(flags, no_evict=True, order="fcfs"))
    play(instance, trace)
    assert instance.view().preemption_count == 0


@given(traces())
def test_cut_prompts_change_nothing_when_no_prompt_exceeds_the_budget_left(trace: list[Arrival]) -> None:
    roomy = replace(PROFILE, iteration_ps=(0, *(1000 + 10 * n for n in range(1, 2000))), kv_tokens=100_000)
    chunked = play(InstanceModel(roomy), trace)
    whole = play(InstanceModel(roomy, EngineFlags(chunked_prefill=False)), trace)
    assert chunked == whole
