"""Configurations that cannot be are refused with what is wrong."""

import dataclasses
from typing import Any

import pytest

from forebay.core.instance import EngineFlags, compute_profile
from forebay.emulator.config import ColdStart, Config, Lengths, ModelSpec


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"time_scale": 0.0}, "time_scale"),
        ({"time_scale": float("nan")}, "time_scale"),
        ({"coalesce_us": -1}, "coalesce_us"),
        ({"exit_timeout_s": -1.0}, "exit_timeout_s"),
        ({"models": (ModelSpec("a"),), "available": (ModelSpec("a"),)}, "named once: a, a"),
    ],
)
def test_an_impossible_server_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(Config(), **changes)


@pytest.mark.parametrize("changes", [{"name": ""}, {"name": "a/b"}, {"kv_tokens": -1}, {"model_tokens_max": -1}])
def test_an_impossible_model_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must not"):
        dataclasses.replace(ModelSpec("m"), **changes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"batcher": "magic"}, r"batcher must be one of accelgen, alise, .*, static, tempo, got 'magic'"),
        ({"order": "random"}, "order must be one of"),
        ({"preemption": "none"}, "preemption must be one of"),
        ({"swap_gb_per_s": -1}, "swap_gb_per_s must not be negative"),
        ({"batch_delay_us": -1}, "batch_delay_ps must not be negative"),
        ({"order": "preemptive", "no_evict": True}, "cannot have the order"),
        ({"batch_given": True, "batch_delay_us": 5}, "batcher must be static"),
        ({"batch_given": True, "batcher": "static"}, "needs a batch_delay"),
    ],
)
def test_an_impossible_engine_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(ModelSpec("m"), **changes)


def test_a_model_says_how_its_engine_admits_and_evicts() -> None:
    spec = ModelSpec("m", watermark_blocks=2, order="priority", preemption="swap", batch_delay_us=5)
    profile = compute_profile("H100", "Llama-3-8B")
    assert spec.flags(profile, 900) == EngineFlags(
        watermark_blocks=2,
        model_tokens_max=900,
        order="priority",
        preemption="swap",
        swap_block_ps=profile.kv_transfer_ps(16, 16_000_000_000),
        batch_delay_ps=5_000_000,
    )


def test_nothing_that_is_swapped_takes_no_time_to_move() -> None:
    profile = compute_profile("H100", "Llama-3-8B")
    assert ModelSpec("m").flags(profile, 0).swap_block_ps == 0
    assert ModelSpec("m", preemption="swap", swap_gb_per_s=0).flags(profile, 0).swap_block_ps == 0


def test_a_cache_of_unknown_size_cannot_be_swapped() -> None:
    unknown = dataclasses.replace(compute_profile("H100", "Llama-3-8B"), kv_bytes_per_token_per_gpu=0)
    with pytest.raises(ValueError, match="kv_bytes_per_token_per_gpu"):
        ModelSpec("m", preemption="swap").flags(unknown, 0)


def test_weights_take_the_given_time_or_that_of_their_size() -> None:
    assert ColdStart(weights_s=3).load_s(10**10) == 3
    assert ColdStart(weights_s=-1).load_s(16 * 10**9) == 8


def test_negative_phases_and_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="cold-start"):
        ColdStart(image_s=-1)
    with pytest.raises(ValueError, match="median_tokens"):
        Lengths(median_tokens=0)
