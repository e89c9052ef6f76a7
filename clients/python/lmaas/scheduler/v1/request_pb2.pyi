import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from lmaas.common.v1 import length_pb2 as _length_pb2
from lmaas.common.v1 import rules_pb2 as _rules_pb2
from lmaas.common.v1 import slo_pb2 as _slo_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_STOPPED: _ClassVar[Outcome]
    OUTCOME_LENGTH: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
    OUTCOME_CANCELLED: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_STOPPED: Outcome
OUTCOME_LENGTH: Outcome
OUTCOME_FAILED: Outcome
OUTCOME_CANCELLED: Outcome

class InferenceRequest(_message.Message):
    __slots__ = ("request_id", "model", "prompt_tokens", "tokens_max", "slo_class", "tenant", "application", "prompt_head", "temperature", "region", "excluded_instance_ids", "hold_timeout", "turn_number", "system_digest", "session", "deadline", "prefix_hashes", "traceparent")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    SLO_CLASS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_HEAD_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_INSTANCE_IDS_FIELD_NUMBER: _ClassVar[int]
    HOLD_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    TURN_NUMBER_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_HASHES_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    prompt_tokens: int
    tokens_max: int
    slo_class: _slo_pb2.SloClass
    tenant: str
    application: str
    prompt_head: str
    temperature: float
    region: str
    excluded_instance_ids: _containers.RepeatedScalarFieldContainer[str]
    hold_timeout: _duration_pb2.Duration
    turn_number: int
    system_digest: str
    session: str
    deadline: _duration_pb2.Duration
    prefix_hashes: _containers.RepeatedScalarFieldContainer[int]
    traceparent: str
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., tokens_max: _Optional[int] = ..., slo_class: _Optional[_Union[_slo_pb2.SloClass, str]] = ..., tenant: _Optional[str] = ..., application: _Optional[str] = ..., prompt_head: _Optional[str] = ..., temperature: _Optional[float] = ..., region: _Optional[str] = ..., excluded_instance_ids: _Optional[_Iterable[str]] = ..., hold_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., turn_number: _Optional[int] = ..., system_digest: _Optional[str] = ..., session: _Optional[str] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., prefix_hashes: _Optional[_Iterable[int]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("lease_id", "decision_id", "instance_id", "grpc_address", "predicted_length", "lease_ttl", "held", "triton_priority", "predicted_by", "batch_id", "batch_count", "openai_address")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GRPC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    TRITON_PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_BY_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    OPENAI_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    decision_id: str
    instance_id: str
    grpc_address: str
    predicted_length: _length_pb2.LengthQuantiles
    lease_ttl: _duration_pb2.Duration
    held: _duration_pb2.Duration
    triton_priority: int
    predicted_by: str
    batch_id: str
    batch_count: int
    openai_address: str
    def __init__(self, lease_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., grpc_address: _Optional[str] = ..., predicted_length: _Optional[_Union[_length_pb2.LengthQuantiles, _Mapping]] = ..., lease_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., held: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., triton_priority: _Optional[int] = ..., predicted_by: _Optional[str] = ..., batch_id: _Optional[str] = ..., batch_count: _Optional[int] = ..., openai_address: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("lease_id", "generated_tokens")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    generated_tokens: int
    def __init__(self, lease_id: _Optional[str] = ..., generated_tokens: _Optional[int] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("lease_id", "outcome", "generated_tokens", "prompt_tokens")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    outcome: Outcome
    generated_tokens: int
    prompt_tokens: int
    def __init__(self, lease_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., generated_tokens: _Optional[int] = ..., prompt_tokens: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class OpenLease(_message.Message):
    __slots__ = ("request", "lease_id", "instance_id", "generated_tokens", "predicted_length")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    request: InferenceRequest
    lease_id: str
    instance_id: str
    generated_tokens: int
    predicted_length: _length_pb2.LengthQuantiles
    def __init__(self, request: _Optional[_Union[InferenceRequest, _Mapping]] = ..., lease_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., generated_tokens: _Optional[int] = ..., predicted_length: _Optional[_Union[_length_pb2.LengthQuantiles, _Mapping]] = ...) -> None: ...
