"""Asks the predictor in small batches, never longer than a deadline, and tells it what became of its predictions."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

import grpc
from lmaas.predictor.v1 import predictor_service_pb2
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub

from forebay.core.prediction import LengthOutcome
from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.scheduler.actions import Observe
from forebay.scheduler.config import OUTCOME_BATCH_MAX, Config
from forebay.scheduler.traces import Traces, end_all
from forebay.wire import convert
from forebay.wire.clock import Clock
from forebay.wire.convert_predictor import outcome_to_proto

log = logging.getLogger(__name__)

FAILURES_MAX = 3
OUTCOME_CAPACITY = 10_000
OUTCOME_TIMEOUT_S = 10.0

Reply: TypeAlias = Callable[[LengthPrediction | None], None]
Batch: TypeAlias = list[tuple[InferenceRequest, Reply]]


class Predictions:
    """The predictor as a place to ask: each question is answered within the batching time plus the deadline.

    While no batch is on its way the next one leaves at once; otherwise it gathers until that is back, for
    `predictor_batch_ms` at most. After three failures in a row questions are answered with None for
    `predictor_pause_s`, so that a dead predictor costs no time. Questions that were on their way together fail as one:
    a predictor that stops for a moment is not dead.
    """

    def __init__(self, channel: grpc.aio.Channel, config: Config, clock: Clock, traces: Traces | None = None) -> None:
        self._stub = PredictorServiceStub(channel)
        self._config = config
        self._clock = clock
        self._traces = traces or Traces()
        self._batch: Batch = []
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._failure_count = 0
        self._failed_us = 0
        self._paused_until_us = 0

    def ask(self, request: InferenceRequest, reply: Reply) -> None:
        """Calls `reply` once with the prediction, or with None where there is none in time."""
        if self._clock() < self._paused_until_us:
            reply(None)
            return
        self._batch.append((request, reply))
        if len(self._batch) >= self._config.predictor_batch_count_max:
            self._send()
        elif self._timer is None:
            delay_s = self._config.predictor_batch_ms / 1_000 if self._calls else 0.0
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._send)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._batch = self._batch, []
        call = asyncio.create_task(self._predict(batch))
        self._calls.add(call)
        call.add_done_callback(self._returned)

    def _returned(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if self._batch and not self._calls:
            self._send()

    async def _predict(self, batch: Batch) -> None:
        predictions = await self._call([request for request, _ in batch])
        for (_, reply), prediction in zip(batch, predictions, strict=True):
            reply(prediction)

    async def _call(self, requests: Sequence[InferenceRequest]) -> Sequence[LengthPrediction | None]:
        queries = [convert.length_query_to_proto(request) for request in requests]
        spans = self._traces.predicting(queries)
        message = predictor_service_pb2.PredictLengthRequest(queries=queries)
        asked_us = self._clock()
        try:
            answer = await self._stub.PredictLength(message, timeout=self._config.predictor_deadline_ms / 1_000)
        except grpc.RpcError as error:
            end_all(spans, error)
            self._failed(error, asked_us)
            return [None] * len(queries)
        end_all(spans)
        if [one.query_id for one in answer.predictions] != [query.query_id for query in queries]:
            self._failed(ValueError("the answers are not those to the queries"), asked_us)
            return [None] * len(queries)
        self._failure_count = 0
        return [convert.prediction_from_proto(one, answer.predicted_by) for one in answer.predictions]

    def _failed(self, error: Exception, asked_us: int) -> None:
        if asked_us < self._failed_us:
            return
        self._failed_us = self._clock()
        self._failure_count += 1
        if self._failure_count == FAILURES_MAX:
            text = error.code().name if isinstance(error, grpc.aio.AioRpcError) else str(error)
            log.warning("the predictor does not answer; the histogram does", extra={"fields": {"error": text}})
        if self._failure_count >= FAILURES_MAX:
            self._paused_until_us = self._clock() + round(self._config.predictor_pause_s * US_PER_S)


class Outcomes:
    """Delivers outcomes to the predictor in the background: in batches, bounded, kept while it is down."""

    def __init__(self, channel: grpc.aio.Channel, name: str, interval_s: float) -> None:
        self._stub = PredictorServiceStub(channel)
        self._name = name
        self._interval_s = interval_s
        self._pending: deque[Observe] = deque(maxlen=OUTCOME_CAPACITY)
        self._batch_number = 0

    def observe(self, outcome: Observe) -> None:
        """Takes an outcome; when too many are pending the oldest goes."""
        self._pending.append(outcome)

    async def run(self) -> None:
        """Sends for ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.flush()

    async def flush(self) -> None:
        """Sends what is there; a batch that cannot be delivered comes back to the front."""
        while self._pending:
            batch = [self._pending.popleft() for _ in range(min(OUTCOME_BATCH_MAX, len(self._pending)))]
            if not await self._deliver(batch):
                room = OUTCOME_CAPACITY - len(self._pending)
                self._pending.extendleft(reversed(batch[-room:] if room else []))
                return

    async def _deliver(self, batch: Sequence[Observe]) -> bool:
        self._batch_number += 1
        message = predictor_service_pb2.ObserveOutcomesRequest(
            outcomes=[outcome_to_proto(_outcome(one)) for one in batch],
            request_id=f"{self._name}-o{self._batch_number}",
        )
        try:
            await self._stub.ObserveOutcomes(message, timeout=OUTCOME_TIMEOUT_S)
        except grpc.RpcError as error:
            # A batch that the predictor refuses would be refused for ever; losing it beats blocking those behind it.
            return isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.INVALID_ARGUMENT
        return True


class PredictorLengths:
    """Both halves of the predictor, as the shell wants them."""

    def __init__(self, predictions: Predictions, outcomes: Outcomes) -> None:
        self.ask = predictions.ask
        self.observe = outcomes.observe


def _outcome(value: Observe) -> LengthOutcome:
    return LengthOutcome(value.request, value.generated_tokens, value.censored, value.predicted, value.predicted_by)
