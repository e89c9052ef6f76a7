"""Translation between the autoscaler's messages and our values."""

from collections.abc import Iterable, Mapping

from lmaas.autoscaler.v1 import autoscaler_service_pb2, fleet_pb2
from lmaas.metrics.v1 import event_pb2
from lmaas.predictor.v1 import workload_pb2

from forebay.core.fleet import Advice, Bounds, ForecastBand, ModelFleet, PoolAdvice, ScalingDecision
from forebay.core.values import Instance
from forebay.wire.convert import duration, instance_to_proto, timestamp

_PREFIX = "MODE_"


def mode_to_proto(mode: str) -> str:
    """The mode by its name in the contract, which message constructors take."""
    return f"{_PREFIX}{mode.upper()}"


def mode_from_proto(number: int) -> str:
    """The mode, such as "active"."""
    return fleet_pb2.Mode.Name(fleet_pb2.Mode.ValueType(number)).removeprefix(_PREFIX).lower()


def bounds_to_proto(value: Bounds) -> fleet_pb2.Bounds:
    """Bounds as a message."""
    return fleet_pb2.Bounds(
        model=value.model, instances_min=value.instances_min, instances_max=value.instances_max, pool=value.pool
    )


def bounds_from_proto(message: fleet_pb2.Bounds) -> Bounds:
    """Bounds from a message."""
    return Bounds(message.model, message.instances_min, message.instances_max, message.pool)


def model_fleet_to_proto(value: ModelFleet) -> fleet_pb2.ModelFleet:
    """A pool as a message."""
    return fleet_pb2.ModelFleet(
        model=value.model,
        bounds=bounds_to_proto(value.bounds),
        instances_wanted=value.instances_wanted,
        ready_count=value.ready_count,
        starting_count=value.starting_count,
        draining_count=value.draining_count,
        last_decision_id=value.last_decision_id,
        pool=value.pool,
        reason=value.reason,
        flip=value.flip,
        lead_p50=duration(value.lead_p50_us),
        lead_p90=duration(value.lead_p90_us),
        bound_by=value.bound_by,
        region=value.region,
        gpu=value.gpu,
        gpu_count=value.gpu_count,
        role=f"INSTANCE_ROLE_{value.role.name}" if value.role is not None else None,
    )


def forecast_to_proto(value: ForecastBand) -> fleet_pb2.ForecastBand:
    """One window of a forecast as a message."""
    return fleet_pb2.ForecastBand(
        model=value.model,
        start_time=timestamp(value.start_us),
        window=duration(value.window_us),
        requests=_quantiles(value.requests),
        prompt_tokens=_quantiles(value.prompt_tokens),
        response_tokens=_quantiles(value.response_tokens),
    )


def advice_to_proto(value: Advice) -> autoscaler_service_pb2.AdviseScalingResponse:
    """What would be done as a message."""
    return autoscaler_service_pb2.AdviseScalingResponse(
        policy=value.policy, pools=map(_pool_advice, value.pools), warnings=value.warnings
    )


def _pool_advice(value: PoolAdvice) -> fleet_pb2.PoolAdvice:
    return fleet_pb2.PoolAdvice(
        model=value.model,
        pool=value.pool,
        instances_before=value.instances_before,
        instances_wanted=value.instances_wanted,
        instances_after=value.instances_after,
        bound_by=value.bound_by,
        reason=value.reason,
        flip=value.flip,
        inputs=dict(value.inputs),
    )


def scaled_models_to_proto(leads: Mapping[str, int]) -> list[fleet_pb2.ScaledModel]:
    """Models that can be started, with how long that takes in microseconds, by name."""
    return [fleet_pb2.ScaledModel(model=model, lead=duration(lead_us)) for model, lead_us in sorted(leads.items())]


def scaled_models_from_proto(messages: Iterable[fleet_pb2.ScaledModel]) -> dict[str, int]:
    """The same from messages."""
    return {message.model: message.lead.ToMicroseconds() for message in messages}


def decision_to_proto(value: ScalingDecision) -> fleet_pb2.ScalingDecision:
    """A decision as a message."""
    return fleet_pb2.ScalingDecision(
        decision_id=value.decision_id,
        model=value.model,
        decision_time=timestamp(value.decided_us),
        instances_before=value.instances_before,
        instances_wanted=value.instances_wanted,
        instances_after=value.instances_after,
        policy=value.policy,
        inputs=dict(value.inputs),
        reason=value.reason,
        mode=mode_to_proto(value.mode),
        pool=value.pool,
        flip=value.flip,
    )


def instance_change(event_id: str, instance: Instance) -> event_pb2.Event:
    """One step in an instance's life as an event for metrics."""
    change = event_pb2.InstanceChange(instance=instance_to_proto(instance))
    return event_pb2.Event(event_id=event_id, instance=change)


def _quantiles(values: tuple[float, float, float, float]) -> workload_pb2.Quantiles:
    return workload_pb2.Quantiles(p10=values[0], p50=values[1], p90=values[2], p97=values[3])


def forecast_quantiles(message: workload_pb2.Quantiles) -> tuple[float, float, float, float]:
    """The quantiles p10, p50, p90 and p97 of one quantity."""
    return (message.p10, message.p50, message.p90, message.p97)
