"""Answers the autoscaler's calls: decodes, asks the engine, encodes."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

from lmaas.autoscaler.v1 import autoscaler_service_pb2 as pb
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceServicer
from lmaas.common.v1 import instance_pb2

from forebay.autoscaler.advisor import Advisor
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.loop import Loop
from forebay.core.units import US_PER_S
from forebay.core.values import Instance
from forebay.wire import convert
from forebay.wire import convert_autoscaler as codec

SERVICE = "lmaas.autoscaler.v1.AutoscalerService"
INTERVAL_S = 5.0
PAGE_SIZE = 50


class AutoscalerServicer(AutoscalerServiceServicer):
    """The autoscaler's API over one loop."""

    def __init__(self, loop: Loop, advisor: Advisor) -> None:
        self._loop = loop
        self._advisor = advisor

    @property
    def _engine(self) -> Engine:
        """The engine that is in force now."""
        return self._loop.engine

    def _lead(self) -> Engine:
        """The engine, for what changes the fleet. Raises NotLeader unless this process leads."""
        self._loop.leadership.require()
        return self._loop.engine

    async def WatchFleet(self, request: pb.WatchFleetRequest, context: Any) -> AsyncIterator[pb.WatchFleetResponse]:
        """The whole selection now, after every change, and as a sign of life."""
        interval_s = request.interval_max.ToMicroseconds() / US_PER_S or INTERVAL_S
        while True:
            changed = self._loop.changed
            instances = _messages(self._engine.instances(request.model))
            yield pb.WatchFleetResponse(
                instances=instances,
                revision=self._engine.revision,
                models=codec.scaled_models_to_proto(self._engine.leads()),
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), interval_s)

    async def GetFleet(self, request: pb.GetFleetRequest, context: Any) -> pb.GetFleetResponse:
        """The fleet, its bounds and the mode."""
        return pb.GetFleetResponse(
            instances=_messages(self._engine.instances(request.model)),
            models=[codec.model_fleet_to_proto(model) for model in self._engine.models(request.model)],
            mode=codec.mode_to_proto(self._engine.mode),
            policy=self._engine.policy,
            warnings=self._engine.warnings,
            leader=self._loop.leadership.leader,
            forecasts=[codec.forecast_to_proto(band) for band in self._engine.forecasts(request.model)],
        )

    async def RegisterInstance(self, request: pb.RegisterInstanceRequest, context: Any) -> pb.RegisterInstanceResponse:
        """Takes an instance in."""
        instance = convert.instance_from_proto(request.instance)
        ttl_us = request.ttl.ToMicroseconds()
        self._loop.apply(self._lead().on_register(instance, ttl_us, self._loop.now_us()))
        known = self._engine.instance(instance.instance_id)
        return pb.RegisterInstanceResponse(instance=convert.instance_to_proto(known))

    async def HeartbeatInstance(
        self, request: pb.HeartbeatInstanceRequest, context: Any
    ) -> pb.HeartbeatInstanceResponse:
        """Renews a registration."""
        self._loop.apply(self._lead().on_heartbeat(request.instance_id, self._loop.now_us()))
        state = self._engine.instance(request.instance_id).state
        return pb.HeartbeatInstanceResponse(state=f"INSTANCE_STATE_{state.name}")

    async def DeregisterInstance(
        self, request: pb.DeregisterInstanceRequest, context: Any
    ) -> pb.DeregisterInstanceResponse:
        """Begins to drain an instance."""
        self._loop.apply(self._lead().on_deregister(request.instance_id, self._loop.now_us()))
        return pb.DeregisterInstanceResponse()

    async def ListDecisions(self, request: pb.ListDecisionsRequest, context: Any) -> pb.ListDecisionsResponse:
        """One page of decisions."""
        size = request.page_size or PAGE_SIZE
        decisions, token = self._engine.decisions.page(request.model, size, request.page_token)
        return pb.ListDecisionsResponse(decisions=map(codec.decision_to_proto, decisions), next_page_token=token)

    async def ExplainDecision(self, request: pb.ExplainDecisionRequest, context: Any) -> pb.ExplainDecisionResponse:
        """One decision."""
        decision = self._engine.decisions.get(request.decision_id)
        return pb.ExplainDecisionResponse(decision=codec.decision_to_proto(decision))

    async def SetBounds(self, request: pb.SetBoundsRequest, context: Any) -> pb.SetBoundsResponse:
        """Sets bounds."""
        bounds = codec.bounds_from_proto(request.bounds)
        self._loop.apply(self._lead().on_bounds(bounds, self._loop.now_us()))
        return pb.SetBoundsResponse(bounds=codec.bounds_to_proto(bounds))

    async def SetMode(self, request: pb.SetModeRequest, context: Any) -> pb.SetModeResponse:
        """Puts another actuator in force."""
        mode = codec.mode_from_proto(request.mode)
        self._loop.apply(self._lead().on_mode(mode, self._loop.now_us()))
        return pb.SetModeResponse(mode=request.mode)

    async def AdviseScaling(self, request: pb.AdviseScalingRequest, context: Any) -> pb.AdviseScalingResponse:
        """Rehearses one decision."""
        self._loop.leadership.require()
        return codec.advice_to_proto(await self._advisor.advise(self._loop, request.policy, request.parameters))


def _messages(instances: Iterable[Instance]) -> list[instance_pb2.Instance]:
    return [convert.instance_to_proto(instance) for instance in instances]
