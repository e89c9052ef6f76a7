"""Engines that choose who enters an iteration when the one before it begins."""

from dataclasses import replace

import pytest
from hypothesis import given

from forebay.core.instance import EngineFlags, EngineRequest, InstanceModel
from tests.unit.core.instance.kit import AMPLE, FOREVER, Arrival, traces

AHEAD = EngineFlags(admits_ahead=True)


def firsts(instance: InstanceModel, arrivals: list[tuple[str, int, int]]) -> dict[str, int]:
    """The number of the iteration that gave each request its first token; (name, output tokens, iteration begun)."""
    found: dict[str, int] = {}
    number = 0
    while arrivals or instance.next_ps is not None:
        while arrivals and arrivals[0][2] <= number:
            name, output_tokens, _ = arrivals.pop(0)
            instance.arrive(EngineRequest(name, 4, output_tokens), (instance.next_ps or 1) - 1)
        number += 1
        for event in instance.advance(instance.next_ps or 0):
            if event.token_count == 1:
                found[event.request_id] = number
    return found


@pytest.mark.parametrize(("flags", "second"), [(EngineFlags(), 2), (AHEAD, 3)])
def test_who_comes_during_an_iteration_misses_the_next_one_too(flags: EngineFlags, second: int) -> None:
    instance = InstanceModel(AMPLE, flags)
    instance.arrive(EngineRequest("a", 4, 9), 0)
    assert firsts(instance, [("b", 3, 0)]) == {"a": 1, "b": second}


@pytest.mark.parametrize(("flags", "third"), [(EngineFlags(), 4), (AHEAD, 5)])
def test_a_seat_that_comes_free_is_taken_one_iteration_later(flags: EngineFlags, third: int) -> None:
    instance = InstanceModel(replace(AMPLE, max_seqs=2), flags)
    instance.arrive(EngineRequest("a", 4, 3), 0)
    instance.arrive(EngineRequest("b", 4, 20), 0)
    assert firsts(instance, [("c", 3, 0)])["c"] == third, "a has its last token after the third iteration"


def test_an_engine_that_is_empty_starts_at_once() -> None:
    for flags in (EngineFlags(), AHEAD):
        instance = InstanceModel(replace(AMPLE, max_seqs=1), flags)
        instance.arrive(EngineRequest("a", 4, 3), 0)
        assert firsts(instance, [("b", 3, 0)]) == {"a": 1, "b": 4}


@given(traces())
def test_everybody_is_served_all_the_same(trace: list[Arrival]) -> None:
    ends = []
    for flags in (EngineFlags(), AHEAD):
        instance = InstanceModel(AMPLE, flags)
        tokens = 0
        for at_ps, request in trace:
            tokens += len(instance.advance(at_ps))
            instance.arrive(request, at_ps)
        tokens += len(instance.advance(FOREVER))
        ends.append((tokens, instance.view().finished_count, instance.view().free_block_count))
    assert ends[0] == ends[1]


def test_other_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="admits ahead needs the order 'fcfs', got 'priority'"):
        EngineFlags(admits_ahead=True, order="priority")
