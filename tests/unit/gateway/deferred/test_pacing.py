"""The plan by hand-computed cases, and against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.water import water_level
from forebay.gateway.deferred.pacing import Backlog, Demand, Pace, plan

S = 1_000_000
SPANS = st.lists(st.tuples(st.floats(0, 1e4), st.floats(0.01, 1e3)), min_size=1, max_size=20)


def demand(*rates: float, start_us: int = 0, window_s: int = 10) -> Demand:
    return Demand(start_us, window_s * S, tuple(rate * window_s for rate in rates))


def test_a_basin_fills_from_its_deepest_part() -> None:
    spans = [(5.0, 10.0), (1.0, 10.0), (3.0, 10.0)]
    assert water_level(spans, 0) == 1.0
    assert water_level(spans, 20) == 3.0, "the deepest valley alone: 10 s x (3 - 1)"
    assert water_level(spans, 60) == 5.0, "two valleys: 10 x (5 - 1) + 10 x (5 - 3)"
    assert water_level(spans, 90) == 6.0, "all three, and 1 more over 30 s"
    assert water_level([], 5) == 0.0


@given(spans=SPANS, volume=st.floats(0, 1e6))
def test_the_level_holds_the_volume(spans: list[tuple[float, float]], volume: float) -> None:
    level = water_level(spans, volume)
    held = sum(width * max(0.0, level - floor) for floor, width in spans)
    assert held == pytest.approx(volume, rel=1e-6, abs=1e-3)


def test_without_a_forecast_the_pace_is_steady() -> None:
    assert plan([Backlog(100 * S, 900.0)], None, 0, margin=0.1, calm_share=0.6) == Pace(10.0, is_calm=True)
    assert plan([Backlog(100 * S, 450.0)], None, 50 * S, margin=0.1, calm_share=0.6) == Pace(10.0, is_calm=True)
    assert plan([], None, 0, margin=0.1, calm_share=0.6) == Pace(0.0, is_calm=True)


def test_the_deadline_that_asks_for_most_decides() -> None:
    near, far = Backlog(10 * S, 200.0), Backlog(100 * S, 100.0)
    assert plan([far, near], None, 0, 0.0, 0.6).rate == 20.0
    near, far = Backlog(10 * S, 10.0), Backlog(100 * S, 990.0)
    assert plan([far, near], None, 0, 0.0, 0.6).rate == 10.0, "all 1,000 within 100 s"


def test_work_waits_for_the_valley_when_the_deadline_allows_it() -> None:
    forecast = demand(10, 10, 2, 2)
    peak = plan([Backlog(40 * S, 100.0)], forecast, 0, 0.0, calm_share=0.5)
    assert peak == Pace(0.0, is_calm=False), "level 7: 20 s x (7 - 2)"
    valley = plan([Backlog(40 * S, 100.0)], forecast, 20 * S, 0.0, calm_share=0.5)
    assert valley == Pace(5.0, is_calm=True)


def test_work_that_the_valley_cannot_hold_begins_in_the_peak() -> None:
    pace = plan([Backlog(40 * S, 400.0)], demand(10, 10, 2, 2), 0, 0.0, calm_share=0.5)
    assert pace == Pace(6.0, is_calm=False), "level 16 over all 40 s"


def test_a_valley_is_filled_up_to_the_calm_share_even_if_nothing_is_urgent() -> None:
    pace = plan([Backlog(100_000 * S, 1.0)], demand(2, 20, 20), 0, 0.0, calm_share=0.6)
    assert pace == Pace(10.0, is_calm=True), "12 is 60 % of the peak"


def test_a_near_deadline_beats_the_forecast_of_a_valley_after_it() -> None:
    pace = plan([Backlog(10 * S, 100.0)], demand(10, 0, 0, 0), 0, 0.0, calm_share=0.5)
    assert pace.rate == 10.0


def test_a_margin_leaves_time_to_spare() -> None:
    assert plan([Backlog(100 * S, 100.0)], None, 0, 0.5, 0.6).rate == 2.0


def test_a_deadline_that_has_passed_asks_for_everything_at_once() -> None:
    assert plan([Backlog(0, 100.0)], None, 10 * S, 0.1, 0.6).rate >= 100.0 * S


def test_what_lies_beyond_the_forecast_is_as_its_mean() -> None:
    pace = plan([Backlog(40 * S, 200.0)], demand(10, 2), 0, 0.0, calm_share=0.1)
    # Spans: 10 for 10 s, 2 for 10 s, 6 for 20 s; level 10 holds 80 + 80, and 1 more over 40 s holds the rest.
    assert pace.rate == pytest.approx(1.0)


def test_before_and_after_the_forecast_its_mean_counts() -> None:
    forecast = demand(4, 8, start_us=100 * S)
    for now_us in (0, 120 * S):
        assert plan([], forecast, now_us, 0.0, calm_share=1.0).rate == 2.0


@given(
    rates=st.lists(st.floats(0, 100), min_size=1, max_size=12),
    works=st.lists(st.tuples(st.integers(1, 200), st.floats(1, 5_000)), min_size=1, max_size=4),
    margin=st.floats(0, 0.5),
)
def test_whoever_keeps_to_the_plan_meets_every_deadline(
    rates: list[float], works: list[tuple[int, float]], margin: float
) -> None:
    forecast, backlogs = demand(*rates), [[due_s * S, tokens] for due_s, tokens in works]
    for second in range(max(due_s for due_s, _ in works)):
        views = [Backlog(int(due_us), left) for due_us, left in backlogs if left > 1e-6]
        done = plan(views, forecast, second * S, margin, 0.6).rate
        for backlog in sorted(backlogs):
            part = min(done, backlog[1])
            backlog[1] -= part
            done -= part
        for due_us, left in backlogs:
            assert due_us > (second + 1) * S or left <= 1e-3, "nothing is left at its deadline"
