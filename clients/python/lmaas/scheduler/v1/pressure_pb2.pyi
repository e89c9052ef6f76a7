import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lmaas.common.v1 import rules_pb2 as _rules_pb2
from lmaas.common.v1 import slo_pb2 as _slo_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Pressure(_message.Message):
    __slots__ = ("sample_time", "horizon_iterations", "instances", "demands", "waiting")
    SAMPLE_TIME_FIELD_NUMBER: _ClassVar[int]
    HORIZON_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    DEMANDS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    sample_time: _timestamp_pb2.Timestamp
    horizon_iterations: int
    instances: _containers.RepeatedCompositeFieldContainer[InstancePressure]
    demands: _containers.RepeatedCompositeFieldContainer[Demand]
    waiting: _containers.RepeatedCompositeFieldContainer[WaitingGroup]
    def __init__(self, sample_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., horizon_iterations: _Optional[int] = ..., instances: _Optional[_Iterable[_Union[InstancePressure, _Mapping]]] = ..., demands: _Optional[_Iterable[_Union[Demand, _Mapping]]] = ..., waiting: _Optional[_Iterable[_Union[WaitingGroup, _Mapping]]] = ...) -> None: ...

class InstancePressure(_message.Message):
    __slots__ = ("instance_id", "interactive_count", "deferred_count", "peak_share", "over_share", "prefill_tokens", "remaining_tokens", "cap")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    INTERACTIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEFERRED_COUNT_FIELD_NUMBER: _ClassVar[int]
    PEAK_SHARE_FIELD_NUMBER: _ClassVar[int]
    OVER_SHARE_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REMAINING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CAP_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    interactive_count: int
    deferred_count: int
    peak_share: float
    over_share: float
    prefill_tokens: int
    remaining_tokens: float
    cap: int
    def __init__(self, instance_id: _Optional[str] = ..., interactive_count: _Optional[int] = ..., deferred_count: _Optional[int] = ..., peak_share: _Optional[float] = ..., over_share: _Optional[float] = ..., prefill_tokens: _Optional[int] = ..., remaining_tokens: _Optional[float] = ..., cap: _Optional[int] = ...) -> None: ...

class InstanceAnticipation(_message.Message):
    __slots__ = ("instance_id", "model", "kv_tokens", "kv_tokens_max")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    KV_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KV_TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    model: str
    kv_tokens: _containers.RepeatedScalarFieldContainer[int]
    kv_tokens_max: int
    def __init__(self, instance_id: _Optional[str] = ..., model: _Optional[str] = ..., kv_tokens: _Optional[_Iterable[int]] = ..., kv_tokens_max: _Optional[int] = ...) -> None: ...

class Anticipation(_message.Message):
    __slots__ = ("sample_time", "step_iterations", "instances")
    SAMPLE_TIME_FIELD_NUMBER: _ClassVar[int]
    STEP_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    sample_time: _timestamp_pb2.Timestamp
    step_iterations: int
    instances: _containers.RepeatedCompositeFieldContainer[InstanceAnticipation]
    def __init__(self, sample_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., step_iterations: _Optional[int] = ..., instances: _Optional[_Iterable[_Union[InstanceAnticipation, _Mapping]]] = ...) -> None: ...

class Demand(_message.Message):
    __slots__ = ("model", "region", "slo_class", "request_count", "prompt_tokens", "response_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    SLO_CLASS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    region: str
    slo_class: _slo_pb2.SloClass
    request_count: int
    prompt_tokens: int
    response_tokens: float
    def __init__(self, model: _Optional[str] = ..., region: _Optional[str] = ..., slo_class: _Optional[_Union[_slo_pb2.SloClass, str]] = ..., request_count: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., response_tokens: _Optional[float] = ...) -> None: ...

class WaitingGroup(_message.Message):
    __slots__ = ("model", "region", "slo_class", "due_time", "oldest_time", "request_count", "prompt_tokens", "mean_tokens", "variance", "stored")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    SLO_CLASS_FIELD_NUMBER: _ClassVar[int]
    DUE_TIME_FIELD_NUMBER: _ClassVar[int]
    OLDEST_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MEAN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    VARIANCE_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    model: str
    region: str
    slo_class: _slo_pb2.SloClass
    due_time: _timestamp_pb2.Timestamp
    oldest_time: _timestamp_pb2.Timestamp
    request_count: int
    prompt_tokens: int
    mean_tokens: float
    variance: float
    stored: bool
    def __init__(self, model: _Optional[str] = ..., region: _Optional[str] = ..., slo_class: _Optional[_Union[_slo_pb2.SloClass, str]] = ..., due_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., oldest_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., request_count: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., mean_tokens: _Optional[float] = ..., variance: _Optional[float] = ..., stored: _Optional[bool] = ...) -> None: ...

class Backlog(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[WaitingJob]
    def __init__(self, jobs: _Optional[_Iterable[_Union[WaitingJob, _Mapping]]] = ...) -> None: ...

class WaitingJob(_message.Message):
    __slots__ = ("job_id", "model", "region", "deadline", "create_time", "remaining_count", "in_flight_count", "prompt_tokens", "tokens_max")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REMAINING_COUNT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_COUNT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    model: str
    region: str
    deadline: _timestamp_pb2.Timestamp
    create_time: _timestamp_pb2.Timestamp
    remaining_count: int
    in_flight_count: int
    prompt_tokens: int
    tokens_max: int
    def __init__(self, job_id: _Optional[str] = ..., model: _Optional[str] = ..., region: _Optional[str] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., remaining_count: _Optional[int] = ..., in_flight_count: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., tokens_max: _Optional[int] = ...) -> None: ...
