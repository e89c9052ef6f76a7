"""Reads workload history from the metrics service."""

import grpc
from lmaas.metrics.v1 import metrics_service_pb2
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub

from forebay.core.errors import ForebayError, Unavailable
from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.traffic.history import SeriesName
from forebay.wire.convert import duration, timestamp, workload_point_from_proto
from forebay.wire.errors import from_rpc_error

PAGE_SIZE = 2_000
"""Few enough that nobody else waits for more than a few milliseconds while a page is read."""
RETRY_AFTER_US = 2 * US_PER_S


class MetricsHistory:
    """The history that the metrics service keeps."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float, points_max: int) -> None:
        self._stub = MetricsServiceStub(channel)
        self._timeout_s = timeout_s
        self._points_max = points_max

    async def read(self, series: SeriesName, start_us: int, end_us: int) -> list[WorkloadPoint]:
        """The newest windows of the series from `start_us` to before `end_us`, as many as `points_max` at most.

        Raises Unavailable, with the time to come back, when metrics does not answer.
        """
        start_us = max(start_us, end_us - self._points_max * series.window_us)
        points: list[WorkloadPoint] = []
        token = ""
        while True:
            page = await self._page(_request(series, start_us, end_us, token))
            points += (workload_point_from_proto(point) for point in page.points)
            token = page.next_page_token
            if not token or len(points) >= self._points_max:
                return points

    async def _page(
        self, request: metrics_service_pb2.QueryWorkloadHistoryRequest
    ) -> metrics_service_pb2.QueryWorkloadHistoryResponse:
        try:
            return await self._stub.QueryWorkloadHistory(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise _unavailable(from_rpc_error(error)) from error


def _request(
    series: SeriesName, start_us: int, end_us: int, token: str
) -> metrics_service_pb2.QueryWorkloadHistoryRequest:
    return metrics_service_pb2.QueryWorkloadHistoryRequest(
        model=series.model,
        region=series.region,
        slo_class=series.slo_class,  # type: ignore[arg-type]
        window=duration(series.window_us),
        start_time=timestamp(start_us),
        end_time=timestamp(end_us),
        page_size=PAGE_SIZE,
        page_token=token,
    )


def _unavailable(error: ForebayError) -> Unavailable:
    return Unavailable(
        f"metrics does not answer, so there is no history to forecast from ({error.message}); is it running?",
        retry_after_us=error.retry_after_us or RETRY_AFTER_US,
    )
