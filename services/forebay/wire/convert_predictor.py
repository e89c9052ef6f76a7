"""Translation between the predictor's messages and our values."""

from lmaas.predictor.v1 import length_pb2, workload_pb2

from forebay.core.prediction import (
    LengthOutcome,
    ModelKind,
    PredictorAccuracy,
    PredictorModel,
    Quantiles,
    ShadowTrial,
    WorkloadForecast,
)
from forebay.wire.convert import (
    length_query_from_proto,
    quantiles_from_proto,
    timestamp,
    write_length_query,
    write_quantiles,
)


def outcome_to_proto(value: LengthOutcome) -> length_pb2.LengthOutcome:
    """An outcome as a message."""
    message = length_pb2.LengthOutcome()
    write_length_query(value.query, message.query)
    if value.predicted is not None:
        write_quantiles(value.predicted, message.predicted)
    message.generated_tokens = value.generated_tokens
    message.censored = value.censored
    message.predicted_by = value.predicted_by
    return message


def outcome_from_proto(message: length_pb2.LengthOutcome) -> LengthOutcome:
    """An outcome from a message that keeps its rules."""
    return LengthOutcome(
        query=length_query_from_proto(message.query),
        generated_tokens=message.generated_tokens,
        censored=message.censored,
        predicted=quantiles_from_proto(message.predicted) if message.HasField("predicted") else None,
        predicted_by=message.predicted_by,
    )


def model_to_proto(value: PredictorModel) -> length_pb2.PredictorModel:
    """A predictor model as a message."""
    return length_pb2.PredictorModel(
        name=value.name,
        version=value.version,
        kind=kind_to_proto(value.kind),
        active=value.active,
        digest_sha256=value.digest_sha256,
        execution_provider=value.execution_provider,
        metadata=value.metadata,
        shadow=value.shadow,
        previous=value.previous,
        trial=_trial_to_proto(value.trial) if value.trial else None,
    )


def _trial_to_proto(value: ShadowTrial) -> length_pb2.ShadowTrial:
    return length_pb2.ShadowTrial(
        outcome_count=value.outcome_count,
        active_loss_tokens=value.active_loss_tokens,
        shadow_loss_tokens=value.shadow_loss_tokens,
        z_score=value.z_score,
    )


def accuracy_to_proto(value: PredictorAccuracy) -> length_pb2.PredictorAccuracy:
    """The figures of one predictor for one model and application as a message."""
    return length_pb2.PredictorAccuracy(
        predictor=value.predictor,
        model=value.model,
        application=value.application,
        outcome_count=value.outcome_count,
        mae_tokens=value.mae_tokens,
        coverage_p90=value.coverage_p90,
        reserve_ratio=value.reserve_ratio,
        is_drifting=value.is_drifting,
        start_time=timestamp(value.since_us),
        drift_start_time=timestamp(value.drift_since_us) if value.drift_since_us else None,
    )


def kind_to_proto(value: ModelKind) -> str:
    """The kind by its name in the contract, which message constructors take."""
    return f"MODEL_KIND_{value.name}"


def forecast_to_proto(value: WorkloadForecast) -> workload_pb2.WorkloadForecast:
    """One window's forecast as a message."""
    return workload_pb2.WorkloadForecast(
        start_time=timestamp(value.start_us),
        requests=_quantiles_to_proto(value.requests),
        prompt_tokens=_quantiles_to_proto(value.prompt_tokens),
        response_tokens=_quantiles_to_proto(value.response_tokens),
    )


def _quantiles_to_proto(value: Quantiles) -> workload_pb2.Quantiles:
    return workload_pb2.Quantiles(p10=value.p10, p50=value.p50, p90=value.p90, p97=value.p97)
