import pytest

from forebay.scheduler.pace import Pace

S = 1_000_000


def test_nothing_is_known_before_the_first_amount() -> None:
    assert Pace().per_s(5 * S) == 0.0


def test_a_steady_stream_is_seen_as_its_rate_early_and_late() -> None:
    pace, rates = Pace(), []
    for tick in range(1, 601):
        pace.add(5, tick * S // 10)
        rates.append(pace.per_s(tick * S // 10))
    assert rates[30] == pytest.approx(50, rel=0.05)
    assert rates[-1] == pytest.approx(50, rel=0.01)


def test_a_stream_that_stopped_is_forgotten() -> None:
    pace = Pace()
    for tick in range(1, 101):
        pace.add(5, tick * S // 10)
    assert pace.per_s(70 * S) < 0.2


def test_one_amount_just_now_says_too_little() -> None:
    pace = Pace()
    pace.add(1_000, S)
    assert pace.per_s(S + 50_000) == 0.0
