"""Time inside a stretch, against a loop that adds up one iteration after another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import compute_profile
from forebay.simulator.kernel import columns as at
from forebay.simulator.kernel.stretch import affordable, blocks_needed, boundary_ps, passed
from forebay.simulator.kernel.structures import heap_remove, heap_up

A100 = compute_profile("A100-80G", "Llama-3-8B", max_batch_tokens=512)


def stretch(decodes: int, context: int, length: int, begun_ps: int) -> list[int]:
    """An instance in the middle of nothing but decodes."""
    inst = [0] * at.INST_WIDTH
    inst[at.START] = begun_ps
    inst[at.LENGTH] = length
    inst[at.STEP] = A100.iteration_ps[decodes] + A100.decode_ps * decodes
    inst[at.SLOPE] = A100.context_token_ps
    inst[at.DECODES] = decodes
    inst[at.CONTEXT] = context
    return inst


def summed(decodes: int, context: int, length: int, begun_ps: int) -> list[int]:
    """The ends of the iterations, one by one."""
    ends_ps = []
    for _ in range(length):
        begun_ps += A100.duration_ps(decodes, context)
        context += decodes
        ends_ps.append(begun_ps)
    return ends_ps


stretches = st.tuples(st.integers(1, 256), st.integers(256, 400_000), st.integers(2, 60), st.integers(0, 10**17))


@given(stretches)
def test_boundaries_are_where_a_loop_finds_them(case: tuple[int, int, int, int]) -> None:
    inst = stretch(*case)
    inst[at.END] = summed(*case)[-1]
    assert [boundary_ps(inst, 0, n) for n in range(1, case[2] + 1)] == summed(*case)


@given(stretches, st.integers(-1, 1))
def test_a_boundary_has_passed_at_its_own_instant_and_not_before(case: tuple[int, int, int, int], off_ps: int) -> None:
    inst = stretch(*case)
    for j, end_ps in enumerate(summed(*case)[:-1]):
        assert passed(inst, 0, end_ps + off_ps) == (j if off_ps < 0 else j + 1)


@pytest.mark.parametrize("length", [1_000, 65_536])
def test_a_bad_guess_is_put_right_over_long_stretches(length: int) -> None:
    inst = stretch(256, 10_000, length, 12_345)
    ends_ps = summed(256, 10_000, length, 12_345)
    for j in (0, 1, length // 2, length - 2):
        assert [passed(inst, 0, ends_ps[j] + off_ps) for off_ps in (-1, 0, 1)] == [j, j + 1, j + 1]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 30), st.integers(0, 300))
def test_blocks_last_as_long_as_a_loop_can_take_them(residues: list[int], clock: int, free: int) -> None:
    residues[0] += 1
    inst = [0] * at.INST_WIDTH
    inst[at.BLOCK], inst[at.CLOCK], inst[at.FREE], inst[at.DECODES] = len(residues), clock, free, sum(residues)
    n, taken = 0, 0
    while True:
        more = residues[-(clock + n) % len(residues)]
        if taken + more > free:
            break
        n, taken = n + 1, taken + more
        assert blocks_needed(inst, residues, 0, n) == taken
    assert affordable(inst, residues, 0) == n


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50)), max_size=60))
def test_the_heap_gives_the_lowest_stop_whatever_is_taken_out(moves: list[tuple[int, int]]) -> None:
    room, inside = [0] * 140, list[int]()
    for number, (stop, place) in enumerate(moves):
        if place < 40 or not inside:
            heap_up(room, 2, len(inside), stop, number)
            inside.append(stop)
        else:
            k = place % len(inside)
            inside.remove(room[2 + 2 * k])
            heap_remove(room, 2, len(inside) + 1, k)
        assert sorted(room[2 : 2 + 2 * len(inside) : 2]) == sorted(inside)
        assert not inside or room[2] == min(inside)
