"""Static batches in time: who waits for whom, what padding costs, when answers return, and how requests gather."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import EngineFlags, EngineProfile, EngineRequest, InstanceModel, PrefillChunk, TokenEvent
from forebay.core.instance.batcher import BATCHERS
from tests.unit.core.instance.kit import AMPLE, FOREVER, PROFILE, Arrival, few, flag_sets, play, profiles, traces

DELAY_PS = 500
GATHER = EngineFlags(batch_delay_ps=DELAY_PS)


def static(profile: EngineProfile, flags: EngineFlags = GATHER) -> InstanceModel:
    return InstanceModel(profile, flags, BATCHERS["static"]())


def batch_of(flags: EngineFlags, *requests: EngineRequest) -> InstanceModel:
    """An engine that gathered these at 0 and has run for no time yet."""
    instance = static(AMPLE, flags)
    for request in requests:
        instance.arrive(request, 0)
    instance.advance(DELAY_PS)
    return instance


def finishes(events: list[TokenEvent]) -> dict[str, int]:
    return {event.request_id: event.at_ps for event in events if event.finished}


def test_a_batch_takes_the_closed_form() -> None:
    instance = batch_of(GATHER, EngineRequest("a", 5, 3), EngineRequest("b", 7, 2))
    first_ps = DELAY_PS + AMPLE.duration_ps(0, 0, [PrefillChunk(5, 0), PrefillChunk(7, 0)])
    second_ps = first_ps + AMPLE.duration_ps(2, 12)
    third_ps = second_ps + AMPLE.duration_ps(1, 6)
    assert instance.advance(FOREVER) == [
        TokenEvent("a", first_ps, 1, False),
        TokenEvent("b", first_ps, 1, False),
        TokenEvent("a", second_ps, 2, False),
        TokenEvent("b", second_ps, 2, True),
        TokenEvent("a", third_ps, 3, True),
    ]


def test_padding_costs_every_row_the_longest_prompt_and_the_longest_answer() -> None:
    flags = replace(GATHER, batch_padding=True)
    instance = batch_of(flags, EngineRequest("a", 5, 3), EngineRequest("b", 7, 2))
    first_ps = DELAY_PS + AMPLE.duration_ps(0, 0, [PrefillChunk(7, 0), PrefillChunk(7, 0)])
    second_ps = first_ps + AMPLE.duration_ps(2, 14)
    third_ps = second_ps + AMPLE.duration_ps(2, 16)
    assert finishes(instance.advance(FOREVER)) == {"b": second_ps, "a": third_ps}


def test_a_row_that_stays_is_over_for_its_client() -> None:
    instance = batch_of(replace(GATHER, batch_padding=True), EngineRequest("a", 5, 3), EngineRequest("b", 7, 1))
    now_ps = instance.next_ps or 0
    instance.advance(now_ps)
    assert instance.request_ids == ("a",)
    assert not instance.cancel("b", now_ps)
    assert instance.evict("b", now_ps) is None
    view = instance.view()
    assert (view.running_count, view.finished_count) == (2, 1)
    assert instance.crash(now_ps) == ("a",)


def test_answers_that_wait_all_return_when_the_batch_ends() -> None:
    instance = batch_of(replace(GATHER, batch_answers_wait=True), EngineRequest("a", 5, 3), EngineRequest("b", 7, 2))
    first_ps = DELAY_PS + AMPLE.duration_ps(0, 0, [PrefillChunk(5, 0), PrefillChunk(7, 0)])
    end_ps = first_ps + AMPLE.duration_ps(2, 12) + AMPLE.duration_ps(2, 14)
    assert instance.advance(end_ps - 1) == []
    assert instance.request_ids == ("a", "b")
    assert [(e.request_id, e.at_ps, e.token_count) for e in instance.advance(end_ps)] == [
        ("a", end_ps, 1),
        ("a", end_ps, 2),
        ("a", end_ps, 3),
        ("b", end_ps, 1),
        ("b", end_ps, 2),
    ]
    assert instance.view().running_count == 0


def test_a_moved_request_whose_answer_waited_starts_again() -> None:
    flags = replace(GATHER, batch_padding=True, batch_answers_wait=True)
    instance = batch_of(flags, EngineRequest("a", 5, 3), EngineRequest("b", 7, 9))
    now_ps = instance.next_ps or 0
    instance.advance(now_ps)
    assert instance.evict("a", now_ps) == EngineRequest("a", 5, 3, hit_tokens=5)


def test_newcomers_wait_for_the_longest_answer() -> None:
    instance = batch_of(GATHER, EngineRequest("a", 4, 9), EngineRequest("b", 4, 1))
    instance.arrive(EngineRequest("c", 4, 1), DELAY_PS + 1)
    ended = finishes(instance.advance(FOREVER))
    assert ended["b"] < ended["a"]
    assert ended["c"] == ended["a"] + AMPLE.duration_ps(0, 0, [PrefillChunk(4, 0)])


def test_a_cancelled_row_leaves_or_stays_as_its_batch_does() -> None:
    def rows_after_cancel(flags: EngineFlags) -> int:
        instance = batch_of(flags, EngineRequest("a", 4, 9), EngineRequest("b", 4, 9))
        now_ps = instance.next_ps or 0
        instance.advance(now_ps)
        instance.cancel("b", now_ps)
        instance.advance(instance.next_ps or 0)
        return instance.view().running_count

    assert rows_after_cancel(GATHER) == 1
    assert rows_after_cancel(replace(GATHER, batch_padding=True)) == 2


def test_a_batch_that_everybody_left_ends_at_the_boundary() -> None:
    instance = batch_of(replace(GATHER, batch_padding=True), EngineRequest("a", 4, 9), EngineRequest("b", 4, 9))
    boundary_ps = instance.next_ps or 0
    for name in "ab":
        instance.cancel(name, DELAY_PS)
    assert instance.advance(boundary_ps) == []
    assert (instance.next_ps, instance.view().running_count) == (None, 0)


def test_requests_gather_until_the_oldest_has_waited() -> None:
    instance = static(PROFILE)
    instance.arrive(EngineRequest("a", 4, 1), 100)
    instance.arrive(EngineRequest("b", 4, 1), 400)
    assert instance.next_ps == 100 + DELAY_PS
    assert instance.view().iteration_count == 0
    instance.advance(100 + DELAY_PS)
    assert instance.view().running_count == 2


def test_a_full_batch_starts_at_once() -> None:
    instance = static(replace(PROFILE, max_seqs=2))
    instance.arrive(EngineRequest("a", 4, 1), 100)
    instance.arrive(EngineRequest("b", 4, 1), 200)
    assert instance.next_ps == 200 + PROFILE.duration_ps(0, 0, [PrefillChunk(4, 0), PrefillChunk(4, 0)])


def test_who_waited_through_a_batch_waits_no_longer() -> None:
    instance = batch_of(GATHER, EngineRequest("a", 4, 9))
    instance.arrive(EngineRequest("b", 4, 1), DELAY_PS + 1)
    events = finishes(instance.advance(FOREVER))
    assert events["b"] == events["a"] + AMPLE.duration_ps(0, 0, [PrefillChunk(4, 0)])


def test_gathering_ends_when_everybody_left_and_looks_again_at_who_remains() -> None:
    instance = static(PROFILE)
    instance.arrive(EngineRequest("a", 4, 1), 0)
    instance.arrive(EngineRequest("b", 4, 1), 300)
    instance.cancel("a", 300)
    instance.advance(DELAY_PS)
    assert instance.next_ps == 300 + DELAY_PS
    instance.cancel("b", DELAY_PS)
    instance.advance(FOREVER)
    assert instance.next_ps is None


def test_an_engine_that_hangs_while_requests_gather_looks_at_them_when_it_resumes() -> None:
    instance = static(PROFILE)
    instance.arrive(EngineRequest("a", 4, 1), 0)
    instance.hang(100)
    instance.arrive(EngineRequest("b", 4, 1), 200)
    instance.resume(300)
    assert instance.next_ps == DELAY_PS
    instance.hang(350)
    instance.resume(900)
    assert instance.next_ps == 900 + PROFILE.duration_ps(0, 0, [PrefillChunk(4, 0), PrefillChunk(4, 0)])


@few
@given(traces(), profiles, flag_sets())
def test_one_seat_makes_static_and_continuous_batches_the_same(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags
) -> None:
    one = replace(profile, max_seqs=1)
    flags = replace(flags, order="fcfs", batch_answers_wait=False)
    assert play(static(one, flags), trace) == play(InstanceModel(one, flags), trace)


@few
@given(st.integers(1, 20), st.integers(2, 20), st.integers(1, 6), flag_sets())
def test_padding_changes_nothing_among_equal_lengths(prompt: int, output: int, count: int, flags: EngineFlags) -> None:
    trace = [(number, EngineRequest(f"r{number}", prompt, output)) for number in range(count)]
    flags = replace(flags, batch_padding=False, batch_answers_wait=False)
    plain = play(static(PROFILE, flags), trace)
    assert play(static(PROFILE, replace(flags, batch_padding=True)), trace) == plain
    waited = play(static(PROFILE, replace(flags, batch_answers_wait=True)), trace)
    assert finishes(waited.events) == finishes(plain.events)


@few
@given(traces(), flag_sets())
def test_padding_costs_no_time_where_every_step_takes_as_long(trace: list[Arrival], flags: EngineFlags) -> None:
    constant = EngineProfile("constant", "uncalibrated", (0, *[1000] * 2000), 0, 0, 0, 0, 0, kv_tokens=10**6)
    flags = replace(flags, batch_padding=False)
    padded = replace(flags, batch_padding=True)
    assert play(static(constant, padded), trace).events == play(static(constant, flags), trace).events


@few
@given(traces(), profiles, flag_sets(), st.booleans(), st.booleans())
def test_continuous_batches_neither_pad_nor_wait(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags, padding: bool, waits: bool
) -> None:
    other = replace(flags, batch_padding=padding, batch_answers_wait=waits)
    assert play(InstanceModel(profile, other), trace) == play(InstanceModel(profile, flags), trace)


@few
@given(traces(), profiles, flag_sets())
def test_nobody_is_evicted_from_a_static_batch(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags
) -> None:
    # A batch that others put together may not fit: then it is halved, and one half starts anew.
    instance = static(profile, replace(flags, batch_given=False))
    play(instance, trace)
    assert instance.view().preemption_count == 0


@pytest.mark.parametrize("batcher", BATCHERS)
@few
@given(trace=traces())
def test_a_delay_only_moves_who_finds_the_engine_empty(batcher: str, trace: list[Arrival]) -> None:
    apart = [(number * 10**7, request) for number, (_, request) in enumerate(trace)]
    delayed = play(InstanceModel(AMPLE, GATHER, BATCHERS[batcher]()), apart).events
    prompt = play(InstanceModel(AMPLE, EngineFlags(), BATCHERS[batcher]()), apart).events
    assert [event._replace(at_ps=event.at_ps + DELAY_PS) for event in prompt] == delayed
