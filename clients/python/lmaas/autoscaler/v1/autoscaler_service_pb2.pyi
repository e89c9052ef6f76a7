import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from lmaas.autoscaler.v1 import fleet_pb2 as _fleet_pb2
from lmaas.common.v1 import instance_pb2 as _instance_pb2
from lmaas.common.v1 import rules_pb2 as _rules_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchFleetRequest(_message.Message):
    __slots__ = ("model", "interval_max")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MAX_FIELD_NUMBER: _ClassVar[int]
    model: str
    interval_max: _duration_pb2.Duration
    def __init__(self, model: _Optional[str] = ..., interval_max: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchFleetResponse(_message.Message):
    __slots__ = ("instances", "revision", "models")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[_instance_pb2.Instance]
    revision: int
    models: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.ScaledModel]
    def __init__(self, instances: _Optional[_Iterable[_Union[_instance_pb2.Instance, _Mapping]]] = ..., revision: _Optional[int] = ..., models: _Optional[_Iterable[_Union[_fleet_pb2.ScaledModel, _Mapping]]] = ...) -> None: ...

class GetFleetRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetFleetResponse(_message.Message):
    __slots__ = ("instances", "models", "mode", "policy", "warnings", "leader", "forecasts")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    FORECASTS_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[_instance_pb2.Instance]
    models: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.ModelFleet]
    mode: _fleet_pb2.Mode
    policy: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    leader: str
    forecasts: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.ForecastBand]
    def __init__(self, instances: _Optional[_Iterable[_Union[_instance_pb2.Instance, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[_fleet_pb2.ModelFleet, _Mapping]]] = ..., mode: _Optional[_Union[_fleet_pb2.Mode, str]] = ..., policy: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., leader: _Optional[str] = ..., forecasts: _Optional[_Iterable[_Union[_fleet_pb2.ForecastBand, _Mapping]]] = ...) -> None: ...

class RegisterInstanceRequest(_message.Message):
    __slots__ = ("instance", "ttl", "request_id")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    instance: _instance_pb2.Instance
    ttl: _duration_pb2.Duration
    request_id: str
    def __init__(self, instance: _Optional[_Union[_instance_pb2.Instance, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RegisterInstanceResponse(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: _instance_pb2.Instance
    def __init__(self, instance: _Optional[_Union[_instance_pb2.Instance, _Mapping]] = ...) -> None: ...

class HeartbeatInstanceRequest(_message.Message):
    __slots__ = ("instance_id",)
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    def __init__(self, instance_id: _Optional[str] = ...) -> None: ...

class HeartbeatInstanceResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: _instance_pb2.InstanceState
    def __init__(self, state: _Optional[_Union[_instance_pb2.InstanceState, str]] = ...) -> None: ...

class DeregisterInstanceRequest(_message.Message):
    __slots__ = ("instance_id", "request_id")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    request_id: str
    def __init__(self, instance_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeregisterInstanceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDecisionsRequest(_message.Message):
    __slots__ = ("model", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDecisionsResponse(_message.Message):
    __slots__ = ("decisions", "next_page_token")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.ScalingDecision]
    next_page_token: str
    def __init__(self, decisions: _Optional[_Iterable[_Union[_fleet_pb2.ScalingDecision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExplainDecisionRequest(_message.Message):
    __slots__ = ("decision_id",)
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    def __init__(self, decision_id: _Optional[str] = ...) -> None: ...

class ExplainDecisionResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: _fleet_pb2.ScalingDecision
    def __init__(self, decision: _Optional[_Union[_fleet_pb2.ScalingDecision, _Mapping]] = ...) -> None: ...

class SetBoundsRequest(_message.Message):
    __slots__ = ("bounds", "request_id")
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    bounds: _fleet_pb2.Bounds
    request_id: str
    def __init__(self, bounds: _Optional[_Union[_fleet_pb2.Bounds, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class SetBoundsResponse(_message.Message):
    __slots__ = ("bounds",)
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    bounds: _fleet_pb2.Bounds
    def __init__(self, bounds: _Optional[_Union[_fleet_pb2.Bounds, _Mapping]] = ...) -> None: ...

class SetModeRequest(_message.Message):
    __slots__ = ("mode", "request_id")
    MODE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    mode: _fleet_pb2.Mode
    request_id: str
    def __init__(self, mode: _Optional[_Union[_fleet_pb2.Mode, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class SetModeResponse(_message.Message):
    __slots__ = ("mode",)
    MODE_FIELD_NUMBER: _ClassVar[int]
    mode: _fleet_pb2.Mode
    def __init__(self, mode: _Optional[_Union[_fleet_pb2.Mode, str]] = ...) -> None: ...

class AdviseScalingRequest(_message.Message):
    __slots__ = ("policy", "parameters")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    parameters: _containers.ScalarMap[str, str]
    def __init__(self, policy: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ...) -> None: ...

class AdviseScalingResponse(_message.Message):
    __slots__ = ("policy", "pools", "warnings")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    pools: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.PoolAdvice]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy: _Optional[str] = ..., pools: _Optional[_Iterable[_Union[_fleet_pb2.PoolAdvice, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...
