"""What every forecaster of the service keeps: orderly forecasts for any series that can be."""

import time
from dataclasses import dataclass

import numpy as np
import pytest

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster import FORECASTERS, Forecaster
from forebay.predictor.traffic.refit.frames import pack, sizes, unpack
from forebay.predictor.traffic.series import Floats, Series

DAY_S = 86_400
SEED = 13
FIT_S_MAX = 60.0
"""Ten times what the slowest takes on an idle core: this is no benchmark."""


@dataclass(frozen=True)
class Case:
    """A series by its windows; `requests` has NaN for gaps."""

    name: str
    window_s: int
    requests: Floats

    @property
    def series(self) -> Series:
        """With tokens in proportion."""
        values = np.column_stack((self.requests, 120 * self.requests, 40 * self.requests))
        return Series(values, 1_700_000_000 * US_PER_S, self.window_s * US_PER_S)


def days(count: int, window_s: int, level: float = 200.0) -> Floats:
    chance = np.random.default_rng(SEED)
    times = 2 * np.pi * np.arange(count) * window_s / DAY_S
    return chance.poisson(level * (1 + 0.5 * np.sin(times))).astype(np.float64)


def holed(requests: Floats) -> Floats:
    told = requests.copy()
    told[5:9] = told[len(told) // 2 : len(told) // 2 + 20] = told[-2:] = np.nan
    return told


CASES = [
    Case("two days and a half of ten minutes", 600, days(360, 600)),
    Case("four hours of minutes", 60, days(240, 60)),
    Case("five minutes", 300, days(300, 300)),
    Case("with gaps, also at the end", 600, holed(days(330, 600))),
    Case("with silent nights", 600, np.maximum(0.0, days(300, 600) - 200)),
    Case("all zeros", 600, np.zeros(100)),
    Case("constant", 600, np.full(320, 50.0)),
    Case("one window", 600, np.array([9.0])),
    Case("five windows", 60, np.array([9.0, 0.0, 4.0, 7.0, 7.0])),
    Case("a level that rises tenfold", 600, np.concatenate((days(200, 600, 20), days(100, 600, 200)))),
    Case("a service that stops", 600, np.concatenate((days(200, 600), np.zeros(40)))),
    Case("huge counts", 600, 1e9 * days(150, 600)),
]


@pytest.fixture(params=FORECASTERS)
def forecaster(request: pytest.FixtureRequest) -> Forecaster:
    return FORECASTERS[request.param]()


def orderly(points: Floats, horizon_count: int) -> None:
    assert points.shape == (horizon_count, 3)
    assert np.isfinite(points).all()
    assert (points >= 0).all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_series_has_orderly_forecasts(forecaster: Forecaster, case: Case) -> None:
    began = time.perf_counter()
    fitted = forecaster.fit(case.series)
    assert time.perf_counter() - began < FIT_S_MAX
    for horizon_count in (1, 12, 200):
        points = fitted.points(case.series, horizon_count)
        orderly(points, horizon_count)
        assert (points <= 20 * np.nanmax(case.series.values, axis=0) + 1).all()


def test_a_day_of_minutes_can_be_told(forecaster: Forecaster) -> None:
    told = Case("minutes", 60, days(600, 60)).series
    orderly(forecaster.fit(told).points(told, 1_440), 1_440)


def test_what_was_fitted_answers_for_a_series_that_has_grown_or_was_shorter(forecaster: Forecaster) -> None:
    whole = Case("ten minutes", 600, days(330, 600)).series
    fitted = forecaster.fit(whole.until(300))
    for count in (1, 200, 300, 301, 330):
        orderly(fitted.points(whole.until(count), 6), 6)


def test_the_same_question_has_the_same_answer(forecaster: Forecaster) -> None:
    told = Case("ten minutes", 600, days(160, 600)).series
    assert np.array_equal(forecaster.fit(told).points(told, 9), forecaster.fit(told).points(told, 9))


def test_a_longer_horizon_changes_nothing_of_the_nearer_windows(forecaster: Forecaster) -> None:
    told = Case("ten minutes", 600, days(160, 600)).series
    fitted = forecaster.fit(told)
    assert fitted.points(told, 30)[:7] == pytest.approx(fitted.points(told, 7), rel=1e-6)


def test_later_windows_change_nothing(forecaster: Forecaster) -> None:
    whole = days(200, 600)
    changed = whole.copy()
    changed[150:] = 1e6
    one, other = (
        forecaster.fit(Case("", 600, told).series.until(150)).points(Case("", 600, told).series.until(150), 12)
        for told in (whole, changed)
    )
    assert np.array_equal(one, other)


def test_what_was_fitted_may_go_to_another_process_and_back(forecaster: Forecaster) -> None:
    told = Case("ten minutes", 600, days(300, 600)).series
    fitted = forecaster.fit(told)
    frame = pack(fitted)
    text_count, array_count = sizes(frame[:20])
    back = unpack(frame[20 : 20 + text_count], frame[20 + text_count :], ("forebay.predictor",))
    assert len(frame) == 20 + text_count + array_count
    assert back.points(told, 12) == pytest.approx(fitted.points(told, 12))
