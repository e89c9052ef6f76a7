"""The integers of a profile, what they add up to, and which are refused."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import EngineProfile, PrefillChunk
from forebay.core.units import PS_PER_S

PROFILE = EngineProfile(
    name="small",
    status="uncalibrated",
    iteration_ps=(0, *(1000 + 10 * tokens for tokens in range(1, 65))),
    decode_ps=3,
    context_token_ps=2,
    prefill_ps=50,
    half_pair_fixed=1024 * 5,
    prefill_token_fixed=1024 * 7,
    kv_tokens=70,
    max_seqs=8,
    block_size=4,
)


def test_a_decode_iteration_is_affine_in_the_context() -> None:
    assert PROFILE.duration_ps(4, 100) == 1040 + 4 * 3 + 100 * 2


def test_a_prefill_pays_for_its_pairs_and_its_tokens() -> None:
    pairs = 3 * (8 + 2)
    assert PROFILE.duration_ps(0, 0, [PrefillChunk(3, 8)]) == 1030 + 50 + 2 * 5 * pairs + 7 * 3


def test_a_mixed_iteration_pays_the_prefill_constant_once() -> None:
    chunks = [PrefillChunk(1, 0), PrefillChunk(2, 0)]
    assert PROFILE.duration_ps(1, 10, chunks) == 1040 + 3 + 20 + 50 + 2 * 5 * (1 + 3) + 7 * 3


def test_decodes_pay_for_sharing_an_iteration_with_prefills() -> None:
    shared = replace(PROFILE, mixed_context_token_ps=7, mixed_pair_ps=11)
    chunks = [PrefillChunk(3, 0), PrefillChunk(2, 0)]
    extra = shared.duration_ps(2, 50, chunks) - PROFILE.duration_ps(2, 50, chunks)
    assert extra == 7 * 50 + 11 * 2 * 5
    assert shared.duration_ps(2, 50) == PROFILE.duration_ps(2, 50)
    assert shared.duration_ps(0, 0, chunks) == PROFILE.duration_ps(0, 0, chunks)


@pytest.mark.parametrize(("fixed", "expected_ps"), [(511, 0), (512, 1), (1024 + 511, 1), (1024 + 512, 2)])
def test_parts_of_a_picosecond_are_rounded_half_up(fixed: int, expected_ps: int) -> None:
    profile = replace(PROFILE, half_pair_fixed=0, prefill_token_fixed=fixed)
    assert profile.duration_ps(0, 0, [PrefillChunk(1, 0)]) == 1010 + 50 + expected_ps


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 10_000)), min_size=2, max_size=3))
def test_the_order_of_chunks_does_not_matter(chunks: list[tuple[int, int]]) -> None:
    forward = [PrefillChunk(*chunk) for chunk in chunks]
    assert PROFILE.duration_ps(2, 30, forward) == PROFILE.duration_ps(2, 30, forward[::-1])


def test_blocks_are_whole() -> None:
    assert PROFILE.block_count == 17
    assert [PROFILE.blocks(tokens) for tokens in (0, 1, 4, 5)] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"decode_ps": -1}, "decode_ps must not be negative"),
        ({"half_pair_fixed": -1}, "half_pair_fixed must not be negative"),
        ({"frontend_ps": -1}, "frontend_ps must not be negative"),
        ({"iteration_ps": (1, *range(2, 66))}, "must start with 0"),
        ({"iteration_ps": (0, 5, 4, *range(6, 66))}, "must not fall"),
        ({"iteration_ps": (0,) * 65}, "must be positive"),
        ({"max_seqs": 64}, "max_seqs must be below the token budget"),
        ({"max_seqs": 0}, "max_seqs must be at least 1"),
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"kv_tokens": 3}, "kv_tokens must hold at least one block"),
        ({"context_token_ps": 2**40}, "context_token_ps overflows"),
    ],
)
def test_impossible_integers_are_refused_by_name(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(PROFILE, **changes)


def test_a_slowed_engine_takes_the_factor_longer() -> None:
    chunk = [PrefillChunk(20, 3)]
    assert PROFILE.slowed(3).duration_ps(4, 100, chunk) == 3 * PROFILE.duration_ps(4, 100, chunk)
    assert PROFILE.slowed(0.5).duration_ps(0, 0, chunk) == pytest.approx(PROFILE.duration_ps(0, 0, chunk) / 2, abs=2)


def test_a_slow_down_that_stops_time_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        PROFILE.slowed(0)


def test_moving_a_cache_takes_its_bytes_over_the_speed_of_the_link() -> None:
    profile = replace(PROFILE, kv_bytes_per_token_per_gpu=131_072)
    assert profile.kv_transfer_ps(16, 16_000_000_000) == 131_072_000
    assert profile.kv_transfer_ps(1, 3 * 131_072) == -(-PS_PER_S // 3)
    assert profile.kv_transfer_ps(0, 1) == 0


def test_a_cache_of_unknown_size_cannot_be_moved() -> None:
    with pytest.raises(ValueError, match="kv_bytes_per_token_per_gpu must be known"):
        PROFILE.kv_transfer_ps(1, 1)
