"""Answers KEDA: how many instances each pool should have, for Kubernetes to start and end them.

The metric is the number itself and its target for one replica is 1, so the rule of Kubernetes' autoscaler for a metric
with an average value, ceil(total / target), gives exactly that number.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from lmaas.externalscaler import externalscaler_pb2 as pb
from lmaas.externalscaler.externalscaler_pb2_grpc import ExternalScalerServicer

from forebay.autoscaler.config import ModelConfig
from forebay.autoscaler.loop import Leading, Loop
from forebay.core.errors import FailedPrecondition, InvalidArgument, ModelUnknown, NotFound, Unavailable

SERVICE = "externalscaler.ExternalScaler"
METRIC = "instances_wanted"
TARGET = 1
LOOK_S = 1.0
"""How often it is looked whether the number has changed; a decision is seen at once."""


class KedaServicer(ExternalScalerServicer):
    """KEDA's external scaler over one loop, for the pools whose launcher is "keda".

    A trigger's metadata names the `model`, and the `pool` where the model has several. Everything else is an error, and
    so is any question while the mode is not active: KEDA and Kubernetes then leave the replicas as they are.
    """

    def __init__(self, loop: Loop, models: Sequence[ModelConfig]) -> None:
        self._loop = loop
        self._models = models

    async def IsActive(self, request: pb.ScaledObjectRef, context: Any) -> pb.IsActiveResponse:
        """Whether any instance is wanted; while requests wait for the model, the safety kernel wants one."""
        return pb.IsActiveResponse(result=self._told(request) > 0)

    async def StreamIsActive(self, request: pb.ScaledObjectRef, context: Any) -> AsyncIterator[pb.IsActiveResponse]:
        """The same at once and after every change."""
        sent: bool | None = None
        while True:
            require_term(self._loop.leadership)
            changed, told = self._loop.changed, self._loop.engine.told(self._pool(request).pool_name)
            if told is not None and (told > 0) is not sent:
                sent = told > 0
                yield pb.IsActiveResponse(result=sent)
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_S)

    async def GetMetricSpec(self, request: pb.ScaledObjectRef, context: Any) -> pb.GetMetricSpecResponse:
        """The metric and its target, which never change."""
        self._pool(request)
        return _spec()

    async def StreamMetricSpec(
        self, request: pb.ScaledObjectRef, context: Any
    ) -> AsyncIterator[pb.GetMetricSpecResponse]:
        """The same at once; the stream stays open, so that KEDA does not ask again."""
        self._pool(request)
        yield _spec()
        await asyncio.Event().wait()

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Any) -> pb.GetMetricsResponse:
        """The number of instances that the pool should have."""
        if request.metricName not in ("", METRIC):
            raise NotFound(f"no metric {request.metricName!r}; this scaler has {METRIC!r}")
        wanted = self._told(request.scaledObjectRef)
        value = pb.MetricValue(metricName=METRIC, metricValue=wanted, metricValueFloat=wanted)
        return pb.GetMetricsResponse(metricValues=[value])

    def _told(self, ref: pb.ScaledObjectRef) -> int:
        """The number that has passed the safety kernel."""
        told = self._loop.engine.told(self._pool(ref).pool_name)
        if told is None:
            raise Unavailable("the autoscaler has decided nothing yet; ask again in a few seconds")
        return told

    def _pool(self, ref: pb.ScaledObjectRef) -> ModelConfig:
        """The pool that a trigger means."""
        if self._loop.engine.mode != "active":
            raise FailedPrecondition("the autoscaler only advises; set its mode to active to let KEDA act")
        name, pool = ref.scalerMetadata.get("model", ""), ref.scalerMetadata.get("pool", "")
        if not name:
            text = "is missing; the trigger's metadata must name it"
            raise InvalidArgument(f"model {text}", violations={"scalerMetadata.model": text})
        known = [model for model in self._models if model.name == name]
        found = next((model for model in known if pool in ("", model.pool_name)), None)
        if found is None:
            what = f"pool {pool!r} of model {name!r}" if known else f"model {name!r}"
            pools = ", ".join(model.pool_name for model in self._models if model.is_pulled) or "none"
            raise ModelUnknown(f"{what} is not scaled; pools that KEDA may ask for: {pools}")
        if len(known) > 1 and not pool:
            text = f"must be one of {', '.join(model.pool_name for model in known)}"
            raise InvalidArgument(
                f"model {name!r} has several pools: pool {text}", violations={"scalerMetadata.pool": text}
            )
        if not found.is_pulled:
            text = (
                f"pool {found.pool_name!r} is started by launcher {found.launcher!r}; two hands must not scale one pool"
            )
            raise FailedPrecondition(f'{text}: set launcher = "keda"')
        return found


def require_term(leadership: Leading) -> None:
    """Raises NotLeader or Unavailable unless this process surely leads: else two replicas tell two numbers."""
    leadership.require()
    if not leadership.may_act():
        raise Unavailable("the term of this autoscaler is not renewed, as its database does not answer; ask again")


def _spec() -> pb.GetMetricSpecResponse:
    spec = pb.MetricSpec(metricName=METRIC, targetSize=TARGET, targetSizeFloat=TARGET)
    return pb.GetMetricSpecResponse(metricSpecs=[spec])
