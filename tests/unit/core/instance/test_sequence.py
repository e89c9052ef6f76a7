"""Requests and flags that cannot be are refused."""

from typing import Any

import pytest

from forebay.core.instance import EngineFlags, EngineRequest


@pytest.mark.parametrize(
    "counts",
    [
        {"prompt_tokens": 0, "output_tokens": 1},
        {"prompt_tokens": 1, "output_tokens": 0},
        {"prompt_tokens": 1, "output_tokens": 1, "hit_tokens": -1},
        {"prompt_tokens": 1, "output_tokens": 5, "output_tokens_max": 4},
    ],
)
def test_a_request_needs_counts_that_can_be(counts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="request 'a'"):
        EngineRequest("a", **counts)


def test_the_longest_answer_is_the_limit_or_the_truth() -> None:
    assert EngineRequest("a", 10, 5).tokens_max == 15
    assert EngineRequest("a", 10, 5, output_tokens_max=20).tokens_max == 30


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"watermark_blocks": -1}, "must not be negative"),
        ({"model_tokens_max": -1}, "must not be negative"),
        ({"swap_block_ps": -1}, "must not be negative"),
        ({"preemption": "none"}, "preemption must be one of recompute, swap, got 'none'"),
        ({"order": "random"}, "order must be one of fcfs, priority, preemptive, got 'random'"),
        ({"order": "preemptive", "no_evict": True}, "cannot have the order 'preemptive'"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        EngineFlags(**flags)
