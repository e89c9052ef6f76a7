"""Translation between the contract's messages and our values; the only place where both are in sight."""

from google.protobuf import duration_pb2, timestamp_pb2
from lmaas.common.v1 import instance_pb2, length_pb2
from lmaas.metrics.v1 import metrics_service_pb2, snapshot_pb2
from lmaas.predictor.v1 import length_pb2 as prediction_pb2
from lmaas.scheduler.v1 import decision_pb2, request_pb2

from forebay.core.units import US_PER_S
from forebay.core.values import (
    Batching,
    Candidate,
    InferenceRequest,
    Instance,
    InstanceLoad,
    InstanceRole,
    InstanceState,
    LengthPrediction,
    LengthQuantiles,
    ModelLoad,
    Outcome,
    ScoreTerm,
    SloClass,
    WorkloadPoint,
)

_NOBODY: frozenset[str] = frozenset()
_SLO_CLASSES = {0: SloClass.INTERACTIVE_NORMAL, **{one.value: one for one in SloClass}}
_OUTCOMES = {one.value: one for one in Outcome}


def timestamp(us: int) -> timestamp_pb2.Timestamp:
    """Microseconds since 1970 as a Timestamp."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMicroseconds(us)
    return stamp


def duration(us: int) -> duration_pb2.Duration:
    """Microseconds as a Duration."""
    message = duration_pb2.Duration()
    write_duration(us, message)
    return message


def write_duration(us: int, message: duration_pb2.Duration) -> None:
    """Microseconds into a Duration."""
    seconds, rest_us = divmod(abs(us), US_PER_S)
    sign = -1 if us < 0 else 1
    message.seconds, message.nanos = sign * seconds, sign * rest_us * 1_000


def quantiles_to_proto(value: LengthQuantiles) -> length_pb2.LengthQuantiles:
    """Length quantiles as a message."""
    message = length_pb2.LengthQuantiles()
    write_quantiles(value, message)
    return message


def write_quantiles(value: LengthQuantiles, message: length_pb2.LengthQuantiles) -> None:
    """Length quantiles into a message: what is written for each request is set where it stands.

    A field takes a fifth of the time so that it takes to name it to a constructor and to copy what that has made.
    """
    message.p10_tokens = value.p10
    message.p50_tokens = value.p50
    message.p90_tokens = value.p90
    message.p97_tokens = value.p97


def quantiles_from_proto(message: length_pb2.LengthQuantiles) -> LengthQuantiles:
    """Length quantiles from a message, sorted, so that a careless peer cannot break the order."""
    return LengthQuantiles(*sorted((message.p10_tokens, message.p50_tokens, message.p90_tokens, message.p97_tokens)))


def slo_class_from_proto(number: int) -> SloClass:
    """The class; UNSPECIFIED becomes INTERACTIVE_NORMAL where a message may leave it out."""
    return _SLO_CLASSES[number]


def slo_class_to_proto(value: SloClass) -> str:
    """The class by its name in the contract, which message constructors take."""
    return f"SLO_CLASS_{value.name}"


def instance_to_proto(value: Instance) -> instance_pb2.Instance:
    """An instance as a message."""
    return instance_pb2.Instance(
        instance_id=value.instance_id,
        model=value.model,
        grpc_address=value.grpc_address,
        metrics_url=value.metrics_url,
        state=f"INSTANCE_STATE_{value.state.name}",
        server_id=value.server_id,
        region=value.region,
        profile=value.profile,
        concurrency_max=value.concurrency_max,
        kv_tokens_max=value.kv_tokens_max,
        state_time=timestamp(value.state_us),
        state_reason=value.state_reason,
        context_tokens_max=value.context_tokens_max,
        role=f"INSTANCE_ROLE_{value.role.name}",
        batching=f"BATCHING_{value.batching.name}",
        pool=value.pool,
        openai_address=value.openai_address,
    )


def instance_from_proto(message: instance_pb2.Instance) -> Instance:
    """An instance from a message; an unset state becomes PROVISIONING, an unset region "local"."""
    return Instance(
        instance_id=message.instance_id,
        model=message.model,
        grpc_address=message.grpc_address,
        server_id=message.server_id,
        metrics_url=message.metrics_url,
        state=InstanceState(message.state or InstanceState.PROVISIONING),
        region=message.region or "local",
        profile=message.profile,
        concurrency_max=message.concurrency_max,
        kv_tokens_max=message.kv_tokens_max,
        context_tokens_max=message.context_tokens_max,
        state_us=message.state_time.ToMicroseconds(),
        state_reason=message.state_reason,
        role=InstanceRole(message.role or InstanceRole.MIXED),
        batching=Batching(message.batching or Batching.CONTINUOUS),
        pool=message.pool,
        openai_address=message.openai_address,
    )


def request_to_proto(value: InferenceRequest) -> request_pb2.InferenceRequest:
    """A request as a message."""
    return request_pb2.InferenceRequest(
        request_id=value.request_id,
        model=value.model,
        prompt_tokens=value.prompt_tokens,
        tokens_max=value.tokens_max,
        slo_class=slo_class_to_proto(value.slo_class),
        tenant=value.tenant,
        application=value.application,
        prompt_head=value.prompt_head,
        temperature=value.temperature,
        region=value.region,
        excluded_instance_ids=sorted(value.excluded_instance_ids),
        hold_timeout=duration(value.hold_timeout_us) if value.hold_timeout_us else None,
        turn_number=value.turn_number,
        system_digest=value.system_digest,
        session=value.session,
        deadline=duration(value.deadline_us) if value.deadline_us else None,
        prefix_hashes=value.prefix_hashes,
    )


def request_from_proto(message: request_pb2.InferenceRequest) -> InferenceRequest:
    """A request from a message that keeps its rules."""
    # By position and looking only at what is set: this is done for each request.
    return InferenceRequest(
        message.request_id,
        message.model,
        message.prompt_tokens,
        _SLO_CLASSES[message.slo_class],
        message.tokens_max,
        message.tenant or "default",
        message.application,
        message.prompt_head,
        message.temperature,
        message.region or "local",
        frozenset(message.excluded_instance_ids) if message.excluded_instance_ids else _NOBODY,
        message.hold_timeout.ToMicroseconds() if message.HasField("hold_timeout") else 0,
        message.turn_number,
        message.system_digest,
        message.session,
        message.deadline.ToMicroseconds() if message.HasField("deadline") else 0,
        tuple(message.prefix_hashes) if message.prefix_hashes else (),
    )


def outcome_from_proto(number: int) -> Outcome:
    """The outcome from a message that keeps its rules."""
    return _OUTCOMES[number]


def length_query_to_proto(value: InferenceRequest) -> prediction_pb2.LengthQuery:
    """What the predictor needs to know of a request."""
    message = prediction_pb2.LengthQuery()
    write_length_query(value, message)
    return message


def write_length_query(value: InferenceRequest, message: prediction_pb2.LengthQuery) -> None:
    """What the predictor needs to know of a request, into a message."""
    message.query_id = value.request_id
    message.model = value.model
    message.prompt_tokens = value.prompt_tokens
    message.tokens_max = value.tokens_max
    message.prompt_head = value.prompt_head
    message.application = value.application
    message.tenant = value.tenant
    message.temperature = value.temperature
    message.turn_number = value.turn_number
    message.system_digest = value.system_digest


def length_query_from_proto(message: prediction_pb2.LengthQuery) -> InferenceRequest:
    """The request that a length query describes, as far as it tells."""
    return InferenceRequest(
        request_id=message.query_id,
        model=message.model,
        prompt_tokens=message.prompt_tokens,
        tokens_max=message.tokens_max,
        tenant=message.tenant or "default",
        application=message.application,
        prompt_head=message.prompt_head,
        temperature=message.temperature,
        turn_number=message.turn_number,
        system_digest=message.system_digest,
    )


def prediction_to_proto(query_id: str, value: LengthPrediction) -> prediction_pb2.LengthPrediction:
    """A length prediction as a message."""
    message = prediction_pb2.LengthPrediction()
    message.query_id = query_id
    write_quantiles(value.quantiles, message.quantiles)
    message.rank_score = value.rank_score
    message.mean_tokens = value.mean_tokens
    return message


def prediction_from_proto(message: prediction_pb2.LengthPrediction, predicted_by: str) -> LengthPrediction:
    """A length prediction from a message; made by `predicted_by` where it does not say by whom."""
    return LengthPrediction(
        quantiles=quantiles_from_proto(message.quantiles),
        rank_score=message.rank_score,
        mean_tokens=message.mean_tokens,
        predicted_by=message.predicted_by or predicted_by,
    )


def candidate_to_proto(value: Candidate) -> decision_pb2.Candidate:
    """A router's candidate as a message."""
    return decision_pb2.Candidate(
        instance_id=value.instance_id,
        score=value.score,
        eligible=value.eligible,
        reason=value.reason,
        inputs=dict(value.inputs),
        terms=[_term_to_proto(one) for one in value.terms],
    )


