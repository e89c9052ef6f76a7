"""A sparkline shows the shape of a series at any width."""

from forebay.cli.fleet import sparkline


def test_bars_are_scaled_from_zero_to_the_largest() -> None:
    assert sparkline([0, 1, 2, 4]) == "▁▃▅█"


def test_a_series_longer_than_the_width_keeps_its_peaks() -> None:
    line = sparkline([1.0] * 99 + [8.0] + [1.0] * 100, width=10)
    assert len(line) == 10
    assert line.count("█") == 1


def test_a_series_of_zeros_or_of_nothing_is_flat() -> None:
    assert sparkline([0, 0, 0]) == "▁▁▁"
    assert sparkline([]) == ""
