"""Llumnix' band of steps left, with blocks counted by hand: a cache of 1,600 tokens is 100 blocks."""

from typing import Any

import pytest

from forebay.autoscaler.policy.autoscaler.base import Choice, InstanceView
from forebay.autoscaler.policy.autoscaler.llumnix_band import LlumnixBand
from forebay.core.pressure import InstancePressure
from tests.unit.autoscaler.policy.kit import NOW, S, server, view


def choose(*servers: InstanceView, load: float = 0.0, wanted: int = 0, starting: int = 0, **others: Any) -> Choice:
    count = len(servers)
    wanted = wanted or count + starting
    pool = view(load, ready=count, wanted=wanted, instances=servers, kv_tokens=1_600, starting_count=starting, **others)
    return LlumnixBand().choose(pool)


def test_few_steps_left_bring_as_many_as_are_needed() -> None:
    # free 20 + 10 blocks, 15 requests: 2 steps; 10 need 150 blocks, 120 more: 2 instances.
    choice = choose(server("a", 0.8, running=10), server("b", 0.9, running=5), load=15.0)
    assert choice.inputs["steps"] == pytest.approx(2.0)
    assert choice.instances_wanted == 4


def test_what_starts_counts_as_empty() -> None:
    servers = [server("a", 0.8, running=10), server("b", 0.9, running=5)]
    assert choose(*servers, load=15.0, starting=2, wanted=4).instances_wanted == 4


def test_what_waits_takes_its_prompt() -> None:
    # free 30 blocks less 480 / 16 = 30 of prompts: nothing is left to 3 requests, who need 30 blocks: one more.
    waiting = server("a", 0.7, running=2, waiting=1, pressure=InstancePressure("a", prefill_tokens=480))
    choice = choose(waiting, load=3.0)
    assert choice.inputs["free_blocks"] == pytest.approx(0.0)
    assert choice.instances_wanted == 2


def test_what_no_instance_has_yet_waits_too() -> None:
    # 40 blocks for 2 running and 8 held less a block each: 32 / 10 steps.
    assert choose(server("a", 0.6, running=2), load=10.0).inputs["steps"] == pytest.approx(3.2)


def test_one_leaves_when_many_steps_are_left_even_without_it() -> None:
    # free 95 + 70; without one 65 blocks: 65 steps to one request, 32.5 to two.
    assert choose(server("a", 0.05, running=1), server("b", 0.3), load=1.0).instances_wanted == 1
    assert choose(server("a", 0.05, running=1), server("b", 0.3, running=1), load=2.0).instances_wanted == 2


def test_a_shrink_that_a_limit_puts_off_is_not_followed_by_another() -> None:
    idle = [server(name) for name in "abcde"]
    assert choose(*idle, wanted=4).instances_wanted == 4


def test_an_idle_pool_shrinks_to_one() -> None:
    assert choose(server("a"), server("b")).instances_wanted == 1
    assert choose(server("a")).instances_wanted == 1


def test_nothing_leaves_while_one_starts_or_does_not_tell() -> None:
    assert choose(server("a"), server("b"), starting=1).instances_wanted == 3
    assert choose(server("a"), server("b", None)).instances_wanted == 2


def test_without_any_figure_the_plan_holds() -> None:
    assert "no server tells" in choose(server("a", None), server("b", None)).reason
    assert LlumnixBand().choose(view(50.0, instances=(server("a", 0.9),))).instances_wanted == 1


def test_from_none_what_is_held_brings_the_first() -> None:
    assert choose(load=3.0).instances_wanted == 1


def test_the_band_is_looked_at_once_a_period() -> None:
    full = server("a", 1.0, running=10)
    assert choose(full, load=10.0, memo={"at_us": float(NOW - 9 * S)}).instances_wanted == 1
    assert choose(full, load=10.0, memo={"at_us": float(NOW - 10 * S)}).instances_wanted == 2


@pytest.mark.parametrize("parameters", [{"steps_min": 60.0}, {"period_s": 0.0}])
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"steps_min|must"):
        LlumnixBand(**parameters)  # type: ignore[arg-type]
