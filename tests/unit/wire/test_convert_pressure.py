"""The messages of the pressure carry every field of the values."""

from dataclasses import fields

from forebay.core.pressure import (
    Anticipation,
    Demand,
    InstanceAnticipation,
    InstancePressure,
    Pressure,
    WaitingGroup,
    WaitingJob,
)
from forebay.core.values import SloClass
from forebay.wire import convert_pressure as codec

WHOLE = Pressure(
    at_us=7,
    horizon_iterations=90,
    instances=(InstancePressure("a/m", 1, 2, 0.3, 0.4, 5, 6.7, 8), InstancePressure("b/m")),
    demands=(Demand("m", "west", SloClass.DEFERRED, 3, 4, 5.1),),
    waiting=(WaitingGroup("m", "east", SloClass.INTERACTIVE_FAST, 11, 12, 13, 14, 15.3, 16.7, True),),
)


def test_a_pressure_survives_the_wire_with_all_its_parts() -> None:
    message = codec.pressure_to_proto(WHOLE)
    assert codec.pressure_from_proto(type(message).FromString(message.SerializeToString())) == WHOLE
    for part, value in ((message, WHOLE), (message.instances[0], InstancePressure), (message.demands[0], Demand)):
        assert len(part.ListFields()) == len(fields(value))
    assert len(message.waiting[0].ListFields()) == len(fields(WaitingGroup))


def test_an_empty_pressure_is_one() -> None:
    assert codec.pressure_from_proto(codec.pressure_to_proto(Pressure())) == Pressure()


def test_a_waiting_job_survives_the_wire() -> None:
    job = WaitingJob("batch_1", "m", "west", 9, 8, 7, 6, 5, 4)
    message = codec.waiting_job_to_proto(job)
    assert codec.waiting_job_from_proto(message) == job
    assert len(message.ListFields()) == len(fields(WaitingJob))


def test_an_anticipation_survives_the_wire_with_all_its_parts() -> None:
    value = Anticipation(7, 10, (InstanceAnticipation("a/m", "m", (3, 0, 9), 11), InstanceAnticipation("b/m", "m")))
    message = codec.anticipation_to_proto(value)
    assert codec.anticipation_from_proto(type(message).FromString(message.SerializeToString())) == value
    assert len(message.ListFields()) == len(fields(Anticipation))
    assert len(message.instances[0].ListFields()) == len(fields(InstanceAnticipation))
