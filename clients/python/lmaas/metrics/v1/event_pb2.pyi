import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lmaas.common.v1 import instance_pb2 as _instance_pb2
from lmaas.common.v1 import length_pb2 as _length_pb2
from lmaas.common.v1 import rules_pb2 as _rules_pb2
from lmaas.common.v1 import slo_pb2 as _slo_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RequestStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REQUEST_STATUS_UNSPECIFIED: _ClassVar[RequestStatus]
    REQUEST_STATUS_OK: _ClassVar[RequestStatus]
    REQUEST_STATUS_FAILED: _ClassVar[RequestStatus]
    REQUEST_STATUS_REJECTED: _ClassVar[RequestStatus]
    REQUEST_STATUS_CANCELLED: _ClassVar[RequestStatus]
REQUEST_STATUS_UNSPECIFIED: RequestStatus
REQUEST_STATUS_OK: RequestStatus
REQUEST_STATUS_FAILED: RequestStatus
REQUEST_STATUS_REJECTED: RequestStatus
REQUEST_STATUS_CANCELLED: RequestStatus

class RequestRecord(_message.Message):
    __slots__ = ("request_id", "model", "arrival_time", "status", "slo_class", "tenant", "application", "region", "instance_id", "decision_id", "prompt_tokens", "response_tokens", "predicted_length", "predicted_by", "held", "time_to_first_token", "end_to_end", "error_reason", "attempt_count", "censored")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_TIME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SLO_CLASS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_BY_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    END_TO_END_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CENSORED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    arrival_time: _timestamp_pb2.Timestamp
    status: RequestStatus
    slo_class: _slo_pb2.SloClass
    tenant: str
    application: str
    region: str
    instance_id: str
    decision_id: str
    prompt_tokens: int
    response_tokens: int
    predicted_length: _length_pb2.LengthQuantiles
    predicted_by: str
    held: _duration_pb2.Duration
    time_to_first_token: _duration_pb2.Duration
    end_to_end: _duration_pb2.Duration
    error_reason: str
    attempt_count: int
    censored: bool
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., arrival_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., status: _Optional[_Union[RequestStatus, str]] = ..., slo_class: _Optional[_Union[_slo_pb2.SloClass, str]] = ..., tenant: _Optional[str] = ..., application: _Optional[str] = ..., region: _Optional[str] = ..., instance_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., response_tokens: _Optional[int] = ..., predicted_length: _Optional[_Union[_length_pb2.LengthQuantiles, _Mapping]] = ..., predicted_by: _Optional[str] = ..., held: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., time_to_first_token: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end_to_end: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., error_reason: _Optional[str] = ..., attempt_count: _Optional[int] = ..., censored: _Optional[bool] = ...) -> None: ...

class QueueSample(_message.Message):
    __slots__ = ("model", "sample_time", "held_count", "in_flight_count", "scheduler_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_TIME_FIELD_NUMBER: _ClassVar[int]
    HELD_COUNT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    sample_time: _timestamp_pb2.Timestamp
    held_count: int
    in_flight_count: int
    scheduler_id: str
    def __init__(self, model: _Optional[str] = ..., sample_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., held_count: _Optional[int] = ..., in_flight_count: _Optional[int] = ..., scheduler_id: _Optional[str] = ...) -> None: ...

class InstanceChange(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: _instance_pb2.Instance
    def __init__(self, instance: _Optional[_Union[_instance_pb2.Instance, _Mapping]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("event_id", "request", "queue", "instance")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    request: RequestRecord
    queue: QueueSample
    instance: InstanceChange
    def __init__(self, event_id: _Optional[str] = ..., request: _Optional[_Union[RequestRecord, _Mapping]] = ..., queue: _Optional[_Union[QueueSample, _Mapping]] = ..., instance: _Optional[_Union[InstanceChange, _Mapping]] = ...) -> None: ...
