from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
RULES_FIELD_NUMBER: _ClassVar[int]
rules: _descriptor.FieldDescriptor

class Rules(_message.Message):
    __slots__ = ("required", "gte", "lte", "max_len", "max_items")
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    GTE_FIELD_NUMBER: _ClassVar[int]
    LTE_FIELD_NUMBER: _ClassVar[int]
    MAX_LEN_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    required: bool
    gte: float
    lte: float
    max_len: int
    max_items: int
    def __init__(self, required: _Optional[bool] = ..., gte: _Optional[float] = ..., lte: _Optional[float] = ..., max_len: _Optional[int] = ..., max_items: _Optional[int] = ...) -> None: ...
