import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lmaas.common.v1 import length_pb2 as _length_pb2
from lmaas.common.v1 import rules_pb2 as _rules_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_KIND_UNSPECIFIED: _ClassVar[ModelKind]
    MODEL_KIND_LENGTH: _ClassVar[ModelKind]
    MODEL_KIND_WORKLOAD: _ClassVar[ModelKind]
MODEL_KIND_UNSPECIFIED: ModelKind
MODEL_KIND_LENGTH: ModelKind
MODEL_KIND_WORKLOAD: ModelKind

class LengthQuery(_message.Message):
    __slots__ = ("query_id", "model", "prompt_tokens", "tokens_max", "prompt_head", "application", "tenant", "temperature", "turn_number", "system_digest", "traceparent")
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    PROMPT_HEAD_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TURN_NUMBER_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    query_id: str
    model: str
    prompt_tokens: int
    tokens_max: int
    prompt_head: str
    application: str
    tenant: str
    temperature: float
    turn_number: int
    system_digest: str
    traceparent: str
    def __init__(self, query_id: _Optional[str] = ..., model: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., tokens_max: _Optional[int] = ..., prompt_head: _Optional[str] = ..., application: _Optional[str] = ..., tenant: _Optional[str] = ..., temperature: _Optional[float] = ..., turn_number: _Optional[int] = ..., system_digest: _Optional[str] = ..., traceparent: _Optional[str] = ...) -> None: ...

class LengthPrediction(_message.Message):
    __slots__ = ("query_id", "quantiles", "rank_score", "mean_tokens", "predicted_by")
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTILES_FIELD_NUMBER: _ClassVar[int]
    RANK_SCORE_FIELD_NUMBER: _ClassVar[int]
    MEAN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_BY_FIELD_NUMBER: _ClassVar[int]
    query_id: str
    quantiles: _length_pb2.LengthQuantiles
    rank_score: float
    mean_tokens: float
    predicted_by: str
    def __init__(self, query_id: _Optional[str] = ..., quantiles: _Optional[_Union[_length_pb2.LengthQuantiles, _Mapping]] = ..., rank_score: _Optional[float] = ..., mean_tokens: _Optional[float] = ..., predicted_by: _Optional[str] = ...) -> None: ...

class LengthOutcome(_message.Message):
    __slots__ = ("query", "predicted", "generated_tokens", "censored", "predicted_by")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CENSORED_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_BY_FIELD_NUMBER: _ClassVar[int]
    query: LengthQuery
    predicted: _length_pb2.LengthQuantiles
    generated_tokens: int
    censored: bool
    predicted_by: str
    def __init__(self, query: _Optional[_Union[LengthQuery, _Mapping]] = ..., predicted: _Optional[_Union[_length_pb2.LengthQuantiles, _Mapping]] = ..., generated_tokens: _Optional[int] = ..., censored: _Optional[bool] = ..., predicted_by: _Optional[str] = ...) -> None: ...

class PredictorModel(_message.Message):
    __slots__ = ("name", "version", "kind", "active", "digest_sha256", "execution_provider", "metadata", "shadow", "previous", "trial")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    kind: ModelKind
    active: bool
    digest_sha256: str
    execution_provider: str
    metadata: _containers.ScalarMap[str, str]
    shadow: bool
    previous: bool
    trial: ShadowTrial
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., kind: _Optional[_Union[ModelKind, str]] = ..., active: _Optional[bool] = ..., digest_sha256: _Optional[str] = ..., execution_provider: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., shadow: _Optional[bool] = ..., previous: _Optional[bool] = ..., trial: _Optional[_Union[ShadowTrial, _Mapping]] = ...) -> None: ...

class ShadowTrial(_message.Message):
    __slots__ = ("outcome_count", "active_loss_tokens", "shadow_loss_tokens", "z_score")
    OUTCOME_COUNT_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_LOSS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_LOSS_TOKENS_FIELD_NUMBER: _ClassVar[int]
    Z_SCORE_FIELD_NUMBER: _ClassVar[int]
    outcome_count: int
    active_loss_tokens: float
    shadow_loss_tokens: float
    z_score: float
    def __init__(self, outcome_count: _Optional[int] = ..., active_loss_tokens: _Optional[float] = ..., shadow_loss_tokens: _Optional[float] = ..., z_score: _Optional[float] = ...) -> None: ...

class PredictorAccuracy(_message.Message):
    __slots__ = ("predictor", "model", "application", "outcome_count", "mae_tokens", "coverage_p90", "reserve_ratio", "is_drifting", "start_time", "drift_start_time")
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_P90_FIELD_NUMBER: _ClassVar[int]
    RESERVE_RATIO_FIELD_NUMBER: _ClassVar[int]
    IS_DRIFTING_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    DRIFT_START_TIME_FIELD_NUMBER: _ClassVar[int]
    predictor: str
    model: str
    application: str
    outcome_count: int
    mae_tokens: float
    coverage_p90: float
    reserve_ratio: float
    is_drifting: bool
    start_time: _timestamp_pb2.Timestamp
    drift_start_time: _timestamp_pb2.Timestamp
    def __init__(self, predictor: _Optional[str] = ..., model: _Optional[str] = ..., application: _Optional[str] = ..., outcome_count: _Optional[int] = ..., mae_tokens: _Optional[float] = ..., coverage_p90: _Optional[float] = ..., reserve_ratio: _Optional[float] = ..., is_drifting: _Optional[bool] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., drift_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
