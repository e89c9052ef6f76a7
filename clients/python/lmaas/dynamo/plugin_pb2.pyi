from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HoldPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCEPT_WHEN_IDLE: _ClassVar[HoldPolicy]
    HOLD_LAST: _ClassVar[HoldPolicy]
ACCEPT_WHEN_IDLE: HoldPolicy
HOLD_LAST: HoldPolicy

class RegisterRequest(_message.Message):
    __slots__ = ("plugin_id", "plugin_type", "priority", "endpoint", "version", "execution_interval_seconds", "hold_policy", "needs", "protocol_version", "auth_token", "observation_window_seconds")
    PLUGIN_ID_FIELD_NUMBER: _ClassVar[int]
    PLUGIN_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HOLD_POLICY_FIELD_NUMBER: _ClassVar[int]
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    AUTH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    plugin_id: str
    plugin_type: str
    priority: int
    endpoint: str
    version: str
    execution_interval_seconds: float
    hold_policy: HoldPolicy
    needs: _containers.RepeatedScalarFieldContainer[str]
    protocol_version: str
    auth_token: str
    observation_window_seconds: float
    def __init__(self, plugin_id: _Optional[str] = ..., plugin_type: _Optional[str] = ..., priority: _Optional[int] = ..., endpoint: _Optional[str] = ..., version: _Optional[str] = ..., execution_interval_seconds: _Optional[float] = ..., hold_policy: _Optional[_Union[HoldPolicy, str]] = ..., needs: _Optional[_Iterable[str]] = ..., protocol_version: _Optional[str] = ..., auth_token: _Optional[str] = ..., observation_window_seconds: _Optional[float] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("accepted", "reject_reason", "negotiated_protocol_version")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REJECT_REASON_FIELD_NUMBER: _ClassVar[int]
    NEGOTIATED_PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    reject_reason: str
    negotiated_protocol_version: str
    def __init__(self, accepted: _Optional[bool] = ..., reject_reason: _Optional[str] = ..., negotiated_protocol_version: _Optional[str] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("plugin_id", "auth_token")
    PLUGIN_ID_FIELD_NUMBER: _ClassVar[int]
    AUTH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plugin_id: str
    auth_token: str
    def __init__(self, plugin_id: _Optional[str] = ..., auth_token: _Optional[str] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("ok",)
    OK_FIELD_NUMBER: _ClassVar[int]
    ok: bool
    def __init__(self, ok: _Optional[bool] = ...) -> None: ...

class UnregisterRequest(_message.Message):
    __slots__ = ("plugin_id", "reason", "auth_token")
    PLUGIN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AUTH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plugin_id: str
    reason: str
    auth_token: str
    def __init__(self, plugin_id: _Optional[str] = ..., reason: _Optional[str] = ..., auth_token: _Optional[str] = ...) -> None: ...

class UnregisterResponse(_message.Message):
    __slots__ = ("ok",)
    OK_FIELD_NUMBER: _ClassVar[int]
    ok: bool
    def __init__(self, ok: _Optional[bool] = ...) -> None: ...

class PipelineContext(_message.Message):
    __slots__ = ("request_id", "observations")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    observations: ObservationData
    def __init__(self, request_id: _Optional[str] = ..., observations: _Optional[_Union[ObservationData, _Mapping]] = ...) -> None: ...

class ObservationData(_message.Message):
    __slots__ = ("traffic",)
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    traffic: TrafficMetrics
    def __init__(self, traffic: _Optional[_Union[TrafficMetrics, _Mapping]] = ...) -> None: ...

class TrafficMetrics(_message.Message):
    __slots__ = ("duration_s", "num_req", "isl", "osl")
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    NUM_REQ_FIELD_NUMBER: _ClassVar[int]
    ISL_FIELD_NUMBER: _ClassVar[int]
    OSL_FIELD_NUMBER: _ClassVar[int]
    duration_s: float
    num_req: float
    isl: float
    osl: float
    def __init__(self, duration_s: _Optional[float] = ..., num_req: _Optional[float] = ..., isl: _Optional[float] = ..., osl: _Optional[float] = ...) -> None: ...

class PredictionData(_message.Message):
    __slots__ = ("predicted_num_req", "predicted_isl", "predicted_osl", "source")
    PREDICTED_NUM_REQ_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_ISL_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_OSL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    predicted_num_req: float
    predicted_isl: float
    predicted_osl: float
    source: str
    def __init__(self, predicted_num_req: _Optional[float] = ..., predicted_isl: _Optional[float] = ..., predicted_osl: _Optional[float] = ..., source: _Optional[str] = ...) -> None: ...

class PredictStageRequest(_message.Message):
    __slots__ = ("context",)
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    context: PipelineContext
    def __init__(self, context: _Optional[_Union[PipelineContext, _Mapping]] = ...) -> None: ...

class PredictStageResponse(_message.Message):
    __slots__ = ("predictions", "reason", "final")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    predictions: PredictionData
    reason: str
    final: bool
    def __init__(self, predictions: _Optional[_Union[PredictionData, _Mapping]] = ..., reason: _Optional[str] = ..., final: _Optional[bool] = ...) -> None: ...
