"""Requests that leave an instance unfinished: moved elsewhere, or lost with it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import EngineProfile, EngineRequest, InstanceModel, PrefillChunk, TokenEvent
from tests.unit.core.instance.kit import AMPLE, FOREVER, PROFILE, Arrival, few, profiles, traces


def test_a_moved_request_takes_its_answer_along_as_prompt_and_its_cache_as_hit() -> None:
    source = InstanceModel(AMPLE)
    source.arrive(EngineRequest("a", 10, 9, output_tokens_max=12), 0)
    source.advance(source.next_ps or 0)
    source.advance(source.next_ps or 0)
    now_ps = source.next_ps or 0
    source.advance(now_ps)
    assert source.evict("a", now_ps) == EngineRequest("a", 13, 6, hit_tokens=12, output_tokens_max=9)


def test_the_receiver_computes_only_what_lies_beyond_whole_blocks() -> None:
    receiver = InstanceModel(AMPLE)
    rest = EngineRequest("a", 10, 9).rest(3, 12)
    receiver.arrive(rest, 0)
    assert receiver.next_ps == AMPLE.duration_ps(0, 0, [PrefillChunk(1, 12)])
    assert [event.token_count for event in receiver.advance(FOREVER)] == [1, 2, 3, 4, 5, 6]


@given(st.integers(1, 50), st.integers(2, 40), st.integers(0, 20), st.integers(1, 39))
def test_a_move_changes_neither_the_length_nor_the_longest_length(
    prompt: int, output: int, slack: int, generated: int
) -> None:
    request = EngineRequest("a", prompt, output, output_tokens_max=output + slack)
    rest = request.rest(min(generated, output - 1), 0)
    assert rest.prompt_tokens + rest.output_tokens == prompt + output
    assert rest.tokens_max == request.tokens_max


def test_a_request_without_a_limit_has_none_elsewhere() -> None:
    assert EngineRequest("a", 10, 9).rest(3, 0) == EngineRequest("a", 13, 6)


def test_a_waiting_request_moves_at_once_with_nothing() -> None:
    instance = InstanceModel(replace(PROFILE, max_seqs=1))
    for name in "ab":
        instance.arrive(EngineRequest(name, 8, 3, hit_tokens=4), 0)
    assert instance.evict("b", 10) == EngineRequest("b", 8, 3)
    assert instance.view().waiting_count == 0


def test_the_token_of_an_iteration_in_progress_does_not_appear() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 8, 3), 0)
    boundary_ps = instance.next_ps
    assert instance.evict("a", 10) == EngineRequest("a", 8, 3)
    assert instance.view().free_block_count < instance.view().block_count
    assert instance.next_ps == boundary_ps
    assert instance.advance(FOREVER) == []
    view = instance.view()
    assert (view.free_block_count, view.finished_count, view.cancelled_count) == (view.block_count, 0, 0)


def test_who_is_not_here_cannot_move() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 8, 3), 0)
    instance.cancel("a", 1)
    assert instance.evict("a", 2) is None
    assert instance.evict("b", 2) is None


@few
@given(traces(), profiles, st.frozensets(st.sampled_from([f"r{n}" for n in range(14)])))
def test_a_request_leaves_for_elsewhere_as_a_cancelled_one_does(
    trace: list[Arrival], profile: EngineProfile, leaving: frozenset[str]
) -> None:
    def events(leave: Callable[[InstanceModel, str, int], object]) -> list[TokenEvent]:
        instance = InstanceModel(profile)
        told = []
        for now_ps, request in trace:
            told += instance.advance(now_ps)
            instance.arrive(request, now_ps)
            if request.request_id in leaving:
                leave(instance, request.request_id, now_ps)
        return told + instance.advance(FOREVER)

    assert events(InstanceModel.evict) == events(InstanceModel.cancel)


def test_a_crash_loses_those_who_run_in_order_and_then_the_queue() -> None:
    instance = InstanceModel(replace(PROFILE, max_seqs=2))
    for name in "abcd":
        instance.arrive(EngineRequest(name, 8, 6), 0)
    instance.advance(3000)
    instance.cancel("c", 3000)
    instance.cancel("a", 3000)
    assert instance.crash(3100) == ("b", "d")


def test_nothing_remains_of_a_crashed_instance() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 8, 6), 0)
    instance.hang(50)
    instance.crash(100)
    view = instance.view()
    assert (view.running_count, view.waiting_count, view.free_block_count) == (0, 0, view.block_count)
    assert instance.next_ps is None
    assert instance.advance(FOREVER) == []


def test_an_engine_starts_afresh_after_a_crash() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 8, 6), 0)
    instance.hang(10)
    instance.crash(100)
    instance.arrive(EngineRequest("a", 8, 1), 100)
    assert instance.next_ps == 100 + PROFILE.duration_ps(0, 0, [PrefillChunk(8, 0)])


def test_a_due_boundary_comes_before_a_crash() -> None:
    instance = InstanceModel(PROFILE)
    instance.arrive(EngineRequest("a", 8, 6), 0)
    with pytest.raises(ValueError, match="is due"):
        instance.crash(instance.next_ps or 0)


@few
@given(traces(), profiles, st.integers(0, 100_000))
def test_every_request_is_finished_or_lost_in_a_crash(
    trace: list[Arrival], profile: EngineProfile, crash_ps: int
) -> None:
    instance = InstanceModel(profile)
    before = [(now_ps, request) for now_ps, request in trace if now_ps <= crash_ps]
    accepted, events = [], []
    for now_ps, request in before:
        events += instance.advance(now_ps)
        accepted += [request.request_id] * instance.arrive(request, now_ps)
    events += instance.advance(crash_ps)
    lost = instance.crash(crash_ps)
    assert sorted([*lost, *(event.request_id for event in events if event.finished)]) == sorted(accepted)
