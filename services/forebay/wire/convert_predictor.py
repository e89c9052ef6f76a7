"""Translation between the predictor's messages and our values."""

from lmaas.predictor.v1 import length_pb2, workload_pb2

from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel, Quantiles, WorkloadForecast
from forebay.wire.convert import (
    length_query_from_proto,
    length_query_to_proto,
    quantiles_from_proto,
    quantiles_to_proto,
    timestamp,
)


def outcome_to_proto(value: LengthOutcome) -> length_pb2.LengthOutcome:
    """An outcome as a message."""
    return length_pb2.LengthOutcome(
        query=length_query_to_proto(value.query),
        predicted=quantiles_to_proto(value.predicted) if value.predicted else None,
        generated_tokens=value.generated_tokens,
        censored=value.censored,
    )


def outcome_from_proto(message: length_pb2.LengthOutcome) -> LengthOutcome:
    """An outcome from a message that keeps its rules."""
    return LengthOutcome(
        query=length_query_from_proto(message.query),
        generated_tokens=message.generated_tokens,
        censored=message.censored,
        predicted=quantiles_from_proto(message.predicted) if message.HasField("predicted") else None,
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