def _term_to_proto(value: ScoreTerm) -> decision_pb2.ScoreTerm:
    return decision_pb2.ScoreTerm(name=value.name, unit=value.unit, weight=value.weight, value=value.value)


def instance_load_to_proto(value: InstanceLoad) -> snapshot_pb2.InstanceLoad:
    """An instance's observed load as a message; None stays unset."""
    return snapshot_pb2.InstanceLoad(
        instance_id=value.instance_id,
        model=value.model,
        reachable=value.reachable,
        seen_time=timestamp(value.seen_us) if value.seen_us else None,
        running_count=value.running_count,
        waiting_count=value.waiting_count,
        kv_utilization=value.kv_utilization,
        success_total=value.success_total,
        failure_total=value.failure_total,
    )


def instance_load_from_proto(message: snapshot_pb2.InstanceLoad) -> InstanceLoad:
    """An instance's observed load from a message; unset becomes None."""
    return InstanceLoad(
        instance_id=message.instance_id,
        model=message.model,
        reachable=message.reachable,
        seen_us=message.seen_time.ToMicroseconds(),
        running_count=message.running_count if message.HasField("running_count") else None,
        waiting_count=message.waiting_count if message.HasField("waiting_count") else None,
        kv_utilization=message.kv_utilization if message.HasField("kv_utilization") else None,
        success_total=message.success_total,
        failure_total=message.failure_total,
    )


