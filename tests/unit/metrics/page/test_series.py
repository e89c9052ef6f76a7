"""From records, history and forecasts to what the page shows over time."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from lmaas.autoscaler.v1.fleet_pb2 import ForecastBand
from lmaas.predictor.v1.workload_pb2 import Quantiles

from forebay.core.metrics import RequestStatus
from forebay.core.values import LengthQuantiles, SloClass, WorkloadPoint
from forebay.metrics.page import series
from forebay.metrics.page.history import AGAIN_US, History
from forebay.metrics.page.recent import Numbered
from forebay.metrics.page.series import Bands
from forebay.metrics.store import MemoryStore, Series
from tests.unit.metrics.page.kit import NOW, S, recent, record


def band(start_us: int, median: float, model: str = "m") -> ForecastBand:
    start = Timestamp()
    start.FromMicroseconds(start_us)
    quantiles = Quantiles(p10=median / 2, p50=median, p90=2 * median)
    return ForecastBand(
        model=model, start_time=start, window=Duration(seconds=60), requests=quantiles, response_tokens=quantiles
    )


def test_a_forecast_is_told_as_a_rate() -> None:
    bands = Bands()
    bands.tell([band(NOW + 60 * S, 120.0)], NOW)
    assert bands.section() == {f"m|{NOW // S + 60}": [60.0, [1.0, 2.0, 4.0], [1.0, 2.0, 4.0]]}


def test_of_a_window_that_has_begun_what_was_said_before_it_stays() -> None:
    bands = Bands()
    bands.tell([band(NOW + 60 * S, 120.0)], NOW)
    bands.tell([band(NOW + 60 * S, 180.0)], NOW + 30 * S)
    bands.tell([band(NOW + 60 * S, 999.0)], NOW + 61 * S)
    ((_, requests, _),) = bands.section().values()
    assert requests[1] == 3.0


def test_forecasts_that_are_too_old_to_be_shown_are_forgotten() -> None:
    bands = Bands()
    bands.tell([band(NOW + 60 * S, 120.0)], NOW)
    bands.tell([], NOW + 60 * S + series.TRAFFIC_SPAN_US + 1)
    assert bands.section() == {}


def test_traffic_is_told_as_rates_by_model_and_window() -> None:
    points = {"m": [WorkloadPoint(NOW, 5, 100, 250)]}
    assert series.traffic(points) == {f"m|{NOW // S}": [0.5, 25.0]}


def test_promises_are_told_by_class_and_bucket() -> None:
    made = recent()
    made.observe(record(slo_class=SloClass.INTERACTIVE_FAST, arrival_us=NOW - 2 * S))
    assert series.slo(made, NOW) == {f"interactive_fast|{NOW // S}": [1, 1]}


def test_lengths_are_of_answers_that_were_predicted_and_not_cut() -> None:
    predicted = LengthQuantiles(10, 20, 40, 50)
    records = [
        Numbered(1, record(predicted_length=predicted)),
        Numbered(2, record()),
        Numbered(3, record(predicted_length=predicted, censored=True)),
        Numbered(4, record(predicted_length=predicted, response_tokens=0)),
    ]
    assert series.lengths(records) == {"1": ["m", 10, 20, 40, 16]}


def test_a_decision_tells_what_came_of_it_and_nothing_of_who_asked() -> None:
    one = record(
        tenant="secret", application="app", decision_id="d", held_us=2_500, predicted_length=LengthQuantiles(1, 2, 3, 4)
    )
    (row,) = series.decisions([Numbered(7, one)]).values()
    assert row["at"] == (NOW - 3 * S) // 1_000 + 2
    assert (row["id"], row["held_ms"], row["ttft_ms"], row["whole_ms"]) == ("d", 2.5, 500.0, 2_000.0)
    assert (row["predicted"], row["tokens"], row["status"]) == ([1, 2, 3], 16, "ok")
    assert "secret" not in str(row)
    assert "app" not in str(row)
    (failed,) = series.decisions([Numbered(8, record(status=RequestStatus.FAILED, ttft_us=None))]).values()
    assert (failed["ttft_ms"], failed["predicted"]) == (None, None)


def test_only_the_newest_decisions_are_shown() -> None:
    records = [Numbered(number, record()) for number in range(100)]
    assert list(series.decisions(records)) == [str(number) for number in range(100 - series.DECISION_COUNT_MAX, 100)]


class Counting(MemoryStore):
    """A store that remembers from when on it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.starts_us: list[int] = []

    def workload(self, series: Series, window_us: int, start_us: int, end_us: int) -> list[WorkloadPoint]:
        self.starts_us.append(start_us)
        return [
            WorkloadPoint(at_us, 1 if at_us >= NOW - 30 * S else 0, 0, 0)
            for at_us in range(start_us, end_us, window_us)
        ]


async def test_history_is_read_whole_once_and_then_only_what_may_have_changed() -> None:
    store = Counting()
    history = History(store)
    await history.read(["m"], NOW + 3 * S)
    await history.read(["m"], NOW + 13 * S)
    assert store.starts_us == [NOW - series.TRAFFIC_SPAN_US, NOW - AGAIN_US]
    points = history.points()["m"]
    # One empty window before the first that has something, none that is not over.
    assert [one.start_us for one in points] == list(range(NOW - 40 * S, NOW + 10 * S, 10 * S))


async def test_what_was_missed_in_a_pause_is_read_afterwards_and_what_is_old_forgotten() -> None:
    store = Counting()
    history = History(store)
    await history.read(["m"], NOW)
    later = NOW + 2 * series.TRAFFIC_SPAN_US
    await history.read(["m"], later)
    assert store.starts_us[-1] == later - series.TRAFFIC_SPAN_US
    assert min(one.start_us for one in history.points()["m"]) >= later - series.TRAFFIC_SPAN_US
