import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lmaas.common.v1 import instance_pb2 as _instance_pb2
from lmaas.common.v1 import rules_pb2 as _rules_pb2
from lmaas.predictor.v1 import workload_pb2 as _workload_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_ADVISORY: _ClassVar[Mode]
    MODE_ACTIVE: _ClassVar[Mode]
MODE_UNSPECIFIED: Mode
MODE_ADVISORY: Mode
MODE_ACTIVE: Mode

class Bounds(_message.Message):
    __slots__ = ("model", "instances_min", "instances_max", "pool")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_MIN_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_MAX_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    model: str
    instances_min: int
    instances_max: int
    pool: str
    def __init__(self, model: _Optional[str] = ..., instances_min: _Optional[int] = ..., instances_max: _Optional[int] = ..., pool: _Optional[str] = ...) -> None: ...

class ScalingDecision(_message.Message):
    __slots__ = ("decision_id", "model", "decision_time", "instances_before", "instances_wanted", "instances_after", "policy", "inputs", "reason", "mode", "pool", "flip")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DECISION_TIME_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_WANTED_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_AFTER_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    model: str
    decision_time: _timestamp_pb2.Timestamp
    instances_before: int
    instances_wanted: int
    instances_after: int
    policy: str
    inputs: _containers.ScalarMap[str, float]
    reason: str
    mode: Mode
    pool: str
    flip: str
    def __init__(self, decision_id: _Optional[str] = ..., model: _Optional[str] = ..., decision_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., instances_before: _Optional[int] = ..., instances_wanted: _Optional[int] = ..., instances_after: _Optional[int] = ..., policy: _Optional[str] = ..., inputs: _Optional[_Mapping[str, float]] = ..., reason: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., pool: _Optional[str] = ..., flip: _Optional[str] = ...) -> None: ...

class ModelFleet(_message.Message):
    __slots__ = ("model", "bounds", "instances_wanted", "ready_count", "starting_count", "draining_count", "last_decision_id", "pool", "reason", "flip", "lead_p50", "lead_p90", "bound_by", "region", "gpu", "gpu_count", "role")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_WANTED_FIELD_NUMBER: _ClassVar[int]
    READY_COUNT_FIELD_NUMBER: _ClassVar[int]
    STARTING_COUNT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    LEAD_P50_FIELD_NUMBER: _ClassVar[int]
    LEAD_P90_FIELD_NUMBER: _ClassVar[int]
    BOUND_BY_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    GPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    model: str
    bounds: Bounds
    instances_wanted: int
    ready_count: int
    starting_count: int
    draining_count: int
    last_decision_id: str
    pool: str
    reason: str
    flip: str
    lead_p50: _duration_pb2.Duration
    lead_p90: _duration_pb2.Duration
    bound_by: str
    region: str
    gpu: str
    gpu_count: int
    role: _instance_pb2.InstanceRole
    def __init__(self, model: _Optional[str] = ..., bounds: _Optional[_Union[Bounds, _Mapping]] = ..., instances_wanted: _Optional[int] = ..., ready_count: _Optional[int] = ..., starting_count: _Optional[int] = ..., draining_count: _Optional[int] = ..., last_decision_id: _Optional[str] = ..., pool: _Optional[str] = ..., reason: _Optional[str] = ..., flip: _Optional[str] = ..., lead_p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lead_p90: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., bound_by: _Optional[str] = ..., region: _Optional[str] = ..., gpu: _Optional[str] = ..., gpu_count: _Optional[int] = ..., role: _Optional[_Union[_instance_pb2.InstanceRole, str]] = ...) -> None: ...

class ForecastBand(_message.Message):
    __slots__ = ("model", "start_time", "window", "requests", "prompt_tokens", "response_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    start_time: _timestamp_pb2.Timestamp
    window: _duration_pb2.Duration
    requests: _workload_pb2.Quantiles
    prompt_tokens: _workload_pb2.Quantiles
    response_tokens: _workload_pb2.Quantiles
    def __init__(self, model: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., requests: _Optional[_Union[_workload_pb2.Quantiles, _Mapping]] = ..., prompt_tokens: _Optional[_Union[_workload_pb2.Quantiles, _Mapping]] = ..., response_tokens: _Optional[_Union[_workload_pb2.Quantiles, _Mapping]] = ...) -> None: ...

class PoolAdvice(_message.Message):
    __slots__ = ("model", "pool", "instances_before", "instances_wanted", "instances_after", "bound_by", "reason", "flip", "inputs")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_WANTED_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_AFTER_FIELD_NUMBER: _ClassVar[int]
    BOUND_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    model: str
    pool: str
    instances_before: int
    instances_wanted: int
    instances_after: int
    bound_by: str
    reason: str
    flip: str
    inputs: _containers.ScalarMap[str, float]
    def __init__(self, model: _Optional[str] = ..., pool: _Optional[str] = ..., instances_before: _Optional[int] = ..., instances_wanted: _Optional[int] = ..., instances_after: _Optional[int] = ..., bound_by: _Optional[str] = ..., reason: _Optional[str] = ..., flip: _Optional[str] = ..., inputs: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ScaledModel(_message.Message):
    __slots__ = ("model", "lead")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LEAD_FIELD_NUMBER: _ClassVar[int]
    model: str
    lead: _duration_pb2.Duration
    def __init__(self, model: _Optional[str] = ..., lead: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
