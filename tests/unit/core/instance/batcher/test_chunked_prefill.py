"""The pass of an iteration, from plain views: running first, evict from the tail, admit from the head."""

from dataclasses import dataclass

from forebay.core.instance import EngineFlags, EngineProfile
from forebay.core.instance.batcher import BATCHERS, BatchPlan, BatchView, ChunkPlan

PROFILE = EngineProfile(
    name="small",
    status="uncalibrated",
    iteration_ps=tuple(range(17)),
    decode_ps=0,
    context_token_ps=0,
    prefill_ps=0,
    half_pair_fixed=0,
    prefill_token_fixed=0,
    kv_tokens=40,
    max_seqs=4,
    block_size=4,
)


@dataclass(frozen=True, slots=True)
class Seen:
    request_id: str
    cached_tokens: int = 0
    target_tokens: int = 1
    hit_tokens: int = 0
    tokens_max: int = 1
    decoding: bool = False


def decoding(request_id: str, context_tokens: int) -> Seen:
    return Seen(request_id, context_tokens, context_tokens + 1, decoding=True)


def plan(running: list[Seen], waiting: list[Seen], free_blocks: int, **flags: bool) -> BatchPlan:
    view = BatchView(running, waiting, free_blocks, PROFILE, EngineFlags(**flags))
    return BATCHERS["chunked_prefill"]().plan(view)


def test_a_decode_takes_a_block_only_when_its_last_one_is_full() -> None:
    assert plan([decoding("a", 7)], [], 0).decodes == ("a",)
    assert plan([decoding("a", 8), decoding("b", 3)], [], 0).preempted == ("b",)


def test_an_asker_at_the_tail_is_its_own_victim() -> None:
    planned = plan([decoding("a", 7), decoding("b", 8)], [], 0)
    assert (planned.decodes, planned.preempted) == (("a",), ("b",))


def test_victims_leave_from_the_tail_until_the_asker_fits() -> None:
    planned = plan([decoding("a", 8), decoding("b", 3), Seen("c", 0, 20)], [], 0)
    assert planned.preempted == ("c", "b")
    assert planned.decodes == ("a",)


def test_nobody_enters_in_a_pass_that_evicted() -> None:
    assert plan([decoding("a", 8), decoding("b", 3)], [Seen("w")], 0).admitted == ()


def test_prompts_share_the_budget_and_the_last_one_is_cut() -> None:
    planned = plan([decoding("a", 3)], [Seen("b", 0, 10), Seen("c", 0, 10), Seen("d")], 10)
    assert planned.chunks == (ChunkPlan("b", 10), ChunkPlan("c", 5))
    assert planned.admitted == ("b", "c")


def test_a_partial_prompt_goes_on_before_anyone_enters() -> None:
    planned = plan([Seen("a", 16, 30)], [Seen("b", 0, 4)], 10)
    assert planned.chunks == (ChunkPlan("a", 14), ChunkPlan("b", 2))


def test_a_prefix_hit_shortens_the_chunk_and_keeps_its_blocks() -> None:
    assert plan([], [Seen("a", 0, 12, hit_tokens=8)], 3).chunks == (ChunkPlan("a", 4),)
    assert plan([], [Seen("a", 0, 12, hit_tokens=8)], 2, reserve_full_prompt=False).admitted == ()


def test_a_plan_depends_on_nothing_but_the_view() -> None:
    running, waiting = [decoding("a", 8), Seen("b", 4, 30)], [Seen("c", 0, 9)]
    assert plan(running, waiting, 1) == plan(running, waiting, 1)
    assert [seen.request_id for seen in running] == ["a", "b"]
