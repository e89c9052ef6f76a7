"""Answers the contract's calls by the engine, in steps that never hold the event loop for long."""

import asyncio
from typing import Any, Protocol

from lmaas.predictor.v1 import predictor_service_pb2 as messages
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceServicer
from prometheus_client import CollectorRegistry, Counter, Gauge

from forebay.core.errors import InvalidArgument
from forebay.core.prediction import ModelKind
from forebay.core.units import US_PER_S
from forebay.predictor.engine import PredictorEngine
from forebay.predictor.intervals import forecast_at_once
from forebay.predictor.loader import Loader
from forebay.predictor.loop import MetricsHistory, SeriesName
from forebay.predictor.policy.forecaster import WorkloadHistory
from forebay.wire.clock import Clock
from forebay.wire.convert import length_query_from_proto, prediction_to_proto
from forebay.wire.convert_predictor import forecast_to_proto, model_to_proto, outcome_from_proto

WINDOW_US = 60 * US_PER_S
MODELS_PAGE_SIZE = 100


class Step(Protocol):
    """Work in slices."""

    def step(self) -> bool:
        """Does one slice; true when all is done."""
        ...


class Stats:
    """What the predictor counts, for Prometheus."""

    def __init__(self, registry: CollectorRegistry, engine: PredictorEngine) -> None:
        self.predictions = Counter("forebay_predictor_predictions", "Lengths predicted.", ("by",), registry=registry)
        self.outcomes = Counter("forebay_predictor_outcomes", "Outcomes learned from.", registry=registry)
        for name, text, value in (
            ("failures", "Times a predictor could not answer or learn.", lambda: engine.failure_count),
            ("mae_tokens", "Mean absolute error of the last 500 medians.", lambda: engine.accuracy.mae_tokens),
            ("coverage_p90", "Share of the last 500 answers within p90.", lambda: engine.accuracy.coverage_p90),
        ):
            Gauge(f"forebay_predictor_{name}", text, registry=registry).set_function(value)


class PredictorServicer(PredictorServiceServicer):
    """The predictor's API."""

    def __init__(
        self,
        engine: PredictorEngine,
        loader: Loader,
        history: MetricsHistory,
        clock: Clock,
        registry: CollectorRegistry,
        *,
        history_us: int,
        forecast_count_max: int,
    ) -> None:
        self._engine = engine
        self._loader = loader
        self._history = history
        self._clock = clock
        self._history_us = history_us
        self._forecasts = asyncio.Semaphore(forecast_count_max)
        self._stats = Stats(registry, engine)

    async def PredictLength(
        self, request: messages.PredictLengthRequest, context: Any
    ) -> messages.PredictLengthResponse:
        """Predicts each query's length."""
        answering = self._engine.on_queries([length_query_from_proto(query) for query in request.queries])
        await _finish(answering)
        self._stats.predictions.labels(answering.by.label).inc(len(request.queries))
        pairs = zip(request.queries, answering.predictions, strict=True)
        return messages.PredictLengthResponse(
            predictions=[prediction_to_proto(query.query_id, prediction) for query, prediction in pairs],
            predicted_by=answering.by.label,
        )

    async def ObserveOutcomes(
        self, request: messages.ObserveOutcomesRequest, context: Any
    ) -> messages.ObserveOutcomesResponse:
        """Learns from the outcomes."""
        outcomes = [outcome_from_proto(outcome) for outcome in request.outcomes]
        learning = self._engine.on_outcomes(request.request_id, outcomes)
        await _finish(learning)
        self._stats.outcomes.inc(len(learning.outcomes))
        return messages.ObserveOutcomesResponse()

    async def ForecastWorkload(
        self, request: messages.ForecastWorkloadRequest, context: Any
    ) -> messages.ForecastWorkloadResponse:
        """Forecasts the windows that have not begun from those that are complete."""
        window_us = request.window.ToMicroseconds() or WINDOW_US
        end_us = self._clock() // window_us * window_us
        series = SeriesName(request.model, request.region, request.slo_class, window_us)
        points = await self._history.read(series, end_us - self._history_us, end_us)
        history = WorkloadHistory(points, window_us, end_us + window_us, request.horizon_count)
        forecaster = self._engine.forecaster
        async with self._forecasts:
            forecasts = await asyncio.to_thread(forecast_at_once, forecaster.policy, history)
        return messages.ForecastWorkloadResponse(
            forecasts=[forecast_to_proto(forecast) for forecast in forecasts],
            predicted_by=forecaster.label,
            history_count=len(points),
        )

    async def ListModels(self, request: messages.ListModelsRequest, context: Any) -> messages.ListModelsResponse:
        """Lists loaded and stored models."""
        found = [model for model in await self._loader.models() if request.kind in (0, model.kind)]
        start = _offset(request.page_token)
        end = start + (request.page_size or MODELS_PAGE_SIZE)
        return messages.ListModelsResponse(
            models=[model_to_proto(model) for model in found[start:end]],
            next_page_token=str(end) if end < len(found) else "",
        )

    async def ActivateModel(
        self, request: messages.ActivateModelRequest, context: Any
    ) -> messages.ActivateModelResponse:
        """Swaps the model that answers a kind; batches that have begun end with the one they began with."""
        model = await self._loader.activate(ModelKind(request.kind), request.name, request.version)
        return messages.ActivateModelResponse(model=model_to_proto(model))


async def _finish(work: Step) -> None:
    for _ in iter(work.step, True):
        await asyncio.sleep(0)


def _offset(token: str) -> int:
    if token and not (token.isascii() and token.isdecimal()):
        raise InvalidArgument(
            "page_token is not one of ours; send next_page_token as it came",
            violations={"page_token": "must be the next_page_token of a page before"},
        )
    return int(token or 0)
