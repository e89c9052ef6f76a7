"""Figures are short, exact enough, and carry their units."""

import pytest

from forebay.simulator.report.tables import BY_KEY
from forebay.simulator.report.values import NOTHING, estimate, figure, number, seconds
from forebay.simulator.statistics import Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.000512, "0.000512"), (0.1234, "0.123"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"),
     (1e-7, "0")],
)  # fmt: skip
def test_numbers_have_three_digits_and_no_powers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.018, "18 ms"), (0.9999, "1 s"), (1.239, "1.24 s"), (59.96, "1 m 0 s"), (125.0, "2 m 5 s"), (119.7, "2 m 0 s"),
     (12_000.0, "3 h 20 m"), (7_199.0, "2 h 0 m")],
)  # fmt: skip
def test_durations_are_for_readers(value: float, text: str) -> None:
    assert seconds(value) == text


def test_a_figure_has_its_unit_and_nothing_is_a_dash() -> None:
    assert [figure(0.9823, "%"), figure(0.5, "s"), figure(3.0, "h"), figure(7.0), figure(None, "s")] == [
        "98.2 %", "500 ms", "3 h", "7", NOTHING,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "interval", "text"),
    [
        ("attainment", Interval(0.982, 0.003, 5), "98.2 ± 0.3 %"),
        ("attainment", Interval(1.0, 0.0, 5), "100.0 %"),
        ("attainment", Interval(0.99981, 0.00012, 5), "99.98 ± 0.01 %"),
        ("attainment", Interval(0.982, None, 1), "98.2 %"),
        ("ttft_p50", Interval(0.0123, 0.001, 5), "12.3 ± 1.0 ms"),
        ("ttft_p50", Interval(2.5, 0.26, 5), "2.5 ± 0.3 s"),
        ("gpu_hours", Interval(0.0876, 0.00059, 5), "0.0876 ± 0.0006"),
        ("gpu_hours", Interval(1234.5, 0.3, 5), "1,234 ± 0.3"),
    ],
)
def test_an_interval_has_no_more_decimals_than_its_mean(key: str, interval: Interval, text: str) -> None:
    assert estimate(interval, BY_KEY[key]) == text
