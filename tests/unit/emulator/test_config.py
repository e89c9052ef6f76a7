"""Configurations that cannot be are refused with what is wrong."""

import dataclasses
from typing import Any

import pytest

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


def test_weights_take_the_given_time_or_that_of_their_size() -> None:
    assert ColdStart(weights_s=3).load_s(10**10) == 3
    assert ColdStart(weights_s=-1).load_s(16 * 10**9) == 8


def test_negative_phases_and_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="cold-start"):
        ColdStart(image_s=-1)
    with pytest.raises(ValueError, match="median_tokens"):
        Lengths(median_tokens=0)
