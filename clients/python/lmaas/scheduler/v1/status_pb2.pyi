import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lmaas.common.v1 import instance_pb2 as _instance_pb2
from lmaas.common.v1 import length_pb2 as _length_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScheduledInstance(_message.Message):
    __slots__ = ("instance", "lease_count", "predicted_tokens", "concurrency_cap", "draining")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    LEASE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_CAP_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    instance: _instance_pb2.Instance
    lease_count: int
    predicted_tokens: int
    concurrency_cap: int
    draining: bool
    def __init__(self, instance: _Optional[_Union[_instance_pb2.Instance, _Mapping]] = ..., lease_count: _Optional[int] = ..., predicted_tokens: _Optional[int] = ..., concurrency_cap: _Optional[int] = ..., draining: _Optional[bool] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("model", "held_count", "oldest_held", "lease_count")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    HELD_COUNT_FIELD_NUMBER: _ClassVar[int]
    OLDEST_HELD_FIELD_NUMBER: _ClassVar[int]
    LEASE_COUNT_FIELD_NUMBER: _ClassVar[int]
    model: str
    held_count: int
    oldest_held: _duration_pb2.Duration
    lease_count: int
    def __init__(self, model: _Optional[str] = ..., held_count: _Optional[int] = ..., oldest_held: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lease_count: _Optional[int] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("lease_id", "request_id", "instance_id", "model", "expire_time", "generated_tokens", "predicted_length")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    request_id: str
    instance_id: str
    model: str
    expire_time: _timestamp_pb2.Timestamp
    generated_tokens: int
    predicted_length: _length_pb2.LengthQuantiles
    def __init__(self, lease_id: _Optional[str] = ..., request_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., model: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., generated_tokens: _Optional[int] = ..., predicted_length: _Optional[_Union[_length_pb2.LengthQuantiles, _Mapping]] = ...) -> None: ...

class Shadow(_message.Message):
    __slots__ = ("name", "policies", "rows")
    class PoliciesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    name: str
    policies: _containers.ScalarMap[str, str]
    rows: _containers.RepeatedCompositeFieldContainer[ShadowRow]
    def __init__(self, name: _Optional[str] = ..., policies: _Optional[_Mapping[str, str]] = ..., rows: _Optional[_Iterable[_Union[ShadowRow, _Mapping]]] = ...) -> None: ...

class ShadowRow(_message.Message):
    __slots__ = ("kind", "model", "compared_count", "different_count", "costs")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COMPARED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DIFFERENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    COSTS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    model: str
    compared_count: int
    different_count: int
    costs: _containers.RepeatedCompositeFieldContainer[ShadowCost]
    def __init__(self, kind: _Optional[str] = ..., model: _Optional[str] = ..., compared_count: _Optional[int] = ..., different_count: _Optional[int] = ..., costs: _Optional[_Iterable[_Union[ShadowCost, _Mapping]]] = ...) -> None: ...

class ShadowCost(_message.Message):
    __slots__ = ("name", "unit", "mean")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    mean: float
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ..., mean: _Optional[float] = ...) -> None: ...
