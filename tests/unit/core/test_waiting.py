import heapq
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.values import LengthQuantiles
from forebay.core.waiting import Queue, Work, groups_in_danger, instances_to_add, wait_s, waits_s, work_of


def simulated_waits(lengths: Sequence[int], slot_count: int, first_free: Sequence[int]) -> list[int]:
    """Iterations until each of a queue starts where each slot makes a token an iteration; slots get free as told."""
    slots = list(first_free)
    heapq.heapify(slots)
    waits = []
    for length in lengths:
        free = heapq.heappop(slots)
        waits.append(free)
        heapq.heappush(slots, free + length)
    assert len(slots) == slot_count
    return waits


@given(length=st.integers(1, 400), count=st.integers(1, 40), slots=st.integers(1, 16))
def test_of_constant_lengths_the_mean_wait_is_the_simulated_one_within_an_iteration(
    length: int, count: int, slots: int
) -> None:
    """Slots that were filled one after the other get free one after the other, each a share of a length later."""
    first_free = [math.ceil(length * slot / slots) for slot in range(slots)]
    simulated = simulated_waits([length] * count, slots, first_free)
    iteration_s = 0.05
    expected = waits_s(np.full(count, float(length)), np.zeros(count), slots / iteration_s, z=0.0)
    assert np.all(np.abs(expected - np.array(simulated) * iteration_s) <= iteration_s + 1e-9)


def test_the_bound_covers_what_it_says_and_the_mean_about_half() -> None:
    generator = np.random.default_rng(3)
    mean, deviation, ahead = 120.0, 90.0, 40
    shape = (mean / deviation) ** 2
    sums = generator.gamma(shape, mean / shape, size=(4_000, ahead)).sum(axis=1)
    work = Work(ahead * mean, ahead * deviation**2)
    covered = {z: float((sums / 50 <= wait_s(work, 50.0, z)).mean()) for z in (0.0, 1.64)}
    assert 0.93 <= covered[1.64] <= 0.97
    assert 0.45 <= covered[0.0] <= 0.58


def test_the_bound_tightens_as_one_over_the_root_of_the_queue() -> None:
    one = Work(100.0, 80.0**2)
    widths = [
        wait_s(Work(count * one.mean_tokens, count * one.variance), 10.0) / (count * 10.0) - 1 for count in (4, 64)
    ]
    assert widths[0] == pytest.approx(4 * widths[1])
    assert widths[0] == pytest.approx(1.64 * 0.8 / 2)


def test_a_queue_waits_for_what_is_before_it_and_prompts_are_added() -> None:
    waits = waits_s(np.array([10.0, 30.0, 20.0]), np.array([0.0, 16.0, 9.0]), 10.0, z=2.0)
    assert waits.tolist() == pytest.approx([0.0, 1.0, 4.8])
    assert wait_s(Work(40.0, 16.0), 10.0, 2.0, prefill_s=0.5) == pytest.approx(5.3)


def test_where_nothing_is_generated_the_wait_has_no_end() -> None:
    assert wait_s(Work(1.0, 0.0), 0.0) == math.inf
    assert wait_s(Work(), 0.0, prefill_s=2.0) == 2.0
    assert waits_s(np.ones(2), np.zeros(2), 0.0).tolist() == [0.0, math.inf]


@given(st.lists(st.integers(0, 3_000), min_size=4, max_size=4).map(sorted))
def test_the_work_of_an_answer_is_the_mean_and_variance_of_its_quantile_curve(values: list[int]) -> None:
    work = work_of(LengthQuantiles(*values))
    p10, p50, p90, p97 = values
    levels = (np.arange(20_000) + 0.5) / 20_000
    ends = [0.5 * p10, p10, p50, p90, p97, p97 + (p97 - p90) * 3 / 7]
    drawn = np.interp(levels, [0, 0.1, 0.5, 0.9, 0.97, 1], ends)
    assert work.mean_tokens == pytest.approx(drawn.mean(), rel=1e-3, abs=1e-6)
    assert work.variance == pytest.approx(drawn.var(), rel=1e-2, abs=1e-3)
    assert work.plus(work) == Work(2 * work.mean_tokens, 2 * work.variance)


GROUPS = st.lists(st.tuples(st.integers(0, 4_000), st.integers(1, 300)), min_size=1, max_size=6)


def queue_of(groups: list[tuple[int, int]]) -> Queue:
    ordered = sorted(groups, key=lambda one: one[1])
    return Queue(tuple(Work(float(tokens)) for tokens, _ in ordered), tuple(float(left) for _, left in ordered))


@given(GROUPS, st.integers(0, 3))
def test_without_loading_the_closed_form_adds_what_one_at_a_time_would(
    groups: list[tuple[int, int]], serving: int
) -> None:
    queue, added = queue_of(groups), 0
    while groups_in_danger(queue, 10.0, serving + added, z=0.0):
        added += 1
    assert instances_to_add(queue, 10.0, serving, load_s=0.0, z=0.0) == (added, 0)


def test_what_nothing_can_save_is_told_and_does_not_drive_the_count() -> None:
    queue = Queue((Work(1_000.0), Work(100.0)), (20.0, 200.0))
    # The first needs 100 instance-seconds in 20 s, and a new instance takes 30 s to load.
    assert instances_to_add(queue, 10.0, serving=1, load_s=30.0, z=0.0) == (0, 1)
    # (60 - 20) / (20 - 10), rounded up.
    assert instances_to_add(Queue((Work(600.0),), (20.0,)), 10.0, 1, load_s=10.0, z=0.0) == (4, 0)


def test_the_bound_asks_for_more_than_the_mean() -> None:
    queue = Queue((Work(900.0, 300.0**2),), (100.0,))
    assert instances_to_add(queue, 10.0, 1, 0.0, z=0.0) == (0, 0)
    assert instances_to_add(queue, 10.0, 1, 0.0) == (1, 0)
    assert groups_in_danger(queue, 10.0, 1) == 1
