"""Sarathi: bounded batches without stalls, by hand."""

import pytest

from tests.unit.core.instance.batcher.seen import chunks, decodes, plan, prefills, waits


def test_decodes_come_first_then_begun_prompts_then_new_ones_up_to_the_chunk_size() -> None:
    running = [prefills("a", 50, 20), decodes("b", 30), decodes("c", 8)]
    planned = plan("sarathi:chunk_tokens=40", running, [waits("d", 30), waits("e", 30)])
    assert planned.decodes == ("b", "c")
    assert chunks(planned) == {"a": 30, "d": 8}
    assert planned.admitted == ("d",)


def test_decodes_that_fill_the_chunk_leave_no_prompt_tokens_but_all_run() -> None:
    running = [decodes("a", 8), decodes("b", 8), decodes("c", 8), prefills("d", 50, 20)]
    planned = plan("sarathi:chunk_tokens=2", running, [waits("e", 5)])
    assert planned.decodes == ("a", "b", "c")
    assert (planned.chunks, planned.admitted, planned.preempted) == ((), (), ())


def test_where_memory_runs_out_the_last_decode_leaves_and_nobody_enters() -> None:
    planned = plan("sarathi", [decodes("a", 20), decodes("b", 20)], [waits("c", 5)], free_blocks=1)
    assert (planned.decodes, planned.preempted, planned.admitted) == (("a",), ("b",), ())


@pytest.mark.parametrize(("cached", "chunk"), [(0, 96), (80, 64), (160, 32), (200, 32)])
def test_chunks_shrink_as_a_prompt_proceeds_in_multiples_of_32(cached: int, chunk: int) -> None:
    begun = prefills("a", 380, cached) if cached else waits("a", 380)
    running, waiting = ([begun], []) if cached else ([], [begun])
    shrinking = "sarathi:chunk_tokens=96,chunk_tokens_min=32,shrink_tokens=160"
    assert chunks(plan(shrinking, running, waiting)) == {"a": chunk}


def test_a_chunk_as_large_as_the_budget_is_the_plan_of_chunked_prefill() -> None:
    running = [decodes("a", 8), decodes("b", 30), prefills("c", 50, 20)]
    waiting = [waits("d", 60), waits("e", 9)]
    one, other = plan("sarathi:chunk_tokens=100", running, waiting), plan("chunked_prefill", running, waiting)
    assert (one.decodes, one.chunks, one.admitted) == (other.decodes, other.chunks, other.admitted)
