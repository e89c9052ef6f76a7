"""Who gets seats, blocks and tokens where the most urgent are asked first."""

from forebay.core.instance import EngineFlags
from forebay.core.instance.batcher import BatchPlan, BatchView
from forebay.core.instance.batcher.filling import Filling
from tests.unit.core.instance.batcher.seen import CLEAR, MS_PS, Seen, chunks, decodes, prefills, waits


def filled(
    order: list[Seen], free_blocks: int, limit_ms: int = 0, flags: EngineFlags | None = None, most: int | None = None
) -> BatchPlan:
    running = [one for one in order if one.block_count]
    waiting = [one for one in order if not one.block_count]
    view = BatchView(running, waiting, free_blocks, CLEAR, flags or EngineFlags())
    return Filling(view, limit_ms * MS_PS, most).take_all(order).plan()


def test_whoever_comes_first_gets_the_memory_and_the_last_is_evicted() -> None:
    planned = filled([decodes("b", 50), waits("c", 35), decodes("a", 20)], free_blocks=3)
    assert planned.decodes == ("b",)
    assert chunks(planned) == {"c": 35}
    assert planned.preempted == ("a",)
    assert planned.jumps_queue


def test_who_runs_stays_beside_a_waiting_one_that_finds_no_room() -> None:
    planned = filled([decodes("b", 50), waits("c", 95), decodes("a", 18)], free_blocks=2)
    assert planned.decodes == ("b", "a")
    assert (planned.admitted, planned.preempted) == ((), ())


def test_nobody_enters_after_somebody_who_found_no_room() -> None:
    planned = filled([waits("a", 95), waits("b", 5)], free_blocks=3)
    assert planned.admitted == ()
    planned = filled([decodes("c", 30), decodes("d", 30), waits("b", 5)], free_blocks=1)
    assert (planned.preempted, planned.admitted) == (("d",), ())


def test_prompts_share_what_decodes_leave_of_the_budget() -> None:
    planned = filled([waits("a", 90), decodes("c", 8), prefills("b", 60, 20)], free_blocks=40)
    assert planned.decodes == ("c",)
    assert chunks(planned) == {"a": 90, "b": 9}


def test_a_prompt_without_tokens_keeps_its_cache_and_waits() -> None:
    planned = filled([decodes("c", 8), prefills("b", 60, 20)], free_blocks=10, most=0)
    assert (planned.decodes, planned.chunks, planned.preempted) == (("c",), (), ())


def test_a_chunk_shrinks_to_the_blocks_that_are_left() -> None:
    planned = filled([decodes("c", 10), prefills("b", 90, 20)], free_blocks=3)
    assert chunks(planned) == {"b": 20}


def test_an_iteration_keeps_its_limit() -> None:
    planned = filled([decodes("c", 8), decodes("d", 8), waits("a", 90)], free_blocks=30, limit_ms=60)
    assert chunks(planned) == {"a": 40}


def test_an_optional_decode_waits_where_the_iteration_would_get_too_long() -> None:
    running = [decodes("a", 8), decodes("b", 8), decodes("c", 8)]
    filling = Filling(BatchView(running, [], 30, CLEAR, EngineFlags()), 20 * MS_PS)
    for one in running:
        assert filling.take(one, optional=True)
    planned = filling.plan()
    assert (planned.decodes, planned.preempted) == (("a", "b"), ())


def test_engines_that_never_evict_reserve_whole_answers() -> None:
    flags = EngineFlags(no_evict=True)
    running = decodes("a", 50, tokens_max=250)
    assert filled([running, waits("b", 30, tokens_max=150)], 35, flags=flags).admitted == ("b",)
    assert filled([running, waits("b", 30, tokens_max=151)], 35, flags=flags).admitted == ()


def test_prompts_in_one_piece_heed_no_limit() -> None:
    flags = EngineFlags(chunked_prefill=False)
    assert chunks(filled([waits("a", 90)], 30, limit_ms=5, flags=flags, most=3)) == {"a": 90}
    assert filled([decodes("c", 8), waits("a", 100)], 30, flags=flags).admitted == ()


def test_admission_leaves_the_watermark_and_whole_prompts_free() -> None:
    assert filled([waits("a", 30)], 4, flags=EngineFlags(watermark_blocks=1)).admitted == ("a",)
    assert filled([waits("a", 30)], 3, flags=EngineFlags(watermark_blocks=1)).admitted == ()
    assert filled([waits("a", 120)], 10).admitted == ()
    assert chunks(filled([waits("a", 120)], 10, flags=EngineFlags(reserve_full_prompt=False))) == {"a": 100}


def test_a_swapped_decode_enters_with_one_token() -> None:
    back = Seen("a", 41, hit_tokens=40, decoding=True, generated_tokens=9)
    planned = filled([back, waits("b", 100)], 40)
    assert planned.decodes == ("a",)
    assert chunks(planned) == {"b": 99}
