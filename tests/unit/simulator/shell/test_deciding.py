"""Answers take effect once the scheduler's processor had the time for them."""

import numpy as np
import pytest

from forebay.simulator.config import NetworkConfig
from tests.unit.simulator.shell.worlds import S, group, run, workload, world


def test_a_placement_takes_effect_when_it_has_been_decided() -> None:
    at_once, later = (
        run(workload([S]), world(network=NetworkConfig(decision_ms=decision_ms))).requests for decision_ms in (0.0, 8.0)
    )
    assert later.first_us[0] - at_once.first_us[0] == 8_000
    assert later.finish_us[0] - at_once.finish_us[0] == 8_000


def test_decisions_of_one_instant_are_made_one_after_the_other() -> None:
    slow = world(group(4), network=NetworkConfig(decision_ms=100.0))
    first_us = run(workload([0] * 4), slow).requests.first_us
    assert np.diff(first_us).tolist() == [100_000] * 3


def test_decisions_take_less_than_a_microsecond_where_the_world_says_so() -> None:
    assert run(workload([S]), world(network=NetworkConfig(decision_ms=0.0001))).end_us > 0


def test_a_no_takes_its_time_too() -> None:
    unknown = workload([0], names={"models": ("other",)})
    assert run(unknown, world(network=NetworkConfig(decision_ms=5.0))).end_us == 5_000


def test_time_cannot_be_won() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        NetworkConfig(decision_ms=-1.0)
