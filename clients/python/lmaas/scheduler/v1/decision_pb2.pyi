import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lmaas.common.v1 import length_pb2 as _length_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_PLACED: _ClassVar[Verdict]
    VERDICT_REJECTED: _ClassVar[Verdict]
    VERDICT_RETRY: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
VERDICT_PLACED: Verdict
VERDICT_REJECTED: Verdict
VERDICT_RETRY: Verdict

class ScoreTerm(_message.Message):
    __slots__ = ("name", "unit", "weight", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    weight: float
    value: float
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ..., weight: _Optional[float] = ..., value: _Optional[float] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("instance_id", "score", "eligible", "reason", "inputs", "terms")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ELIGIBLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    score: float
    eligible: bool
    reason: str
    inputs: _containers.ScalarMap[str, float]
    terms: _containers.RepeatedCompositeFieldContainer[ScoreTerm]
    def __init__(self, instance_id: _Optional[str] = ..., score: _Optional[float] = ..., eligible: _Optional[bool] = ..., reason: _Optional[str] = ..., inputs: _Optional[_Mapping[str, float]] = ..., terms: _Optional[_Iterable[_Union[ScoreTerm, _Mapping]]] = ...) -> None: ...

class Flip(_message.Message):
    __slots__ = ("instance_id", "input", "to")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    input: str
    to: float
    def __init__(self, instance_id: _Optional[str] = ..., input: _Optional[str] = ..., to: _Optional[float] = ..., **kwargs) -> None: ...

class Decision(_message.Message):
    __slots__ = ("decision_id", "request_id", "decision_time", "verdict", "instance_id", "policies", "inputs", "predicted_length", "predicted_by", "candidates", "flip", "reason", "shadows", "batch_id")
    class PoliciesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class ShadowsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_TIME_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_BY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SHADOWS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    request_id: str
    decision_time: _timestamp_pb2.Timestamp
    verdict: Verdict
    instance_id: str
    policies: _containers.ScalarMap[str, str]
    inputs: _containers.ScalarMap[str, float]
    predicted_length: _length_pb2.LengthQuantiles
    predicted_by: str
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    flip: Flip
    reason: str
    shadows: _containers.ScalarMap[str, str]
    batch_id: str
    def __init__(self, decision_id: _Optional[str] = ..., request_id: _Optional[str] = ..., decision_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., instance_id: _Optional[str] = ..., policies: _Optional[_Mapping[str, str]] = ..., inputs: _Optional[_Mapping[str, float]] = ..., predicted_length: _Optional[_Union[_length_pb2.LengthQuantiles, _Mapping]] = ..., predicted_by: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., flip: _Optional[_Union[Flip, _Mapping]] = ..., reason: _Optional[str] = ..., shadows: _Optional[_Mapping[str, str]] = ..., batch_id: _Optional[str] = ...) -> None: ...
