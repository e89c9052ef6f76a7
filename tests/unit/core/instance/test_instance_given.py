"""Batches that others put together: they start whole, wait for stragglers a while, and split where memory runs out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import Batch, EngineFlags, EngineProfile, EngineRequest, InstanceModel, PrefillChunk
from forebay.core.instance.batcher import BATCHERS
from tests.unit.core.instance.kit import AMPLE, FOREVER, PROFILE, few

DELAY_PS = 1_000_000
GIVEN = EngineFlags(batch_given=True, batch_delay_ps=DELAY_PS, batch_padding=True, batch_answers_wait=True)


def engine(profile: EngineProfile = AMPLE, flags: EngineFlags = GIVEN) -> InstanceModel:
    return InstanceModel(profile, flags, BATCHERS["static"]())


def asked(name: str, prompt: int, output: int, batch: Batch = Batch("b", 2)) -> EngineRequest:
    return EngineRequest(name, prompt, output, batch=batch)


def ends(instance: InstanceModel, until_ps: int = FOREVER) -> dict[str, int]:
    return {event.request_id: event.at_ps for event in instance.advance(until_ps) if event.finished}


def test_a_given_batch_starts_when_all_of_it_is_there_and_ends_with_its_longest_answer() -> None:
    instance = engine()
    instance.arrive(asked("a", 5, 3), 0)
    assert instance.view().running_count == 0
    instance.arrive(asked("b", 7, 2), 10)
    first_ps = 10 + AMPLE.duration_ps(0, 0, [PrefillChunk(7, 0), PrefillChunk(7, 0)])
    end_ps = first_ps + AMPLE.duration_ps(2, 14) + AMPLE.duration_ps(2, 16)
    assert ends(instance) == {"a": end_ps, "b": end_ps}


def test_a_batch_whose_requests_do_not_all_come_starts_after_the_delay() -> None:
    instance = engine()
    instance.arrive(asked("a", 5, 1, Batch("b", 3)), 0)
    instance.arrive(asked("b", 5, 1, Batch("b", 3)), 700)
    end_ps = DELAY_PS + AMPLE.duration_ps(0, 0, [PrefillChunk(5, 0), PrefillChunk(5, 0)])
    assert ends(instance) == {"a": end_ps, "b": end_ps}


def test_a_request_that_was_dropped_is_not_waited_for() -> None:
    instance = engine()
    instance.arrive(asked("a", 5, 1), 0)
    instance.cancel("a", 5)
    instance.arrive(asked("b", 5, 1), 10)
    assert ends(instance) == {"b": 10 + AMPLE.duration_ps(0, 0, [PrefillChunk(5, 0)])}


def test_requests_without_a_batch_are_batches_of_one() -> None:
    instance = engine()
    instance.arrive(EngineRequest("a", 5, 2), 0)
    instance.arrive(EngineRequest("b", 5, 2), 1)
    one_ps = AMPLE.duration_ps(0, 0, [PrefillChunk(5, 0)]) + AMPLE.duration_ps(1, 5)
    assert ends(instance) == {"a": one_ps, "b": 2 * one_ps}


def test_the_next_batch_waits_until_the_one_that_runs_has_ended() -> None:
    instance = engine()
    for name, batch in (("a", "x"), ("c", "y"), ("b", "x"), ("d", "y")):
        instance.arrive(asked(name, 5, 4, Batch(batch, 2)), 0)
    done = ends(instance)
    assert done["a"] == done["b"] < done["c"] == done["d"]


def test_memory_that_runs_out_splits_the_batch_into_halves_that_start_anew() -> None:
    # 12 blocks of 4 tokens: four prompts of one block and answers of 16 tokens do not fit, two do.
    instance = engine(replace(PROFILE, kv_tokens=48))
    for name in "abcd":
        instance.arrive(asked(name, 4, 16, Batch("b", 4)), 0)
    done = ends(instance)
    assert done["a"] == done["b"] < done["c"] == done["d"]
    alone = engine(replace(PROFILE, kv_tokens=48))
    for name in "ab":
        alone.arrive(asked(name, 4, 16), 0)
    assert done["d"] - done["b"] == ends(alone)["b"]
    assert instance.view().preemption_count == 4


def test_a_given_batch_needs_a_delay() -> None:
    with pytest.raises(ValueError, match="needs a batch_delay"):
        EngineFlags(batch_given=True)


@few
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 20), st.integers(0, 3)), min_size=1, max_size=12))
def test_every_request_of_every_batch_ends_once_and_all_memory_comes_back(rows: list[tuple[int, int, int]]) -> None:
    instance = engine(replace(PROFILE, kv_tokens=48))
    sizes = {name: sum(row[2] == name for row in rows) for name in range(4)}
    taken = [
        number
        for number, (prompt, output, name) in enumerate(rows)
        if instance.arrive(asked(str(number), prompt, output, Batch(f"b{name}", sizes[name])), 0)
    ]
    finished = [event.request_id for event in instance.advance(FOREVER) if event.finished]
    assert sorted(finished) == sorted(map(str, taken))
    view = instance.view()
    assert (view.free_block_count, view.running_count, view.waiting_count) == (view.block_count, 0, 0)
