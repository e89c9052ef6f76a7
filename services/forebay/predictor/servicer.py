"""Answers the contract's calls by the engine, in steps that never hold the event loop for long."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from lmaas.predictor.v1 import length_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as messages
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceServicer
from prometheus_client import CollectorRegistry

from forebay.core.errors import InvalidArgument
from forebay.core.prediction import LengthOutcome, ModelKind
from forebay.core.units import US_PER_S
from forebay.core.values import LengthPrediction
from forebay.predictor.engine import PredictorEngine, Work
from forebay.predictor.loader import Loader
from forebay.predictor.meters import Meters
from forebay.predictor.traffic.forecast_loop import Forecasts
from forebay.predictor.traffic.history import SeriesName
from forebay.wire.clock import Clock
from forebay.wire.convert import length_query_from_proto, prediction_to_proto
from forebay.wire.convert_predictor import accuracy_to_proto, forecast_to_proto, model_to_proto, outcome_from_proto
from forebay.wire.tracing import OFF, TRACEPARENT, Span, Tracer

WINDOW_US = 60 * US_PER_S
PAGE_SIZE = 100
LEARNING_GAP_S = 0.001
"""Between two steps of learning, each of which is shorter, queries that have come are answered."""
T = TypeVar("T")
Keep: TypeAlias = Callable[[Sequence[LengthOutcome]], None]
"""Takes outcomes that were learned from, to keep them; never waits."""

log = logging.getLogger(__name__)


class PredictorServicer(PredictorServiceServicer):
    """The predictor's API."""

    def __init__(
        self,
        engine: PredictorEngine,
        loader: Loader,
        forecasts: Forecasts,
        registry: CollectorRegistry,
        clock: Clock,
        keep: Keep = lambda outcomes: None,
        tracer: Tracer = OFF,
    ) -> None:
        self._tracer = tracer
        self._engine = engine
        self._loader = loader
        self._forecasts = forecasts
        self._clock = clock
        self._keep = keep
        self._meters = Meters(registry, engine)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def PredictLength(
        self, request: messages.PredictLengthRequest, context: Any
    ) -> messages.PredictLengthResponse:
        """Predicts each query's length."""
        spans = self._begin_spans(request.queries) if self._tracer.is_on else ()
        answering = self._engine.on_queries([length_query_from_proto(query) for query in request.queries])
        await self._finish(answering, 0.0)
        self._meters.count(answering.predictions)
        for span in spans:
            span.set({"forebay.predicted_by": answering.by.label})
            span.end()
        pairs = zip(request.queries, answering.predictions, strict=True)
        return messages.PredictLengthResponse(
            predictions=[_prediction(query.query_id, prediction, answering.by.label) for query, prediction in pairs],
            predicted_by=answering.by.label,
        )

    def _begin_spans(self, queries: Iterable[length_pb2.LengthQuery]) -> Sequence[Span]:
        """A span for each query that names its place in a trace: a call asks for many requests at once."""
        named = [(query.model, {TRACEPARENT: query.traceparent}) for query in queries if query.traceparent]
        begun = [
            self._tracer.begin(f"predict {model}", "server", headers, {"gen_ai.request.model": model})
            for model, headers in named
        ]
        return [span for span in begun if span is not None]

    async def ObserveOutcomes(
        self, request: messages.ObserveOutcomesRequest, context: Any
    ) -> messages.ObserveOutcomesResponse:
        """Learns from the outcomes; a shadow may take over by them."""
        outcomes = [outcome_from_proto(outcome) for outcome in request.outcomes]
        active = self._engine.length.label
        learning = self._engine.on_outcomes(request.request_id, outcomes, self._clock())
        await self._finish(learning, LEARNING_GAP_S)
        if self._engine.length.label != active:
            fields = {"active": self._engine.length.label, "before": active}
            log.info("another length model answers", extra={"fields": fields})
            await self._loader.note_active()
        self._keep(learning.outcomes)
        self._meters.outcomes.inc(len(learning.outcomes))
        return messages.ObserveOutcomesResponse()

    async def _finish(self, work: Work, gap_s: float) -> None:
        """Steps until done: on the event loop where predictors are fast, one at a time in a thread where one is not."""
        is_done = await self._step(work)
        while not is_done:
            await asyncio.sleep(gap_s)
            is_done = await self._step(work)

    async def _step(self, work: Work) -> bool:
        if work.uses is None:
            return work.step()
        async with self._locks[work.uses.label]:
            return await asyncio.to_thread(work.step)

    async def ForecastWorkload(
        self, request: messages.ForecastWorkloadRequest, context: Any
    ) -> messages.ForecastWorkloadResponse:
        """Forecasts the windows that have not begun from those that are complete."""
        window_us = request.window.ToMicroseconds() or WINDOW_US
        name = SeriesName(request.model, request.region, request.slo_class, window_us)
        asking, answer = await self._forecasts.ask(name, request.horizon_count)
        return messages.ForecastWorkloadResponse(
            forecasts=[forecast_to_proto(forecast) for forecast in answer.forecasts],
            predicted_by=answer.label,
            history_count=asking.history_count,
        )

    async def ListModels(self, request: messages.ListModelsRequest, context: Any) -> messages.ListModelsResponse:
        """Lists loaded and stored models."""
        found = [model for model in await self._loader.models() if request.kind in (0, model.kind)]
        page, token = _page(found, request.page_token, request.page_size)
        return messages.ListModelsResponse(models=[model_to_proto(model) for model in page], next_page_token=token)

    async def ActivateModel(
        self, request: messages.ActivateModelRequest, context: Any
    ) -> messages.ActivateModelResponse:
        """Swaps the model that answers a kind; batches that have begun end with the one they began with."""
        model = await self._loader.activate(ModelKind(request.kind), request.name, request.version)
        return messages.ActivateModelResponse(model=model_to_proto(model))

    async def ShadowModel(self, request: messages.ShadowModelRequest, context: Any) -> messages.ShadowModelResponse:
        """Begins or ends the measuring of a model beside the active one."""
        act = self._loader.end_shadow if request.ends else self._loader.shadow
        model = await act(request.name, request.version)
        return messages.ShadowModelResponse(model=model_to_proto(model))

    async def RollbackModel(
        self, request: messages.RollbackModelRequest, context: Any
    ) -> messages.RollbackModelResponse:
        """Swaps back to the model that answered before."""
        model = await self._loader.rollback(ModelKind(request.kind))
        return messages.RollbackModelResponse(model=model_to_proto(model))

    async def ListAccuracy(self, request: messages.ListAccuracyRequest, context: Any) -> messages.ListAccuracyResponse:
        """Lists how well the newest predictions went."""
        rows = self._engine.accuracy.rows()
        found = [row for row in rows if request.predictor in ("", row.predictor) and request.model in ("", row.model)]
        page, token = _page(found, request.page_token, request.page_size)
        return messages.ListAccuracyResponse(rows=[accuracy_to_proto(row) for row in page], next_page_token=token)


def _prediction(query_id: str, value: LengthPrediction, by: str) -> length_pb2.LengthPrediction:
    """A prediction as a message; who made it is said only where it is another than the answer names."""
    message = prediction_to_proto(query_id, value)
    if value.predicted_by != by:
        message.predicted_by = value.predicted_by
    return message


def _page(found: Sequence[T], token: str, size: int) -> tuple[Sequence[T], str]:
    start = _offset(token)
    end = start + (size or PAGE_SIZE)
    return found[start:end], str(end) if end < len(found) else ""


def _offset(token: str) -> int:
    if token and not (token.isascii() and token.isdecimal()):
        raise InvalidArgument(
            "page_token is not one of ours; send next_page_token as it came",
            violations={"page_token": "must be the next_page_token of a page before"},
        )
    return int(token or 0)
