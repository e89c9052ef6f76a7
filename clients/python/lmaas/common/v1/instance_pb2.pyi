import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lmaas.common.v1 import rules_pb2 as _rules_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InstanceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTANCE_STATE_UNSPECIFIED: _ClassVar[InstanceState]
    INSTANCE_STATE_PROVISIONING: _ClassVar[InstanceState]
    INSTANCE_STATE_LOADING: _ClassVar[InstanceState]
    INSTANCE_STATE_READY: _ClassVar[InstanceState]
    INSTANCE_STATE_DRAINING: _ClassVar[InstanceState]
    INSTANCE_STATE_STOPPED: _ClassVar[InstanceState]
    INSTANCE_STATE_LOST: _ClassVar[InstanceState]

class InstanceRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTANCE_ROLE_UNSPECIFIED: _ClassVar[InstanceRole]
    INSTANCE_ROLE_MIXED: _ClassVar[InstanceRole]
    INSTANCE_ROLE_INTERACTIVE: _ClassVar[InstanceRole]
    INSTANCE_ROLE_BATCH: _ClassVar[InstanceRole]

class Batching(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCHING_UNSPECIFIED: _ClassVar[Batching]
    BATCHING_CONTINUOUS: _ClassVar[Batching]
    BATCHING_STATIC: _ClassVar[Batching]
INSTANCE_STATE_UNSPECIFIED: InstanceState
INSTANCE_STATE_PROVISIONING: InstanceState
INSTANCE_STATE_LOADING: InstanceState
INSTANCE_STATE_READY: InstanceState
INSTANCE_STATE_DRAINING: InstanceState
INSTANCE_STATE_STOPPED: InstanceState
INSTANCE_STATE_LOST: InstanceState
INSTANCE_ROLE_UNSPECIFIED: InstanceRole
INSTANCE_ROLE_MIXED: InstanceRole
INSTANCE_ROLE_INTERACTIVE: InstanceRole
INSTANCE_ROLE_BATCH: InstanceRole
BATCHING_UNSPECIFIED: Batching
BATCHING_CONTINUOUS: Batching
BATCHING_STATIC: Batching

class Instance(_message.Message):
    __slots__ = ("instance_id", "model", "grpc_address", "metrics_url", "state", "server_id", "region", "profile", "concurrency_max", "kv_tokens_max", "state_time", "state_reason", "context_tokens_max", "role", "batching", "pool", "openai_address")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GRPC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    METRICS_URL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SERVER_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_MAX_FIELD_NUMBER: _ClassVar[int]
    KV_TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    OPENAI_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    model: str
    grpc_address: str
    metrics_url: str
    state: InstanceState
    server_id: str
    region: str
    profile: str
    concurrency_max: int
    kv_tokens_max: int
    state_time: _timestamp_pb2.Timestamp
    state_reason: str
    context_tokens_max: int
    role: InstanceRole
    batching: Batching
    pool: str
    openai_address: str
    def __init__(self, instance_id: _Optional[str] = ..., model: _Optional[str] = ..., grpc_address: _Optional[str] = ..., metrics_url: _Optional[str] = ..., state: _Optional[_Union[InstanceState, str]] = ..., server_id: _Optional[str] = ..., region: _Optional[str] = ..., profile: _Optional[str] = ..., concurrency_max: _Optional[int] = ..., kv_tokens_max: _Optional[int] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state_reason: _Optional[str] = ..., context_tokens_max: _Optional[int] = ..., role: _Optional[_Union[InstanceRole, str]] = ..., batching: _Optional[_Union[Batching, str]] = ..., pool: _Optional[str] = ..., openai_address: _Optional[str] = ...) -> None: ...
