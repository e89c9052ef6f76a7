import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InstanceLoad(_message.Message):
    __slots__ = ("instance_id", "model", "reachable", "seen_time", "running_count", "waiting_count", "kv_utilization", "success_total", "failure_total")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    RUNNING_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITING_COUNT_FIELD_NUMBER: _ClassVar[int]
    KV_UTILIZATION_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FAILURE_TOTAL_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    model: str
    reachable: bool
    seen_time: _timestamp_pb2.Timestamp
    running_count: int
    waiting_count: int
    kv_utilization: float
    success_total: int
    failure_total: int
    def __init__(self, instance_id: _Optional[str] = ..., model: _Optional[str] = ..., reachable: _Optional[bool] = ..., seen_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., running_count: _Optional[int] = ..., waiting_count: _Optional[int] = ..., kv_utilization: _Optional[float] = ..., success_total: _Optional[int] = ..., failure_total: _Optional[int] = ...) -> None: ...

class ModelLoad(_message.Message):
    __slots__ = ("model", "held_count", "in_flight_count", "ended_count", "failed_count", "ttft_p50_s", "ttft_p99_s", "prompt_tokens", "response_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    HELD_COUNT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENDED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    TTFT_P50_S_FIELD_NUMBER: _ClassVar[int]
    TTFT_P99_S_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    held_count: int
    in_flight_count: int
    ended_count: int
    failed_count: int
    ttft_p50_s: float
    ttft_p99_s: float
    prompt_tokens: int
    response_tokens: int
    def __init__(self, model: _Optional[str] = ..., held_count: _Optional[int] = ..., in_flight_count: _Optional[int] = ..., ended_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., ttft_p50_s: _Optional[float] = ..., ttft_p99_s: _Optional[float] = ..., prompt_tokens: _Optional[int] = ..., response_tokens: _Optional[int] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("snapshot_time", "instances", "models")
    SNAPSHOT_TIME_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    snapshot_time: _timestamp_pb2.Timestamp
    instances: _containers.RepeatedCompositeFieldContainer[InstanceLoad]
    models: _containers.RepeatedCompositeFieldContainer[ModelLoad]
    def __init__(self, snapshot_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., instances: _Optional[_Iterable[_Union[InstanceLoad, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[ModelLoad, _Mapping]]] = ...) -> None: ...
