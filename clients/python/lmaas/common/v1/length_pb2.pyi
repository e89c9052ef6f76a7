from lmaas.common.v1 import rules_pb2 as _rules_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class LengthQuantiles(_message.Message):
    __slots__ = ("p10_tokens", "p50_tokens", "p90_tokens", "p97_tokens")
    P10_TOKENS_FIELD_NUMBER: _ClassVar[int]
    P50_TOKENS_FIELD_NUMBER: _ClassVar[int]
    P90_TOKENS_FIELD_NUMBER: _ClassVar[int]
    P97_TOKENS_FIELD_NUMBER: _ClassVar[int]
    p10_tokens: int
    p50_tokens: int
    p90_tokens: int
    p97_tokens: int
    def __init__(self, p10_tokens: _Optional[int] = ..., p50_tokens: _Optional[int] = ..., p90_tokens: _Optional[int] = ..., p97_tokens: _Optional[int] = ...) -> None: ...
