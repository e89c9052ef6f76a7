"""What is expected of one model, and what was learnt of it."""

import pytest

import forebay.autoscaler.policy.autoscaler  # noqa: F401 - policies are there before what they share
from forebay.autoscaler.planning.expectation import Expectation, Experience
from forebay.autoscaler.policy.autoscaler.base import Arrived, DemandView, ForecastWindow
from forebay.core.pressure import WaitingGroup
from forebay.core.values import ModelLoad, SloClass

S = 1_000_000
NOW = 600 * S


def window(start_s: int, tokens: float) -> ForecastWindow:
    return ForecastWindow(start_s * S, (1.0,) * 4, (0.0,) * 4, (tokens, tokens, 2 * tokens, 3 * tokens))


def arrived(*totals: tuple[int, float]) -> tuple[Arrived, ...]:
    """Totals of requests, ten response tokens each, by second."""
    return tuple(Arrived(at_s * S, count, 0.0, 10 * count) for at_s, count in totals)


def expected(*samples: tuple[int, float], now_s: int = 600, forecast: tuple[ForecastWindow, ...] = ()) -> Expectation:
    demand = DemandView("m", "local", SloClass.INTERACTIVE_FAST, arrived(*samples), forecast)
    return Expectation((demand,), (), 60 * S, now_s * S)


def test_a_burst_that_stands_out_counts_from_its_end() -> None:
    calm = expected((540, 0), (590, 50), (600, 60))
    assert calm.observed("", 60 * S, 1.0).response[1] == pytest.approx(10.0), "one request a second throughout"
    burst = expected((540, 0), (590, 50), (600, 150))
    assert burst.observed("", 60 * S, 1.0).response[1] == pytest.approx(80.0), "100 - 2 sqrt(100) requests in 10 s"


def test_chance_in_a_few_seconds_is_no_burst() -> None:
    lucky = expected((540, 0), (590, 50), (600, 66))
    assert lucky.observed("", 60 * S, 1.0).response[1] == pytest.approx(11.0), "16 instead of 10 happens"


def test_the_first_seconds_tell_no_rate() -> None:
    assert expected((591, 0), (600, 66)).observed("", 60 * S, 1.0).response[1] == 0.0
    assert expected((590, 0), (600, 100)).observed("", 60 * S, 1.0).response[1] == pytest.approx(100.0)


def test_how_far_off_a_forecast_is_now_is_what_arrives_as_a_part_of_its_median() -> None:
    first, second = (window(600, 600.0),), (window(660, 1_200.0),)
    known = Experience().after(expected((500, 0), (590, 90), now_s=590, forecast=first), first, 0.1)
    assert (known.start_us, known.next_start_us, known.next_median_rate) == (-1, 600 * S, 10.0)
    during = expected((570, 0), (630, 120), now_s=630, forecast=second)
    known = known.after(during, second, 0.1)
    assert (known.start_us, known.next_start_us) == (600 * S, 660 * S)
    chance = 1 + 2 * (2 / 120) ** 0.5
    found = known.anchor(during, during.observed("", 60 * S, 1.0), 60 * S)
    assert found == pytest.approx(2.0 / chance), "twice as much, as far as 120 requests can tell"
    later = expected((605, 0), (665, 120), now_s=665)
    known = known.after(later, (), 0.1)
    found = known.anchor(later, later.observed("", 60 * S, 1.0), 60 * S)
    assert found == 1.0, "20 of 20 a second, by its own median"
    gone = expected((705, 0), (765, 120), now_s=765)
    assert known.anchor(gone, gone.observed("", 60 * S, 1.0), 60 * S) == 1.0, "that window is over"


@pytest.mark.parametrize("count", [100, 140])
def test_what_chance_explains_puts_no_forecast_right(count: int) -> None:
    known = Experience(start_us=600 * S, median_rate=20.0)
    during = expected((570, 0), (630, count), now_s=630)
    assert known.anchor(during, during.observed("", 60 * S, 1.0), 60 * S) == 1.0


def test_a_window_above_its_p90_counts_as_a_miss_once_it_is_over() -> None:
    known = Experience(start_us=480 * S, upper_tokens=1_000.0, next_start_us=540 * S, next_upper_tokens=5.0)
    running = expected((480, 0), (530, 200), now_s=530)
    assert known.after(running, (), 0.5) == known
    over = known.after(expected((480, 0), (540, 200), now_s=545), (), 0.5)
    assert over.miss_share == pytest.approx(0.55)
    assert (over.start_us, over.upper_tokens) == (540 * S, 5.0)
    calm = expected((480, 0), (540, 20), now_s=545)
    assert known.after(calm, (), 0.5).miss_share == pytest.approx(0.05)


def test_answers_and_instances_teach_only_where_there_is_enough_to_see() -> None:
    load = ModelLoad("m", ended_count=40, response_tokens=8_000)
    assert Experience().of_answers(load, 400.0, 0.5).answer_share == pytest.approx(0.75)
    few = ModelLoad("m", ended_count=4, response_tokens=800)
    assert Experience().of_answers(few, 400.0, 0.5) == Experience()
    assert Experience().of_instances(1.5, 2.0, False, 0.5, 0.5).fullness == pytest.approx(0.9875)
    assert Experience().of_instances(0.1, 0.5, False, 0.5, 0.5) == Experience()
    assert Experience(fullness=0.5).of_instances(0.1, 2.0, True, 0.5, 0.5).fullness == 0.75, "first tokens are late"


def test_what_was_learnt_comes_back_from_a_memo() -> None:
    known = Experience(0.2, 60 * S, 5.0, 4.0, 120 * S, 3.0, 2.0, 0.9, 0.7)
    assert Experience.of(known.memo("m"), "m") == known
    assert Experience.of(known.memo("m"), "other") == Experience()


def test_the_room_for_long_answers_is_that_of_all_that_waits_until_a_deadline() -> None:
    groups = tuple(
        WaitingGroup("m", "local", SloClass.DEFERRED, due_s * S, NOW, 10, 100, 1_000.0, variance)
        for due_s, variance in ((900, 16.0), (800, 9.0))
    )
    first, second = Expectation((), groups, 60 * S, NOW).backlog(60 * S)
    assert (first.due_us, second.due_us) == (800 * S, 900 * S)
    assert first.response_tokens == pytest.approx(1_000 + 1.64 * 3)
    assert first.response_tokens + second.response_tokens == pytest.approx(2_000 + 1.64 * 5), "3-4-5"
