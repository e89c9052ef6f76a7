"""Lines over time start at 0, end with the run, and enclose what the summary counts."""

from pathlib import Path

import numpy as np
import pytest

from forebay.core.promises import Promises
from forebay.simulator import store
from forebay.simulator.report.data import RunData
from forebay.simulator.results import RunResult
from forebay.simulator.summary import summarize
from tests.unit.simulator.made import WORLD, change, columns, drawn, result

pytest.importorskip("pyarrow", reason="runs are kept by pyarrow")


def kept(run: RunResult, folder: Path) -> RunData:
    store.write(run, summarize(run, Promises(), WORLD), folder)
    return RunData(folder, WORLD, run.end_us / 1e6)


def test_paid_instances_step_up_and_stay_to_the_end(tmp_path: Path) -> None:
    times, counts = kept(drawn("a", 1), tmp_path).paid_instances()
    assert (times[0], times[-1]) == (0.0, 60.0)
    assert [counts[times.searchsorted(minute, "right") - 1] for minute in (0, 24, 25, 59, 60)] == [1, 1, 2, 2, 2]


def test_an_instance_that_stops_is_paid_until_then(tmp_path: Path) -> None:
    changes = (change(0, "a/m", "READY"), change(60, "b/m", "LOADING"), change(1800, "b/m", "STOPPED"))
    times, counts = kept(result(columns([0], [1], [2]), changes), tmp_path).paid_instances()
    assert list(zip(times, counts, strict=True)) == [(0.0, 1.0), (1.0, 2.0), (30.0, 1.0), (60.0, 1.0)]


def test_the_cost_at_the_end_is_that_of_the_summary(tmp_path: Path) -> None:
    run = drawn("a", 1)
    times, costs = kept(run, tmp_path).cost()
    assert costs[0] == 0
    assert costs[-1] == pytest.approx(summarize(run, Promises(), WORLD).fleet.cost)
    assert len(times) == len(costs)


def test_arrival_rates_add_up_to_all_requests(tmp_path: Path) -> None:
    times, rates = kept(drawn("a", 1), tmp_path).arrival_rates()
    assert float((rates[:-1] * np.diff(times) * 60).sum()) == pytest.approx(400)


def test_attainment_over_time_is_that_of_the_summary_where_weighed(tmp_path: Path) -> None:
    run = drawn("a", 1)
    times, shares = kept(run, tmp_path).attainment()
    counts, _ = np.histogram(run.requests.arrival_us, bins=np.linspace(0, run.end_us, len(times) + 1))
    overall = summarize(run, WORLD.slo, WORLD).classes[0].attainment
    assert float(np.nansum(shares * counts)) / 400 == pytest.approx(overall)
    assert np.isnan(shares[-1])


def test_lengths_are_of_finished_requests(tmp_path: Path) -> None:
    run = drawn("a", 1)
    predicted, actual = kept(run, tmp_path).lengths()
    assert len(predicted) == len(actual) == int((run.requests.status == 0).sum())
