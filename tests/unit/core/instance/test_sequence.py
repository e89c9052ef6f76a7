"""Requests and flags that cannot be are refused."""

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


def test_negative_flags_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        EngineFlags(watermark_blocks=-1)
