"""Delivers events to the metrics service in the background: bounded, in batches, kept while it is down."""

import asyncio
import logging
from collections import deque

import grpc
from lmaas.metrics.v1 import event_pb2, metrics_service_pb2
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub

log = logging.getLogger(__name__)

BATCH_COUNT_MAX = 500
CALL_TIMEOUT_S = 10.0


class Reporter:
    """Buffers events and sends them every `interval_s`; when the buffer is full the oldest are dropped and counted."""

    def __init__(self, channel: grpc.aio.Channel, interval_s: float = 0.5, capacity: int = 100_000) -> None:
        self._stub = MetricsServiceStub(channel)
        self._interval_s = interval_s
        self._events: deque[event_pb2.Event] = deque(maxlen=capacity)
        self.dropped_count = 0

    @property
    def pending_count(self) -> int:
        """Events not delivered yet."""
        return len(self._events)

    def report(self, event: event_pb2.Event) -> None:
        """Takes an event; never waits and never fails."""
        self.dropped_count += len(self._events) == self._events.maxlen
        self._events.append(event)

    async def run(self) -> None:
        """Sends for ever; a failed delivery is tried again at the next turn."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.flush()

    async def flush(self) -> None:
        """Sends what is there; what cannot be delivered stays."""
        while self._events:
            batch = [self._events[i] for i in range(min(BATCH_COUNT_MAX, len(self._events)))]
            if not await self._deliver(batch):
                return
            # Events dropped while the call ran were the oldest, so part of this batch may be gone already.
            sent = {event.event_id for event in batch}
            while self._events and self._events[0].event_id in sent:
                self._events.popleft()

    async def _deliver(self, batch: list[event_pb2.Event]) -> bool:
        request = metrics_service_pb2.ReportEventsRequest(events=batch)
        try:
            await self._stub.ReportEvents(iter([request]), timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            refused = isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.INVALID_ARGUMENT
            log.warning("metrics did not take events", extra={"fields": {"pending": len(self._events)}})
            # A batch that the service refuses would be refused for ever; losing it beats blocking those behind it.
            return refused
        return True
