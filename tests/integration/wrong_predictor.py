"""A small predictor that keeps the contract, but for the faults that it is told to have."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc_status import rpc_status
from lmaas.common.v1.length_pb2 import LengthQuantiles
from lmaas.predictor.v1 import length_pb2, workload_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as messages
from lmaas.predictor.v1.length_pb2 import LengthPrediction, LengthQuery, PredictorAccuracy, PredictorModel
from lmaas.predictor.v1.predictor_service_pb2_grpc import (
    PredictorServiceServicer,
    add_PredictorServiceServicer_to_server,
)

from forebay.core.errors import AlreadyExists, FailedPrecondition, ForebayError, InvalidArgument, NotFound, Unavailable
from forebay.wire.errors import to_status
from forebay.wire.validate import violations_of

LENGTH = length_pb2.MODEL_KIND_LENGTH
MODELS = ("fixed", "other")
MINUTE_S = 60


class WrongPredictor(PredictorServiceServicer):
    """Predicts the same for everybody; `faults` name what it does wrong."""

    def __init__(self, faults: set[str]) -> None:
        self.faults = faults
        self.seen: set[str] = set()

    async def PredictLength(
        self, request: messages.PredictLengthRequest, context: Any
    ) -> messages.PredictLengthResponse:
        await self._check(request, context)
        if "unknown field" in self.faults and len(UnknownFieldSet(request)):
            await _end(context, InvalidArgument("a field that nobody knows"))
        if "small batches" in self.faults and len(request.queries) > 100:
            await _end(context, InvalidArgument("too many"))
        if "known models only" in self.faults and request.queries[0].model != "m":
            await _end(context, NotFound("an unknown model"))
        queries = reversed(request.queries) if "order" in self.faults else request.queries
        found = [] if "nothing" in self.faults else [self._prediction(one) for one in queries]
        return messages.PredictLengthResponse(
            predictions=found, predicted_by="" if "nameless" in self.faults else "w@1"
        )

    def _prediction(self, query: LengthQuery) -> LengthPrediction:
        values = [5, 10, 20, 30]
        if query.tokens_max and "limit" not in self.faults:
            values = [min(one, query.tokens_max) for one in values]
        p10, p50, p90, p97 = reversed(values) if "decreasing" in self.faults else values
        quantiles = LengthQuantiles(p10_tokens=p10, p50_tokens=p50, p90_tokens=p90, p97_tokens=p97)
        return LengthPrediction(query_id=query.query_id, quantiles=quantiles, mean_tokens=12.0)

    async def ForecastWorkload(
        self, request: messages.ForecastWorkloadRequest, context: Any
    ) -> messages.ForecastWorkloadResponse:
        await self._check(request, context)
        if "no history" in self.faults:
            await _end(context, Unavailable("metrics does not answer"))
        answer = messages.ForecastWorkloadResponse(predicted_by="w@1")
        for number in range(request.horizon_count):
            one = workload_pb2.WorkloadForecast()
            one.start_time.seconds = MINUTE_S * (1 if "overlapping windows" in self.faults else number)
            one.requests.CopyFrom(workload_pb2.Quantiles(p10=1, p50=2, p90=3, p97=4))
            answer.forecasts.append(one)
        return answer

    async def ObserveOutcomes(
        self, request: messages.ObserveOutcomesRequest, context: Any
    ) -> messages.ObserveOutcomesResponse:
        await self._check(request, context)
        if "once only" in self.faults and request.request_id in self.seen:
            await _end(context, AlreadyExists("it was told before"))
        self.seen.add(request.request_id)
        return messages.ObserveOutcomesResponse()

    async def ListModels(self, request: messages.ListModelsRequest, context: Any) -> messages.ListModelsResponse:
        await self._check(request, context)
        start = 0 if "first page again" in self.faults else int(request.page_token or 0)
        end = min(start + (request.page_size or 50), len(MODELS))
        token = str(end) if end < len(MODELS) else ""
        return messages.ListModelsResponse(models=map(self._model, MODELS[start:end]), next_page_token=token)

    def _model(self, name: str) -> PredictorModel:
        active = name == MODELS[0] or "two active" in self.faults
        return PredictorModel(kind=LENGTH, name=name, version="1", active=active)

    async def ActivateModel(
        self, request: messages.ActivateModelRequest, context: Any
    ) -> messages.ActivateModelResponse:
        await self._check(request, context)
        if request.name not in MODELS and "activates anything" not in self.faults:
            await _end(context, NotFound("an unknown model"))
        return messages.ActivateModelResponse(model=self._model(MODELS["other one" in self.faults]))

    async def ShadowModel(self, request: messages.ShadowModelRequest, context: Any) -> messages.ShadowModelResponse:
        await self._check(request, context)
        await _end(context, InvalidArgument("no") if "shadow" in self.faults else NotFound("an unknown model"))
        return messages.ShadowModelResponse()

    async def RollbackModel(
        self, request: messages.RollbackModelRequest, context: Any
    ) -> messages.RollbackModelResponse:
        await self._check(request, context)
        await _end(context, FailedPrecondition("there was no change"))
        return messages.RollbackModelResponse()

    async def ListAccuracy(self, request: messages.ListAccuracyRequest, context: Any) -> messages.ListAccuracyResponse:
        await self._check(request, context)
        coverage = 1.5 if "coverage" in self.faults else 0.9
        return messages.ListAccuracyResponse(rows=[PredictorAccuracy(predictor="w@1", coverage_p90=coverage)])

    async def _check(self, request: Message, context: Any) -> None:
        violations = dict(violations_of(request))
        if "violation left out" in self.faults:
            violations = {name: "" if name.endswith("].model") else text for name, text in violations.items()}
            if violations and not any(violations.values()):
                await _end(context, InvalidArgument("something is wrong"))
        if "rule not checked" in self.faults:
            violations.pop("horizon_count", None)
        if violations:
            kind = FailedPrecondition if "wrong status" in self.faults else InvalidArgument
            await _end(context, kind("it breaks a rule", violations=violations))


async def _end(context: Any, error: ForebayError) -> None:
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


@asynccontextmanager
async def serving(*faults: str) -> AsyncIterator[int]:
    """Serves a predictor with these faults on a free port."""
    server = grpc.aio.server()
    add_PredictorServiceServicer_to_server(WrongPredictor(set(faults)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)
