"""An emulated server's load reports: of one model with its answers, and of the whole server on a stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from lmaas.orca import orca_pb2
from lmaas.orca.orca_pb2_grpc import OpenRcaServiceServicer

from forebay.core.units import US_PER_S
from forebay.emulator.host import ModelHost
from forebay.emulator.repository import Repository
from forebay.wire.orca import KV_UTILIZATION, RUNNING, TOKENS_MAX, WAITING

_INTERVAL_MIN_S = 0.05


def report_of(host: ModelHost) -> orca_pb2.OrcaLoadReport:
    """The load of a model's engine, under Triton's names and vLLM's."""
    view = host.view()
    used_share = (view.block_count - view.free_block_count) / view.block_count
    named = {
        KV_UTILIZATION: used_share,
        TOKENS_MAX: float(view.block_count * view.block_size),
        RUNNING: float(view.running_count),
        WAITING: float(view.waiting_count),
    }
    full_share = view.running_count / view.max_seqs
    return orca_pb2.OrcaLoadReport(named_metrics=named, application_utilization=max(used_share, full_share))


class LoadReports(OpenRcaServiceServicer):
    """Out of band: the server's only model, or of several the one whose cache is fullest."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def StreamCoreMetrics(
        self, request: orca_pb2.OrcaLoadReportRequest, context: Any
    ) -> AsyncIterator[orca_pb2.OrcaLoadReport]:
        """A report at once and one each interval."""
        interval_s = max(request.report_interval.ToMicroseconds() / US_PER_S, _INTERVAL_MIN_S)
        while True:
            reports = [report_of(entry.host) for entry in self._repository.entries() if entry.host is not None]
            yield max(reports, key=_fullness, default=orca_pb2.OrcaLoadReport())
            await asyncio.sleep(interval_s)


def _fullness(report: orca_pb2.OrcaLoadReport) -> float:
    return report.application_utilization
