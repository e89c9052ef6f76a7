"""The pass of an iteration, from plain views: running first, evict from the tail, admit from the head."""

from dataclasses import dataclass
from typing import Any

from forebay.core.instance import EngineFlags
from forebay.core.instance.batcher import BATCHERS, BatchPlan, BatchView, ChunkPlan
from tests.unit.core.instance.kit import SMALL


@dataclass(frozen=True, slots=True)
class Seen:
    request_id: str
    cached_tokens: int = 0
    target_tokens: int = 1
    hit_tokens: int = 0
    tokens_max: int = 1
    decoding: bool = False
    priority: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        return self.priority, ord(self.request_id)


def decoding(request_id: str, context_tokens: int, priority: int = 0) -> Seen:
    return Seen(request_id, context_tokens, context_tokens + 1, decoding=True, priority=priority)


def plan(running: list[Seen], waiting: list[Seen], free_blocks: int, **flags: Any) -> BatchPlan:
    view = BatchView(running, waiting, free_blocks, SMALL, EngineFlags(**flags))
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


def test_the_worst_rank_is_evicted_and_gives_its_share_of_the_pass_back() -> None:
    late_but_urgent = Seen("c", 4, 30, priority=0)
    planned = plan([decoding("a", 3, 1), decoding("b", 8, 2), late_but_urgent], [], 2, order="priority")
    assert planned.preempted == ("b",)
    assert planned.decodes == ("a",)
    assert planned.chunks == (ChunkPlan("c", 14),)


def test_a_victim_that_was_served_in_the_pass_returns_blocks_and_budget() -> None:
    planned = plan([decoding("a", 8, 2), Seen("b", 8, 18, priority=1)], [], 2, order="priority")
    assert planned == BatchPlan((), (ChunkPlan("b", 10),), preempted=("a",))


def test_a_head_of_the_queue_evicts_nobody_unless_the_order_is_preemptive() -> None:
    running, waiting = [decoding("a", 7, 1), decoding("b", 3, 1)], [Seen("w", 0, 8)]
    assert plan(running, waiting, 1, order="priority").preempted == ()
    planned = plan(running, waiting, 1, order="preemptive")
    assert planned == BatchPlan(("a",), (ChunkPlan("w", 8),), preempted=("b",), admitted=("w",))


def test_a_preemptive_head_evicts_no_more_than_it_takes_and_none_in_vain() -> None:
    running = [decoding("a", 7, 1), decoding("b", 7, 2), decoding("c", 7, 0)]
    assert plan(running, [Seen("w", 0, 12)], 1, order="preemptive").preempted == ("b",)
    assert plan(running, [Seen("w", 0, 20)], 1, order="preemptive").preempted == ("b", "a")
    assert plan(running, [Seen("w", 0, 24)], 1, order="preemptive").preempted == ()


def test_a_preemptive_head_takes_a_seat_as_well() -> None:
    running = [decoding(name, 1, 1) for name in "abcd"]
    planned = plan(running, [Seen("w", 0, 2)], 5, order="preemptive")
    assert (planned.preempted, planned.admitted) == (("d",), ("w",))


def test_a_preemptive_head_never_evicts_its_equals() -> None:
    assert plan([decoding("a", 7, 1), decoding("b", 3, 1)], [Seen("w", 0, 8, priority=1)], 1, order="preemptive") == (
        BatchPlan(("a", "b"), ())
    )


def test_who_ranks_behind_a_victim_waits_behind_it() -> None:
    running = [decoding("a", 15, 5)]
    waiting = [Seen("w", 0, 4, priority=0), Seen("x", 0, 4, priority=1), Seen("y", 0, 4, priority=6)]
    planned = plan(running, waiting, 0, order="preemptive")
    assert (planned.preempted, planned.admitted) == (("a",), ("w", "x"))


def test_a_preemptive_head_waits_for_budget_in_patience() -> None:
    assert plan([Seen("a", 0, 99, priority=1)], [Seen("w", 0, 4)], 10, order="preemptive").preempted == ()


def test_a_preemptive_head_may_spend_what_its_victims_gave_back() -> None:
    planned = plan([decoding("a", 7, 1)], [Seen("w", 0, 16)], 3, order="preemptive")
    assert (planned.preempted, planned.chunks) == (("a",), (ChunkPlan("w", 16),))
