"""Asks all services of a stack what they see; one that does not answer leaves its part empty."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
from lmaas.autoscaler.v1 import autoscaler_service_pb2, fleet_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.common.v1 import instance_pb2
from lmaas.metrics.v1 import metrics_service_pb2, snapshot_pb2
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from lmaas.predictor.v1 import length_pb2, predictor_service_pb2
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub
from lmaas.scheduler.v1 import scheduler_service_pb2, status_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.cli.state import Addresses
from forebay.cli.supervisor import is_serving
from forebay.wire.channel import connect

CALL_TIMEOUT_S = 2.0
DECISION_COUNT = 5
Part: TypeAlias = "Callable[[View, grpc.aio.Channel], Awaitable[None]]"


@dataclass(slots=True)
class View:
    """Everything that `forebay status` shows. None: the service that knows it does not answer."""

    serving: dict[str, bool] = field(default_factory=dict)
    fleet: autoscaler_service_pb2.GetFleetResponse | None = None
    instances: scheduler_service_pb2.ListInstancesResponse | None = None
    queues: scheduler_service_pb2.ListQueuesResponse | None = None
    snapshot: snapshot_pb2.Snapshot | None = None
    predictors: list[length_pb2.PredictorModel] = field(default_factory=list)
    decisions: list[fleet_pb2.ScalingDecision] = field(default_factory=list)

    def all_instances(self) -> list[instance_pb2.Instance]:
        """The fleet as the autoscaler sees it, or, while it is away, as the scheduler last heard of it."""
        if self.fleet is not None:
            return list(self.fleet.instances)
        return [one.instance for one in self.instances.instances] if self.instances else []

    def scheduled(self) -> dict[str, status_pb2.ScheduledInstance]:
        """What the scheduler put on each instance."""
        return {one.instance.instance_id: one for one in self.instances.instances} if self.instances else {}

    def observed(self) -> dict[str, snapshot_pb2.InstanceLoad]:
        """What metrics sees of each instance."""
        return {one.instance_id: one for one in self.snapshot.instances} if self.snapshot else {}


async def look(addresses: Addresses) -> View:
    """Asks everybody at once; each service fills its part."""
    view = View()
    parts: dict[str, Part] = dict.fromkeys(addresses.schedulers, _scheduler)
    parts |= {"autoscaler": _autoscaler, "metrics": _metrics, "predictor": _predictor}
    async with contextlib.AsyncExitStack() as stack:
        channels = {name: await stack.enter_async_context(connect(addresses.grpc[name])) for name in parts}
        asked = [_quietly(part, view, channels[name]) for name, part in parts.items()]
        await asyncio.gather(_health(view, addresses), *asked)
    return view


async def _quietly(part: Part, view: View, channel: grpc.aio.Channel) -> None:
    with contextlib.suppress(grpc.RpcError):
        await part(view, channel)


async def _health(view: View, addresses: Addresses) -> None:
    serving = await asyncio.gather(*(is_serving(addresses.grpc[name]) for name in addresses.services))
    view.serving = dict(zip(addresses.services, serving, strict=True))


async def _scheduler(view: View, channel: grpc.aio.Channel) -> None:
    stub = SchedulerServiceStub(channel)
    instances = await stub.ListInstances(scheduler_service_pb2.ListInstancesRequest(), timeout=CALL_TIMEOUT_S)
    queues = await stub.ListQueues(scheduler_service_pb2.ListQueuesRequest(), timeout=CALL_TIMEOUT_S)
    view.instances, view.queues = _add_instances(view.instances, instances), _add_queues(view.queues, queues)


def _add_instances(
    known: scheduler_service_pb2.ListInstancesResponse | None, more: scheduler_service_pb2.ListInstancesResponse
) -> scheduler_service_pb2.ListInstancesResponse:
    """Every replica knows all instances, each with the leases that it gave itself."""
    if known is None:
        return more
    others = {one.instance.instance_id: one for one in more.instances}
    for one in known.instances:
        if one.instance.instance_id in others:
            one.lease_count += others[one.instance.instance_id].lease_count
            one.predicted_tokens += others[one.instance.instance_id].predicted_tokens
    return known


def _add_queues(
    known: scheduler_service_pb2.ListQueuesResponse | None, more: scheduler_service_pb2.ListQueuesResponse
) -> scheduler_service_pb2.ListQueuesResponse:
    if known is None:
        return more
    others = {one.model: one for one in more.queues}
    for one in known.queues:
        other = others.get(one.model)
        if other is not None:
            one.held_count += other.held_count
            one.lease_count += other.lease_count
            if other.oldest_held.ToMicroseconds() > one.oldest_held.ToMicroseconds():
                one.oldest_held.CopyFrom(other.oldest_held)
    return known


async def _autoscaler(view: View, channel: grpc.aio.Channel) -> None:
    stub = AutoscalerServiceStub(channel)
    view.fleet = await stub.GetFleet(autoscaler_service_pb2.GetFleetRequest(), timeout=CALL_TIMEOUT_S)
    request = autoscaler_service_pb2.ListDecisionsRequest(page_size=DECISION_COUNT)
    view.decisions = list((await stub.ListDecisions(request, timeout=CALL_TIMEOUT_S)).decisions)


async def _metrics(view: View, channel: grpc.aio.Channel) -> None:
    request = metrics_service_pb2.GetSnapshotRequest()
    view.snapshot = (await MetricsServiceStub(channel).GetSnapshot(request, timeout=CALL_TIMEOUT_S)).snapshot


async def _predictor(view: View, channel: grpc.aio.Channel) -> None:
    request = predictor_service_pb2.ListModelsRequest()
    view.predictors = list((await PredictorServiceStub(channel).ListModels(request, timeout=CALL_TIMEOUT_S)).models)
