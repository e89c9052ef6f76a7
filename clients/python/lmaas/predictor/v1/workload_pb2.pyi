import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Quantiles(_message.Message):
    __slots__ = ("p10", "p50", "p90", "p97")
    P10_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    P97_FIELD_NUMBER: _ClassVar[int]
    p10: float
    p50: float
    p90: float
    p97: float
    def __init__(self, p10: _Optional[float] = ..., p50: _Optional[float] = ..., p90: _Optional[float] = ..., p97: _Optional[float] = ...) -> None: ...

class WorkloadForecast(_message.Message):
    __slots__ = ("start_time", "requests", "prompt_tokens", "response_tokens")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    requests: Quantiles
    prompt_tokens: Quantiles
    response_tokens: Quantiles
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., requests: _Optional[_Union[Quantiles, _Mapping]] = ..., prompt_tokens: _Optional[_Union[Quantiles, _Mapping]] = ..., response_tokens: _Optional[_Union[Quantiles, _Mapping]] = ...) -> None: ...
