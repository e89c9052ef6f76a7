import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from lmaas.common.v1 import rules_pb2 as _rules_pb2
from lmaas.scheduler.v1 import decision_pb2 as _decision_pb2
from lmaas.scheduler.v1 import pressure_pb2 as _pressure_pb2
from lmaas.scheduler.v1 import request_pb2 as _request_pb2
from lmaas.scheduler.v1 import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScheduleRequest(_message.Message):
    __slots__ = ("resume", "arrive", "progress", "finish", "cancel", "batch", "backlog")
    RESUME_FIELD_NUMBER: _ClassVar[int]
    ARRIVE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    resume: Resume
    arrive: _request_pb2.InferenceRequest
    progress: _request_pb2.Progress
    finish: _request_pb2.Finish
    cancel: _request_pb2.Cancel
    batch: ScheduleBatch
    backlog: _pressure_pb2.Backlog
    def __init__(self, resume: _Optional[_Union[Resume, _Mapping]] = ..., arrive: _Optional[_Union[_request_pb2.InferenceRequest, _Mapping]] = ..., progress: _Optional[_Union[_request_pb2.Progress, _Mapping]] = ..., finish: _Optional[_Union[_request_pb2.Finish, _Mapping]] = ..., cancel: _Optional[_Union[_request_pb2.Cancel, _Mapping]] = ..., batch: _Optional[_Union[ScheduleBatch, _Mapping]] = ..., backlog: _Optional[_Union[_pressure_pb2.Backlog, _Mapping]] = ...) -> None: ...

class ScheduleBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[ScheduleRequest]
    def __init__(self, events: _Optional[_Iterable[_Union[ScheduleRequest, _Mapping]]] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("gateway_id", "open_leases")
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    OPEN_LEASES_FIELD_NUMBER: _ClassVar[int]
    gateway_id: str
    open_leases: _containers.RepeatedCompositeFieldContainer[_request_pb2.OpenLease]
    def __init__(self, gateway_id: _Optional[str] = ..., open_leases: _Optional[_Iterable[_Union[_request_pb2.OpenLease, _Mapping]]] = ...) -> None: ...

class ScheduleResponse(_message.Message):
    __slots__ = ("request_id", "placed", "rejected", "retry", "batch")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PLACED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    placed: _request_pb2.Placement
    rejected: Rejected
    retry: Retry
    batch: _containers.RepeatedCompositeFieldContainer[ScheduleResponse]
    def __init__(self, request_id: _Optional[str] = ..., placed: _Optional[_Union[_request_pb2.Placement, _Mapping]] = ..., rejected: _Optional[_Union[Rejected, _Mapping]] = ..., retry: _Optional[_Union[Retry, _Mapping]] = ..., batch: _Optional[_Iterable[_Union[ScheduleResponse, _Mapping]]] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("reason", "message", "decision_id")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    decision_id: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., decision_id: _Optional[str] = ...) -> None: ...

class Retry(_message.Message):
    __slots__ = ("reason", "message", "retry_delay", "decision_id")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    retry_delay: _duration_pb2.Duration
    decision_id: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., retry_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., decision_id: _Optional[str] = ...) -> None: ...

class PlaceRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: _request_pb2.InferenceRequest
    def __init__(self, request: _Optional[_Union[_request_pb2.InferenceRequest, _Mapping]] = ...) -> None: ...

class PlaceResponse(_message.Message):
    __slots__ = ("placement",)
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    placement: _request_pb2.Placement
    def __init__(self, placement: _Optional[_Union[_request_pb2.Placement, _Mapping]] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("progress", "finish", "cancel")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    progress: _request_pb2.Progress
    finish: _request_pb2.Finish
    cancel: _request_pb2.Cancel
    def __init__(self, progress: _Optional[_Union[_request_pb2.Progress, _Mapping]] = ..., finish: _Optional[_Union[_request_pb2.Finish, _Mapping]] = ..., cancel: _Optional[_Union[_request_pb2.Cancel, _Mapping]] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("decision_id",)
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    def __init__(self, decision_id: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: _decision_pb2.Decision
    def __init__(self, decision: _Optional[_Union[_decision_pb2.Decision, _Mapping]] = ...) -> None: ...

class ListInstancesRequest(_message.Message):
    __slots__ = ("model", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListInstancesResponse(_message.Message):
    __slots__ = ("instances", "next_page_token")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[_status_pb2.ScheduledInstance]
    next_page_token: str
    def __init__(self, instances: _Optional[_Iterable[_Union[_status_pb2.ScheduledInstance, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchInstancesRequest(_message.Message):
    __slots__ = ("model", "interval_min")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MIN_FIELD_NUMBER: _ClassVar[int]
    model: str
    interval_min: _duration_pb2.Duration
    def __init__(self, model: _Optional[str] = ..., interval_min: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchInstancesResponse(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[_status_pb2.ScheduledInstance]
    def __init__(self, instances: _Optional[_Iterable[_Union[_status_pb2.ScheduledInstance, _Mapping]]] = ...) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues",)
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[_status_pb2.Queue]
    def __init__(self, queues: _Optional[_Iterable[_Union[_status_pb2.Queue, _Mapping]]] = ...) -> None: ...

class ListLeasesRequest(_message.Message):
    __slots__ = ("instance_id", "page_size", "page_token")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    page_size: int
    page_token: str
    def __init__(self, instance_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLeasesResponse(_message.Message):
    __slots__ = ("leases", "next_page_token")
    LEASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedCompositeFieldContainer[_status_pb2.Lease]
    next_page_token: str
    def __init__(self, leases: _Optional[_Iterable[_Union[_status_pb2.Lease, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetPressureRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetPressureResponse(_message.Message):
    __slots__ = ("pressure",)
    PRESSURE_FIELD_NUMBER: _ClassVar[int]
    pressure: _pressure_pb2.Pressure
    def __init__(self, pressure: _Optional[_Union[_pressure_pb2.Pressure, _Mapping]] = ...) -> None: ...

class GetAnticipationRequest(_message.Message):
    __slots__ = ("step_iterations", "step_count")
    STEP_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    step_iterations: int
    step_count: int
    def __init__(self, step_iterations: _Optional[int] = ..., step_count: _Optional[int] = ...) -> None: ...

class GetAnticipationResponse(_message.Message):
    __slots__ = ("anticipation",)
    ANTICIPATION_FIELD_NUMBER: _ClassVar[int]
    anticipation: _pressure_pb2.Anticipation
    def __init__(self, anticipation: _Optional[_Union[_pressure_pb2.Anticipation, _Mapping]] = ...) -> None: ...

class DrainInstanceRequest(_message.Message):
    __slots__ = ("instance_id", "request_id")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    request_id: str
    def __init__(self, instance_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DrainInstanceResponse(_message.Message):
    __slots__ = ("lease_count",)
    LEASE_COUNT_FIELD_NUMBER: _ClassVar[int]
    lease_count: int
    def __init__(self, lease_count: _Optional[int] = ...) -> None: ...

class ListShadowsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListShadowsResponse(_message.Message):
    __slots__ = ("shadows",)
    SHADOWS_FIELD_NUMBER: _ClassVar[int]
    shadows: _containers.RepeatedCompositeFieldContainer[_status_pb2.Shadow]
    def __init__(self, shadows: _Optional[_Iterable[_Union[_status_pb2.Shadow, _Mapping]]] = ...) -> None: ...
