"""Translation between the messages that tell what load is on its way and our values."""

from lmaas.scheduler.v1 import pressure_pb2 as pb

from forebay.core.pressure import (
    Anticipation,
    Demand,
    InstanceAnticipation,
    InstancePressure,
    Pressure,
    WaitingGroup,
    WaitingJob,
)
from forebay.wire.convert import slo_class_from_proto, slo_class_to_proto, timestamp


def pressure_to_proto(value: Pressure) -> pb.Pressure:
    """What a scheduler says as a message."""
    return pb.Pressure(
        sample_time=timestamp(value.at_us),
        horizon_iterations=value.horizon_iterations,
        instances=[_instance_to_proto(one) for one in value.instances],
        demands=[_demand_to_proto(one) for one in value.demands],
        waiting=[_group_to_proto(one) for one in value.waiting],
    )


def pressure_from_proto(message: pb.Pressure) -> Pressure:
    """What a scheduler says from a message."""
    return Pressure(
        at_us=message.sample_time.ToMicroseconds(),
        horizon_iterations=message.horizon_iterations,
        instances=tuple(_instance_from_proto(one) for one in message.instances),
        demands=tuple(_demand_from_proto(one) for one in message.demands),
        waiting=tuple(_group_from_proto(one) for one in message.waiting),
    )


def anticipation_to_proto(value: Anticipation) -> pb.Anticipation:
    """The load that is expected as a message."""
    return pb.Anticipation(
        sample_time=timestamp(value.at_us),
        step_iterations=value.step_iterations,
        instances=[
            pb.InstanceAnticipation(
                instance_id=one.instance_id,
                model=one.model,
                kv_tokens=one.kv_tokens,
                kv_tokens_max=one.kv_tokens_max,
            )
            for one in value.instances
        ],
    )


def anticipation_from_proto(message: pb.Anticipation) -> Anticipation:
    """The load that is expected from a message."""
    instances = tuple(
        InstanceAnticipation(one.instance_id, one.model, tuple(one.kv_tokens), one.kv_tokens_max)
        for one in message.instances
    )
    return Anticipation(message.sample_time.ToMicroseconds(), message.step_iterations, instances)


def waiting_job_to_proto(value: WaitingJob) -> pb.WaitingJob:
    """A job that waits as a message."""
    return pb.WaitingJob(
        job_id=value.job_id,
        model=value.model,
        region=value.region,
        deadline=timestamp(value.deadline_us),
        create_time=timestamp(value.created_us),
        remaining_count=value.remaining_count,
        in_flight_count=value.in_flight_count,
        prompt_tokens=value.prompt_tokens,
        tokens_max=value.tokens_max,
    )


def waiting_job_from_proto(message: pb.WaitingJob) -> WaitingJob:
    """A job that waits from a message."""
    return WaitingJob(
        job_id=message.job_id,
        model=message.model,
        region=message.region or "local",
        deadline_us=message.deadline.ToMicroseconds(),
        created_us=message.create_time.ToMicroseconds(),
        remaining_count=message.remaining_count,
        in_flight_count=message.in_flight_count,
        prompt_tokens=message.prompt_tokens,
        tokens_max=message.tokens_max,
    )


def _instance_to_proto(value: InstancePressure) -> pb.InstancePressure:
    return pb.InstancePressure(
        instance_id=value.instance_id,
        interactive_count=value.interactive_count,
        deferred_count=value.deferred_count,
        peak_share=value.peak_share,
        over_share=value.over_share,
        prefill_tokens=value.prefill_tokens,
        remaining_tokens=value.remaining_tokens,
        cap=value.cap,
    )


def _instance_from_proto(message: pb.InstancePressure) -> InstancePressure:
    return InstancePressure(
        instance_id=message.instance_id,
        interactive_count=message.interactive_count,
        deferred_count=message.deferred_count,
        peak_share=message.peak_share,
        over_share=message.over_share,
        prefill_tokens=message.prefill_tokens,
        remaining_tokens=message.remaining_tokens,
        cap=message.cap,
    )


def _demand_to_proto(value: Demand) -> pb.Demand:
    return pb.Demand(
        model=value.model,
        region=value.region,
        slo_class=slo_class_to_proto(value.slo_class),
        request_count=value.request_count,
        prompt_tokens=value.prompt_tokens,
        response_tokens=value.response_tokens,
    )


def _demand_from_proto(message: pb.Demand) -> Demand:
    return Demand(
        model=message.model,
        region=message.region,
        slo_class=slo_class_from_proto(message.slo_class),
        request_count=message.request_count,
        prompt_tokens=message.prompt_tokens,
        response_tokens=message.response_tokens,
    )


def _group_to_proto(value: WaitingGroup) -> pb.WaitingGroup:
    return pb.WaitingGroup(
        model=value.model,
        region=value.region,
        slo_class=slo_class_to_proto(value.slo_class),
        due_time=timestamp(value.due_us),
        oldest_time=timestamp(value.oldest_us),
        request_count=value.request_count,
        prompt_tokens=value.prompt_tokens,
        mean_tokens=value.mean_tokens,
        variance=value.variance,
        stored=value.is_stored,
    )


def _group_from_proto(message: pb.WaitingGroup) -> WaitingGroup:
    return WaitingGroup(
        model=message.model,
        region=message.region,
        slo_class=slo_class_from_proto(message.slo_class),
        due_us=message.due_time.ToMicroseconds(),
        oldest_us=message.oldest_time.ToMicroseconds(),
        request_count=message.request_count,
        prompt_tokens=message.prompt_tokens,
        mean_tokens=message.mean_tokens,
        variance=message.variance,
        is_stored=message.stored,
    )
