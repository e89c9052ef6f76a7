"""The batch of an engine without in-flight batching, from plain views: formed once, prefilled, decoded together."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from forebay.core.instance import EngineFlags
from forebay.core.instance.batcher import BATCHERS, BatchPlan, BatchView, ChunkPlan
from tests.unit.core.instance.kit import SMALL


@dataclass(frozen=True, slots=True)
class Seen:
    request_id: str
    target_tokens: int
    tokens_max: int = 0
    cached_tokens: int = 0
    hit_tokens: int = 0
    decoding: bool = False

    @property
    def rank(self) -> tuple[int, int]:
        return 0, ord(self.request_id)


def waiting(request_id: str, prompt_tokens: int, answer_max: int = 0, hit_tokens: int = 0) -> Seen:
    return Seen(request_id, prompt_tokens, prompt_tokens + answer_max, hit_tokens=hit_tokens)


def decoding(request_id: str, context_tokens: int) -> Seen:
    return Seen(request_id, context_tokens + 1, context_tokens + 9, context_tokens, decoding=True)


def plan(running: list[Seen], queue: list[Seen], free_blocks: int = 10, **flags: Any) -> BatchPlan:
    profile = replace(SMALL, kv_tokens=400)
    return BATCHERS["static"]().plan(BatchView(running, queue, free_blocks, profile, EngineFlags(**flags)))


def test_a_batch_takes_the_head_of_the_queue_up_to_its_seats() -> None:
    planned = plan([], [waiting(name, 2) for name in "abcde"])
    assert planned.admitted == ("a", "b", "c", "d")
    assert planned.chunks == tuple(ChunkPlan(name, 2) for name in "abcd")


def test_nobody_joins_a_batch_that_runs() -> None:
    planned = plan([decoding("a", 3)], [waiting("b", 2)])
    assert planned == BatchPlan(("a",), ())


@pytest.mark.parametrize(
    ("flags", "admitted"),
    [
        ({}, ("a", "b")),
        ({"watermark_blocks": 1}, ("a",)),
        ({"batch_answers_wait": True}, ("a",)),
        ({"batch_padding": True}, ("a",)),
    ],
)
def test_the_blocks_of_all_prompts_and_longest_answers_are_free_together(
    flags: dict[str, Any], admitted: tuple[str, ...]
) -> None:
    assert plan([], [waiting("a", 8, 4), waiting("b", 4, 8)], 6, **flags).admitted == admitted


def test_padded_rows_reserve_the_longest_prompt_and_the_longest_answer_of_the_batch() -> None:
    queue = [waiting("a", 8, 4), waiting("b", 4, 8)]
    assert plan([], queue, 8, batch_padding=True).admitted == ("a", "b")
    assert plan([], queue, 7, batch_padding=True).admitted == ("a",)
    assert plan([], queue, 7, batch_answers_wait=True).admitted == ("a", "b")


def test_the_first_request_is_taken_even_if_its_longest_answer_would_not_fit() -> None:
    assert plan([], [waiting("a", 8, 90), waiting("b", 1)]).admitted == ("a",)


def test_prompts_share_the_budget_and_go_on_in_order() -> None:
    planned = plan([], [waiting("a", 10), waiting("b", 10), waiting("c", 10)])
    assert planned.chunks == (ChunkPlan("a", 10), ChunkPlan("b", 6))
    assert planned.admitted == ("a", "b", "c")
    running = [decoding("a", 10), Seen("b", 10, 10, 6), Seen("c", 10, 10)]
    assert plan(running, []) == BatchPlan((), (ChunkPlan("b", 4), ChunkPlan("c", 10)))


def test_without_chunking_a_prompt_that_exceeds_the_budget_left_waits_whole() -> None:
    queue = [waiting("a", 10), waiting("b", 10), waiting("c", 2)]
    assert plan([], queue, chunked_prefill=False).chunks == (ChunkPlan("a", 10),)


def test_nobody_decodes_before_all_prompts_are_computed() -> None:
    assert plan([decoding("a", 10), Seen("b", 10, 10, 6)], []).decodes == ()
    assert plan([decoding("a", 10), decoding("b", 10)], []).decodes == ("a", "b")


def test_a_prefix_hit_shortens_the_chunk() -> None:
    assert plan([], [waiting("a", 12, 0, 8)]).chunks == (ChunkPlan("a", 4),)
    assert plan([], [waiting("a", 12, 0, 8), waiting("b", 14)], batch_padding=True).chunks == (
        ChunkPlan("a", 6),
        ChunkPlan("b", 10),
    )


def test_prompts_are_padded_to_the_longest_of_the_batch_when_it_is_formed() -> None:
    planned = plan([], [waiting("a", 3), waiting("b", 5)], batch_padding=True)
    assert planned.padded_tokens == 5
    assert planned.chunks == (ChunkPlan("a", 5), ChunkPlan("b", 5))
    assert plan([decoding("a", 5)], [], batch_padding=True).padded_tokens == 0


def test_rows_stay_where_they_are_padded_or_answers_wait() -> None:
    row = [decoding("a", 3)]
    assert not plan(row, []).rows_stay
    assert plan(row, [], batch_padding=True).rows_stay
    planned = plan(row, [], batch_answers_wait=True)
    assert planned.rows_stay
    assert planned.answers_wait
