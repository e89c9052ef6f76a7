"""What a planner tells becomes a history of windows, whatever its ticks are like."""

import math

import pytest

from forebay.predictor.dynamo.config import DynamoConfig
from forebay.predictor.dynamo.told import MODEL, Observed, Told
from forebay.predictor.traffic.history import SeriesName

S = 1_000_000
W = 60 * S


async def history(told: Told, window_us: int = W) -> list[tuple[int, int]]:
    """Windows from the first on, as their number and requests."""
    points = await told.read(SeriesName(MODEL, "", 0, window_us), 0, 0)
    return [((one.start_us - points[0].start_us) // window_us, one.request_count) for one in points]


def tell(
    told: Told, at_s: float, requests: float = 10, window_s: float = 60, isl: float = 100, osl: float = 20
) -> None:
    assert told.observe(Observed(window_s, requests, isl, osl), round(at_s * S)) is not None


async def test_ticks_a_window_apart_are_windows_one_after_another_though_they_jitter() -> None:
    told = Told(100)
    for number in range(200):
        tell(told, 1000 + 60 * number + (7 if number % 2 else -7), number)
    (first, *_, last) = await history(told)
    assert (first, last) == ((0, 100), (99, 199)), "the newest hundred, without a gap"


async def test_ticks_more_often_than_windows_are_newer_sights_of_the_same() -> None:
    told = Told(100)
    for number in range(36 * 5):
        tell(told, 1000 + 5 * number, number, window_s=180)
    assert [number for number, _ in await history(told, 180 * S)] == [0, 1, 2, 3, 4, 5]


async def test_a_pause_is_a_gap_and_no_time_is_lost() -> None:
    told = Told(100)
    tell(told, 1000)
    tell(told, 1060)
    tell(told, 1360)
    assert [number for number, _ in await history(told)] == [0, 1, 6]
    assert told.clock() == 960 * S + 6 * W - 1


async def test_another_window_begins_another_history() -> None:
    told = Told(100)
    tell(told, 1000)
    tell(told, 1060, window_s=5)
    assert await history(told, 5 * S) == [(0, 10)]


async def test_tokens_are_those_of_all_requests_and_a_window_without_requests_has_none() -> None:
    told = Told(100)
    tell(told, 1000, 10, isl=100, osl=20)
    tell(told, 1060, 0, isl=math.nan, osl=math.nan)
    series = told.observe(Observed(60, 1, 1, 1), 1120 * S)
    assert series is not None
    first, second, _ = await told.read(series, 0, 0)
    assert (first.prompt_tokens, first.response_tokens) == (1_000, 200)
    assert (second.request_count, second.prompt_tokens) == (0, 0)


@pytest.mark.parametrize(
    "observed", [(0, 1, 1, 1), (-5, 1, 1, 1), (60, math.nan, 1, 1), (60, -1, 1, 1), (math.inf, 1, 1, 1)]
)
def test_what_makes_no_sense_is_no_observation(observed: tuple[float, float, float, float]) -> None:
    assert Told(100).observe(Observed(*observed), 0) is None


@pytest.mark.parametrize(
    "values",
    [
        {"registry": "h:1"},
        {"registry": "h:1", "endpoint": "h:2"},
        {"quantile": 0.6},
        {"window_s": -1.0},
        {"plugin_id": ""},
    ],
)
def test_a_configuration_that_cannot_work_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        DynamoConfig(**values)  # type: ignore[arg-type]
