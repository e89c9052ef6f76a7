import pytest

from forebay.autoscaler.demands import Demands
from forebay.core.pressure import Demand
from forebay.core.values import SloClass

S = 1_000_000
FAST, _, DEFERRED = SloClass
KEY = ("m", "local", FAST)


def demand(count: int, slo_class: SloClass = FAST) -> Demand:
    return Demand("m", "local", slo_class, count, 10 * count, 2.5 * count)


def heard(*counts: int) -> Demands:
    """Totals of one demand, a second apart from second 1 on."""
    made = Demands()
    for second, count in enumerate(counts, 1):
        made.observe((demand(count),), second * S)
    return made


def totals(made: Demands, now_us: int, history_us: int = 100 * S) -> list[tuple[int, float]]:
    (view,) = made.views(history_us, {}, now_us)
    return [(one.at_us // S, one.request_count) for one in view.arrived]


def test_what_came_before_the_scheduler_was_heard_is_no_growth() -> None:
    assert totals(heard(50, 52, 55), 3 * S) == [(1, 0.0), (2, 2.0), (3, 5.0)]


def test_the_first_requests_of_a_demand_count_once_the_scheduler_is_known() -> None:
    made = Demands()
    made.observe((), S)
    made.observe((demand(3),), 2 * S)
    assert totals(made, 2 * S) == [(1, 0.0), (2, 3.0)]
    (view,) = made.views(100 * S, {}, 2 * S)
    assert (view.rate(60 * S).request_count, view.rate(60 * S).prompt_tokens) == (3.0, 30.0)


def test_a_scheduler_that_begins_anew_goes_on() -> None:
    assert totals(heard(50, 52, 1, 4), 4 * S) == [(1, 0.0), (2, 2.0), (3, 3.0), (4, 6.0)]


def test_one_sample_from_before_the_span_stays() -> None:
    made = heard(0, 1, 2, 3, 4, 5)
    assert totals(made, 6 * S, history_us=2 * S) == [(4, 3.0), (5, 4.0), (6, 5.0)]
    (view,) = made.views(2 * S, {}, 6 * S)
    assert view.rate(2 * S).request_count == pytest.approx(1.0)


def test_what_is_only_forecast_is_seen_too_and_all_come_in_order() -> None:
    made = heard(0, 1)
    made.observe((demand(2), demand(1, DEFERRED)), 3 * S)
    assert made.keys == (KEY, ("m", "local", DEFERRED))
    views = made.views(0, {("a", "west", FAST): ()}, 3 * S)
    assert [(one.model, one.region, one.slo_class) for one in views] == [("a", "west", FAST), *made.keys]


def test_a_clock_that_is_set_back_makes_no_rate_negative() -> None:
    made = heard(0, 5, 9)
    made.observe((demand(10),), 2 * S)
    assert totals(made, 2 * S) == [(1, 0.0), (2, 10.0)]
    made.observe((demand(11),), 2 * S)
    (view,) = made.views(100 * S, {}, 2 * S)
    assert view.rate(60 * S).request_count == 11.0