_MODEL_LOAD_FIELDS = (
    "model",
    "held_count",
    "in_flight_count",
    "ended_count",
    "failed_count",
    "ttft_p50_s",
    "ttft_p99_s",
    "prompt_tokens",
    "response_tokens",
)


def model_load_to_proto(value: ModelLoad) -> snapshot_pb2.ModelLoad:
    """A model's load as a message; both have the same fields."""
    return snapshot_pb2.ModelLoad(**{name: getattr(value, name) for name in _MODEL_LOAD_FIELDS})


def model_load_from_proto(message: snapshot_pb2.ModelLoad) -> ModelLoad:
    """A model's load from a message; both have the same fields."""
    return ModelLoad(**{name: getattr(message, name) for name in _MODEL_LOAD_FIELDS})


def workload_point_to_proto(value: WorkloadPoint) -> metrics_service_pb2.WorkloadPoint:
    """One window of traffic as a message."""
    return metrics_service_pb2.WorkloadPoint(
        start_time=timestamp(value.start_us),
        request_count=value.request_count,
        prompt_tokens=value.prompt_tokens,
        response_tokens=value.response_tokens,
    )


def workload_point_from_proto(message: metrics_service_pb2.WorkloadPoint) -> WorkloadPoint:
    """One window of traffic from a message."""
    return WorkloadPoint(
        start_us=message.start_time.ToMicroseconds(),
        request_count=message.request_count,
        prompt_tokens=message.prompt_tokens,
        response_tokens=message.response_tokens,
    )
