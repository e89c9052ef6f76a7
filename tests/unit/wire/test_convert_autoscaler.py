"""The autoscaler's messages carry every field of the values."""

from dataclasses import fields

from lmaas.autoscaler.v1 import fleet_pb2
from lmaas.common.v1 import instance_pb2
from lmaas.predictor.v1 import workload_pb2

from forebay.core.fleet import Advice, Bounds, ForecastBand, ModelFleet, PoolAdvice, ScalingDecision
from forebay.core.values import Instance, InstanceRole, InstanceState
from forebay.wire import convert_autoscaler as codec


def test_bounds_survive_the_wire() -> None:
    bounds = Bounds("m", 2, 7)
    assert codec.bounds_from_proto(codec.bounds_to_proto(bounds)) == bounds


def test_modes_have_the_names_of_the_contract() -> None:
    for mode in ("active", "advisory"):
        number = fleet_pb2.Mode.Value(codec.mode_to_proto(mode))
        assert codec.mode_from_proto(number) == mode


def test_a_decision_carries_everything() -> None:
    decision = ScalingDecision("d", "m", 5, 1, 3, 2, "kpa", "active", "why", {"x": 1.5}, "p", "less")
    message = codec.decision_to_proto(decision)
    assert len(message.ListFields()) == len(fields(ScalingDecision))
    assert message.decision_time.ToMicroseconds() == 5
    assert (message.instances_before, message.instances_wanted, message.instances_after) == (1, 3, 2)
    assert (dict(message.inputs), message.mode, message.reason) == ({"x": 1.5}, fleet_pb2.MODE_ACTIVE, "why")
    assert (message.pool, message.flip) == ("p", "less")


def test_a_model_in_numbers_carries_everything() -> None:
    message = codec.model_fleet_to_proto(
        ModelFleet(
            *("m", Bounds("m", 1, 2, "p"), 3, 4, 5, 6, "d", "p", "why", "less", 7, 8),
            *("the budget", "east", "H100", 2, InstanceRole.BATCH),
        )
    )
    assert len(message.ListFields()) == len(fields(ModelFleet))
    assert (message.instances_wanted, message.ready_count, message.starting_count, message.draining_count) == (
        3,
        4,
        5,
        6,
    )
    assert (message.bounds.pool, message.pool, message.reason, message.flip) == ("p", "p", "why", "less")
    assert (message.lead_p50.ToMicroseconds(), message.lead_p90.ToMicroseconds()) == (7, 8)
    assert (message.bound_by, message.region, message.gpu, message.gpu_count) == ("the budget", "east", "H100", 2)
    assert message.role == instance_pb2.INSTANCE_ROLE_BATCH


def test_a_forecast_carries_everything() -> None:
    quantities = ((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0), (9.0, 10.0, 11.0, 12.0))
    message = codec.forecast_to_proto(ForecastBand("m", 7, 60, *quantities))
    assert (message.model, message.start_time.ToMicroseconds(), message.window.ToMicroseconds()) == ("m", 7, 60)
    told = (message.requests, message.prompt_tokens, message.response_tokens)
    assert tuple(map(codec.forecast_quantiles, told)) == quantities


def test_advice_carries_everything() -> None:
    pool = PoolAdvice("m", "p", 1, 2, 3, "the budget", "why", "less", {"x": 1.5})
    message = codec.advice_to_proto(Advice("kpa", (pool,), ("beware",)))
    assert (message.policy, list(message.warnings)) == ("kpa", ["beware"])
    told = message.pools[0]
    assert len(told.ListFields()) == len(fields(PoolAdvice))
    assert (told.instances_before, told.instances_wanted, told.instances_after) == (1, 2, 3)
    assert (told.model, told.pool, told.bound_by, told.reason, told.flip) == ("m", "p", "the budget", "why", "less")
    assert dict(told.inputs) == {"x": 1.5}


def test_a_change_is_an_event_with_the_instance() -> None:
    event = codec.instance_change("e", Instance("i", "m", "a:1", "s", state=InstanceState.READY))
    assert (event.event_id, event.WhichOneof("kind")) == ("e", "instance")
    assert event.instance.instance.state == instance_pb2.INSTANCE_STATE_READY


def test_quantiles_keep_their_order() -> None:
    message = workload_pb2.Quantiles(p10=1.0, p50=2.0, p90=3.0, p97=4.0)
    assert codec.forecast_quantiles(message) == (1.0, 2.0, 3.0, 4.0)
