"""Real processes that fit forecasters, and a real predictor whose forecasters and metrics misbehave."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import duration_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as pb
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub, add_PredictorServiceServicer_to_server
from prometheus_client import CollectorRegistry, generate_latest

from forebay.core.errors import Unavailable
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.build import build_forecasting, who_of
from forebay.predictor.config import Config
from forebay.predictor.engine import Loaded, PredictorEngine
from forebay.predictor.policy.forecaster import Fitted, Forecaster, ForecastFailed, LastValue, Seasonal
from forebay.predictor.policy.length import InputRatio
from forebay.predictor.servicer import PredictorServicer
from forebay.predictor.traffic.forecast_loop import Forecasts, Limits
from forebay.predictor.traffic.history import SeriesName
from forebay.predictor.traffic.refit.pool import RefitPool
from forebay.predictor.traffic.refit.tasks import Task
from forebay.predictor.traffic.series import Floats, Series
from forebay.wire.channel import connect
from forebay.wire.server import Server

W = 60 * US_PER_S
NOW_US = 1_700_000_030 * US_PER_S
SERIES = Series(np.random.default_rng(5).poisson(40, (60, 3)).astype(float), 0, W)
HORIZON_MAX = 1_440
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Level:
    """Answers one number; sleeps, ends its process or raises where told to."""

    level: float = 500.0
    fit_s: float = 0.0
    points_s: float = 0.0
    ends: bool = False
    raises: bool = False
    prints: bool = False

    def fit(self, series: Series) -> Fitted:
        if self.prints:
            print("libraries talk", flush=True)
        if self.ends:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.raises:
            raise RuntimeError("out of ideas")
        time.sleep(self.fit_s)
        return self

    def points(self, series: Series, horizon_count: int) -> Floats:
        if self.points_s and horizon_count > HORIZON_MAX:
            time.sleep(self.points_s)
        return np.full((horizon_count, 3), self.level)


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., RefitPool]]:
    pools: list[RefitPool] = []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "services"), str(ROOT / "clients/python"))))

    def make(timeout_s: float = 30.0, count: int = 1) -> RefitPool:
        pools.append(RefitPool(count, timeout_s, (__name__.partition(".")[0],)))
        return pools[-1]

    yield make
    for one in pools:
        await one.close()


def pids(pool: RefitPool) -> list[int]:
    return [worker._process.pid for worker in pool._workers if worker._process is not None]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def until(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)


async def test_a_process_fits_one_series_after_the_other(pool: Callable[..., RefitPool]) -> None:
    fits = pool()
    learned = await fits.fit(Task(Level(7.0, prints=True), SERIES, 5))
    assert learned.fitted.points(SERIES, 2).tolist() == [[7.0] * 3] * 2
    before = pids(fits)
    await fits.fit(Task(Seasonal(), SERIES, 5))
    assert pids(fits) == before


async def test_a_fit_that_raises_says_why_and_the_process_goes_on(pool: Callable[..., RefitPool]) -> None:
    fits = pool()
    with pytest.raises(ForecastFailed, match="out of ideas"):
        await fits.fit(Task(Level(raises=True), SERIES, 5))
    before = pids(fits)
    await fits.fit(Task(LastValue(), SERIES, 5))
    assert pids(fits) == before


async def test_a_process_that_dies_in_a_fit_is_replaced(pool: Callable[..., RefitPool]) -> None:
    fits = pool()
    with pytest.raises(ForecastFailed, match="status -9"):
        await fits.fit(Task(Level(ends=True), SERIES, 5))
    assert (await fits.fit(Task(Level(3.0), SERIES, 5))).fitted.points(SERIES, 1)[0, 0] == 3.0


async def test_a_process_that_is_killed_from_outside_is_replaced(pool: Callable[..., RefitPool]) -> None:
    fits = pool()
    fitting = asyncio.create_task(fits.fit(Task(Level(fit_s=60.0), SERIES, 5)))
    await until(lambda: bool(pids(fits)))
    await asyncio.sleep(0.3)
    os.kill(pids(fits)[0], signal.SIGKILL)
    with pytest.raises(ForecastFailed, match="status -9"):
        await fitting
    await fits.fit(Task(LastValue(), SERIES, 5))


async def test_a_fit_that_hangs_is_ended_in_time(pool: Callable[..., RefitPool]) -> None:
    fits = pool(timeout_s=0.5)
    await fits.fit(Task(LastValue(), SERIES, 5))
    (pid,) = pids(fits)
    began = time.monotonic()
    with pytest.raises(ForecastFailed, match=r"longer than 0\.5 s"):
        await fits.fit(Task(Level(fit_s=60.0), SERIES, 5))
    assert time.monotonic() - began < 5
    assert not lives(pid)


async def test_no_more_processes_than_allowed_however_many_tasks(pool: Callable[..., RefitPool]) -> None:
    fits = pool(count=2)
    await asyncio.gather(*(fits.fit(Task(Level(float(number)), SERIES, 5)) for number in range(8)))
    assert len(pids(fits)) == 2


async def test_a_forecaster_that_is_no_plain_value_is_refused(pool: Callable[..., RefitPool]) -> None:
    class Odd:
        def fit(self, series: Series) -> Fitted:
            raise AssertionError("never fitted")

    with pytest.raises(ForecastFailed, match="Odd cannot be told to another process"):
        await pool().fit(Task(Odd(), SERIES, 5))


async def test_closing_ends_what_is_being_fitted(pool: Callable[..., RefitPool]) -> None:
    fits = pool()
    fitting = asyncio.create_task(fits.fit(Task(Level(fit_s=60.0), SERIES, 5)))
    await until(lambda: bool(pids(fits)))
    (pid,) = pids(fits)
    await fits.close()
    with pytest.raises(ForecastFailed):
        await fitting
    assert not lives(pid)


async def test_processes_end_with_whoever_started_them(pool: Callable[..., RefitPool], tmp_path: Path) -> None:
    pool()
    code = (
        "import asyncio, sys\n"
        "from forebay.predictor.traffic.refit.pool import RefitPool\n"
        "from forebay.predictor.traffic.refit.tasks import Task\n"
        f"from {__name__} import Level, SERIES\n"
        "async def main():\n"
        f"    fits = RefitPool(1, 60.0, ({__name__.partition('.')[0]!r},))\n"
        "    task = asyncio.create_task(fits.fit(Task(Level(fit_s=60.0), SERIES, 5)))\n"
        "    while not (fits._workers[0]._process): await asyncio.sleep(0.01)\n"
        "    await asyncio.sleep(0.5)\n"
        "    print(fits._workers[0]._process.pid, flush=True)\n"
        "    await task\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 60))
    assert lives(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not lives(pid), 10)


# A predictor


@dataclass
class History:
    """Sixty windows of about 40 requests; goes away, is slow or lies where told to."""

    is_away: bool = False
    delay_s: float = 0.0
    bad_count: int = 0
    asked: list[tuple[SeriesName, int]] = field(default_factory=list)

    async def read(self, series: SeriesName, start_us: int, end_us: int) -> Sequence[WorkloadPoint]:
        self.asked.append((series, (end_us - start_us) // series.window_us))
        await asyncio.sleep(self.delay_s)
        if self.is_away:
            raise Unavailable("metrics does not answer", retry_after_us=1)
        first = end_us // series.window_us - 60
        counts = [int(count) for count in SERIES.values[:, 0]]
        points = [
            WorkloadPoint((first + row) * series.window_us, one, one * 9, one * 4) for row, one in enumerate(counts)
        ]
        return [*points[self.bad_count :], *(WorkloadPoint(one.start_us, -1, 0, 0) for one in points[: self.bad_count])]


@dataclass
class Stage:
    """A predictor with one forecaster of ours."""

    stub: PredictorServiceStub
    history: History
    registry: CollectorRegistry
    forecasts: Forecasts

    async def ask(self, horizon_count: int = 3, **changes: Any) -> pb.ForecastWorkloadResponse:
        request = pb.ForecastWorkloadRequest(**{"model": "m", "horizon_count": horizon_count, **changes})
        return await self.stub.ForecastWorkload(request, timeout=20)

    def figure(self, name: str) -> float:
        for line in generate_latest(self.registry).decode().splitlines():
            if line.startswith(f"forebay_predictor_{name} "):
                return float(line.rpartition(" ")[2])
        raise KeyError(name)


Start = Callable[..., Coroutine[Any, Any, Stage]]


@pytest.fixture
async def start(pool: Callable[..., RefitPool]) -> AsyncIterator[Start]:
    stops: list[Callable[[], Coroutine[Any, Any, None]]] = []

    async def begin(policy: Forecaster, *, timeout_s: float = 30.0, **changes: Any) -> Stage:
        registry, history, config = CollectorRegistry(), History(), Config(**changes)
        engine = PredictorEngine(
            [Loaded(PredictorModel("input_ratio", ModelKind.LENGTH), InputRatio(), is_plain=True)],
            [Loaded(PredictorModel("level", ModelKind.WORKLOAD, "1"), policy, is_plain=True)],
            active={ModelKind.LENGTH: "input_ratio", ModelKind.WORKLOAD: "level@1"},
            fallback="input_ratio",
        )
        limits = Limits(7_200 * US_PER_S, 10_000, 0, config.forecast_deadline_s, 2)
        forecasts = Forecasts(
            build_forecasting(config),
            who_of(config, engine),
            history,
            pool(timeout_s),
            lambda: NOW_US,
            registry,
            limits,
        )
        nobody: Any = None
        server = Server("127.0.0.1:0", ["lmaas.predictor.v1.PredictorService"], registry)
        servicer = PredictorServicer(engine, nobody, forecasts, CollectorRegistry(), lambda: NOW_US)
        add_PredictorServiceServicer_to_server(servicer, server.grpc)
        await server.start()
        channel = connect(f"127.0.0.1:{server.port}")
        stops.extend([channel.close, forecasts.close, lambda: server.stop(0.1)])
        return Stage(PredictorServiceStub(channel), history, registry, forecasts)  # type: ignore[arg-type]

    yield begin
    for stop in stops:
        await stop()


async def test_a_forecast_is_there_at_once_and_a_better_one_later(start: Start) -> None:
    stage = await start(Level(500.0))
    first = await stage.ask()
    assert first.predicted_by == "least_error"
    assert first.history_count == 60
    await until(lambda: stage.figure("refits") == 1)
    second = await stage.ask()
    assert second.predicted_by == "level@1"
    assert [one.requests.p50 for one in second.forecasts] == [500.0] * 3
    assert 'forebay_predictor_series_fitted{by="level@1"} 1.0' in generate_latest(stage.registry).decode()
    assert stage.figure("refit_seconds_count") == 1
    assert [count for _, count in stage.history.asked] == [120, 60]


async def test_regions_classes_and_windows_are_series_of_their_own(start: Start) -> None:
    stage = await start(Level(500.0))
    ten_minutes = duration_pb2.Duration(seconds=600)
    for changes in ({}, {"region": "eu"}, {"slo_class": 3}, {"window": ten_minutes}, {"region": "eu"}):
        answer = await stage.ask(1440, **changes)
        assert len(answer.forecasts) == 1440
    assert stage.figure("series") == 4
    await until(lambda: stage.figure("refits") == 4)


@pytest.mark.parametrize("policy", [Level(ends=True), Level(raises=True), Level(fit_s=60.0)])
async def test_whatever_a_fit_does_forecasts_go_on(start: Start, policy: Level) -> None:
    stage = await start(policy, timeout_s=-58.0)
    assert (await stage.ask()).predicted_by == "least_error"
    await until(lambda: stage.figure("refit_failures") == 1)
    assert (await stage.ask()).predicted_by == "least_error"
    assert stage.figure("refits") == 0


async def test_a_forecaster_that_hangs_while_answering_costs_the_deadline_and_no_more(start: Start) -> None:
    stage = await start(Level(points_s=3.0), forecast_deadline_s=0.6)
    await stage.ask()
    await until(lambda: stage.figure("refits") == 1)
    began = time.monotonic()
    answer = await stage.ask(HORIZON_MAX)
    assert time.monotonic() - began < 2
    assert answer.predicted_by == "last_value"
    assert {one.requests.p50 for one in answer.forecasts} == {SERIES.values[-1, 0]}
    assert stage.figure("forecast_failures") == 1


async def test_without_metrics_the_last_history_answers_and_without_one_nobody(start: Start) -> None:
    stage = await start(Level(500.0))
    await stage.ask()
    stage.history.is_away = True
    assert (await stage.ask()).history_count == 60
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.ask(model="other")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_metrics_that_take_too_long_are_as_good_as_none(start: Start) -> None:
    stage = await start(Level(500.0), forecast_deadline_s=0.5)
    stage.history.delay_s = 3.0
    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stage.ask()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began < 2
    stage.history.delay_s = 0.0
    await until(lambda: stage.figure("series") == 1)
    assert (await stage.ask()).history_count == 60


async def test_questions_about_one_series_share_one_reading(start: Start) -> None:
    stage = await start(LastValue())
    stage.history.delay_s = 0.3
    answers = await asyncio.gather(*(stage.ask() for _ in range(10)))
    assert len(stage.history.asked) == 1
    assert {answer.history_count for answer in answers} == {60}


async def test_windows_that_make_no_sense_are_masked_and_counted(start: Start) -> None:
    stage = await start(LastValue())
    stage.history.bad_count = 3
    answer = await stage.ask()
    assert answer.history_count == 60
    assert answer.forecasts[0].requests.p50 == SERIES.values[-1, 0]
    assert stage.figure("windows_masked") == 3


async def test_many_questions_at_once_are_all_answered(start: Start) -> None:
    stage = await start(Level(500.0))
    answers = await asyncio.gather(*(stage.ask(model=f"m{number % 7}") for number in range(60)))
    assert {len(answer.forecasts) for answer in answers} == {3}
    assert stage.figure("series") == 7
    await until(lambda: stage.figure("refits") == 7)
