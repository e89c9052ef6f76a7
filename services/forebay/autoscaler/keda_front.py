"""Lets any replica of the autoscaler answer KEDA: one that does not lead asks the one that does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from lmaas.externalscaler import externalscaler_pb2 as pb
from lmaas.externalscaler.externalscaler_pb2_grpc import ExternalScalerServicer, ExternalScalerStub

from forebay.autoscaler.keda import KedaServicer, require_term
from forebay.autoscaler.loop import Leading
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error

ASKED = "forebay-asked-by-a-replica"
"""Metadata of a question that was passed on: it is not passed on again."""
TIMEOUT_S = 3.0


class KedaFront(ExternalScalerServicer):
    """KEDA's external scaler on every replica; where nobody leads, every call fails with NotLeader."""

    def __init__(self, inner: KedaServicer, leadership: Leading) -> None:
        self._inner = inner
        self._leadership = leadership

    async def IsActive(self, request: pb.ScaledObjectRef, context: Any) -> pb.IsActiveResponse:
        """As the leader answers."""
        answer: pb.IsActiveResponse = await self._one("IsActive", request, context)
        return answer

    async def StreamIsActive(self, request: pb.ScaledObjectRef, context: Any) -> AsyncIterator[pb.IsActiveResponse]:
        """As the leader answers, until another one leads."""
        async for answer in self._many("StreamIsActive", request, context):
            yield answer

    async def GetMetricSpec(self, request: pb.ScaledObjectRef, context: Any) -> pb.GetMetricSpecResponse:
        """As the leader answers."""
        answer: pb.GetMetricSpecResponse = await self._one("GetMetricSpec", request, context)
        return answer

    async def StreamMetricSpec(
        self, request: pb.ScaledObjectRef, context: Any
    ) -> AsyncIterator[pb.GetMetricSpecResponse]:
        """As the leader answers, until another one leads."""
        async for answer in self._many("StreamMetricSpec", request, context):
            yield answer

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Any) -> pb.GetMetricsResponse:
        """As the leader answers."""
        answer: pb.GetMetricsResponse = await self._one("GetMetrics", request, context)
        return answer

    async def _one(self, name: str, request: Any, context: Any) -> Any:
        if self._answers_here(context):
            return await getattr(self._inner, name)(request, context)
        async with _leader(self._leadership.leader) as stub:
            return await getattr(stub, name)(request, timeout=TIMEOUT_S, metadata=((ASKED, "1"),))

    async def _many(self, name: str, request: Any, context: Any) -> AsyncIterator[Any]:
        if self._answers_here(context):
            async for answer in getattr(self._inner, name)(request, context):
                yield answer
            return
        async with _leader(self._leadership.leader) as stub:
            async for answer in getattr(stub, name)(request, metadata=((ASKED, "1"),)):
                yield answer

    def _answers_here(self, context: Any) -> bool:
        if self._leadership.may_act():
            return True
        if not self._leadership.leader or any(key == ASKED for key, _ in context.invocation_metadata() or ()):
            require_term(self._leadership)
        return False


@asynccontextmanager
async def _leader(address: str) -> AsyncIterator[Any]:
    async with connect(address) as channel:
        try:
            yield ExternalScalerStub(channel)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
