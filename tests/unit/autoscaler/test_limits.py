"""The limits, one by one."""

import pytest

from forebay.autoscaler.config import Config
from forebay.autoscaler.limits import Spans, clamp, is_busy
from forebay.core.fleet import Bounds
from forebay.core.values import InstanceLoad

S = 1_000_000


@pytest.mark.parametrize(("wanted", "expected"), [(0, 1), (1, 1), (5, 5), (10, 10), (11, 10)])
def test_bounds_clamp(wanted: int, expected: int) -> None:
    assert clamp(wanted, Bounds("m", 1, 10)) == expected


def test_waiting_doubles_up_to_the_most() -> None:
    spans = Spans.of(Config(backoff_s_min=1.0, backoff_s_max=60.0))
    assert [spans.backoff_us(n) // S for n in (0, 1, 2, 3, 6, 7, 500)] == [0, 1, 2, 4, 32, 60, 60]


def test_a_server_is_busy_when_it_was_lately_seen_to_run_something() -> None:
    seen = InstanceLoad("i", "m", True, seen_us=10, running_count=1, waiting_count=0)
    assert is_busy(seen, 9)
    assert not is_busy(seen, 10)
    assert not is_busy(InstanceLoad("i", "m", True, seen_us=10), 9)
    assert not is_busy(InstanceLoad("i", "m", False, seen_us=10, running_count=1), 9)
    assert not is_busy(None, 0)
