"""Answers the metrics contract: takes events, tells snapshots, history and single requests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lmaas.metrics.v1 import event_pb2
from lmaas.metrics.v1 import metrics_service_pb2 as pb
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceServicer

from forebay.core.metrics import Event, RequestRecord
from forebay.core.units import US_PER_S
from forebay.core.values import SloClass
from forebay.metrics.engine import MetricsEngine
from forebay.metrics.prometheus import RequestStats
from forebay.metrics.store import Series, Store
from forebay.metrics.writer import Writer
from forebay.wire import convert, validate
from forebay.wire.clock import Clock
from forebay.wire.convert_metrics import (
    event_from_proto,
    event_violations,
    request_to_proto,
    snapshot_to_proto,
)
from forebay.wire.paging import from_token, to_token

SERVICE = "lmaas.metrics.v1.MetricsService"
WINDOW_US = 60 * US_PER_S
POINTS_PER_PAGE = 1_440
REQUESTS_PER_PAGE = 100
INTERVAL_S = 1.0


class MetricsServicer(MetricsServiceServicer):
    """The contract over one engine, one writer and one store; see protos/lmaas/metrics/v1/metrics_service.proto.

    `watch` is called with every request that ended, once.
    """

    def __init__(
        self,
        engine: MetricsEngine,
        writer: Writer,
        store: Store,
        stats: RequestStats,
        clock: Clock,
        watch: Callable[[RequestRecord], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._store = store
        self._stats = stats
        self._clock = clock
        self._watch = watch

    async def ReportEvents(
        self, request_iterator: AsyncIterator[pb.ReportEventsRequest], context: Any
    ) -> pb.ReportEventsResponse:
        """Takes each event up to the first bad one."""
        accepted_count = 0
        async for request in request_iterator:
            good, violations = _until_bad(request)
            await self._take([event_from_proto(event) for event in good])
            validate.refuse(violations)
            accepted_count += len(good)
        return pb.ReportEventsResponse(accepted_count=accepted_count)

    async def _take(self, events: list[Event]) -> None:
        now_us = self._clock()
        for event in events:
            if self._engine.on_event(event, now_us) and isinstance(event.kind, RequestRecord):
                self._stats.observe(event.kind)
                self._watch(event.kind)
        if events:
            await self._writer.submit(events)

    async def QueryWorkloadHistory(
        self, request: pb.QueryWorkloadHistoryRequest, context: Any
    ) -> pb.QueryWorkloadHistoryResponse:
        """Sums by window; the token holds where the next page starts and where the query ends."""
        series = Series(request.model, request.region, SloClass(request.slo_class) if request.slo_class else None)
        window_us = request.window.ToMicroseconds() or WINDOW_US
        start_us, end_us = from_token(request, 2) or await self._span(request, series)
        page_us = window_us * (request.page_size or POINTS_PER_PAGE)
        stop_us = min(start_us - start_us % window_us + page_us, end_us)
        points = await asyncio.to_thread(self._store.workload, series, window_us, start_us, stop_us)
        return pb.QueryWorkloadHistoryResponse(
            points=[convert.workload_point_to_proto(point) for point in points],
            next_page_token=to_token(request, stop_us, end_us) if stop_us < end_us else "",
        )

    async def _span(self, request: pb.QueryWorkloadHistoryRequest, series: Series) -> tuple[int, int]:
        end_us = _us(request.end_time) if request.HasField("end_time") else self._clock()
        if request.HasField("start_time"):
            return _us(request.start_time), end_us
        first_us = await asyncio.to_thread(self._store.first_arrival_us, series)
        return (end_us if first_us is None else first_us), end_us

    async def ListRequests(self, request: pb.ListRequestsRequest, context: Any) -> pb.ListRequestsResponse:
        """Lists records; the token holds the key of the last one shown."""
        count_max = request.page_size or REQUESTS_PER_PAGE
        key = from_token(request, 2)
        before = (key[0], key[1]) if key else None
        found = await asyncio.to_thread(
            self._store.requests, request.model, _us(request.start_time), before, count_max + 1
        )
        shown = found[:count_max]
        return pb.ListRequestsResponse(
            requests=[request_to_proto(record) for _, record in shown],
            next_page_token=to_token(request, *shown[-1][0]) if len(found) > len(shown) else "",
        )

    async def GetSnapshot(self, request: pb.GetSnapshotRequest, context: Any) -> pb.GetSnapshotResponse:
        """The engine's snapshot of now."""
        return pb.GetSnapshotResponse(snapshot=snapshot_to_proto(self._engine.snapshot(self._clock())))

    async def WatchSnapshots(
        self, request: pb.WatchSnapshotsRequest, context: Any
    ) -> AsyncIterator[pb.WatchSnapshotsResponse]:
        """A snapshot at once and one each interval, until the client goes."""
        interval_s = request.interval.ToMicroseconds() / US_PER_S or INTERVAL_S
        while True:
            yield pb.WatchSnapshotsResponse(snapshot=snapshot_to_proto(self._engine.snapshot(self._clock())))
            await asyncio.sleep(interval_s)


def _until_bad(request: pb.ReportEventsRequest) -> tuple[list[event_pb2.Event], dict[str, str]]:
    violations = dict(validate.violations_of_fields(request))
    good: list[event_pb2.Event] = []
    for index, event in enumerate(() if violations else request.events):
        violations = dict(event_violations(event, f"events[{index}]."))
        if violations:
            break
        good.append(event)
    return good, violations


def _us(message: Timestamp) -> int:
    return message.ToMicroseconds()
