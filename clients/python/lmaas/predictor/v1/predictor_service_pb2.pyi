import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from lmaas.common.v1 import rules_pb2 as _rules_pb2
from lmaas.common.v1 import slo_pb2 as _slo_pb2
from lmaas.predictor.v1 import length_pb2 as _length_pb2
from lmaas.predictor.v1 import workload_pb2 as _workload_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictLengthRequest(_message.Message):
    __slots__ = ("queries",)
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[_length_pb2.LengthQuery]
    def __init__(self, queries: _Optional[_Iterable[_Union[_length_pb2.LengthQuery, _Mapping]]] = ...) -> None: ...

class PredictLengthResponse(_message.Message):
    __slots__ = ("predictions", "predicted_by")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_BY_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[_length_pb2.LengthPrediction]
    predicted_by: str
    def __init__(self, predictions: _Optional[_Iterable[_Union[_length_pb2.LengthPrediction, _Mapping]]] = ..., predicted_by: _Optional[str] = ...) -> None: ...

class ForecastWorkloadRequest(_message.Message):
    __slots__ = ("model", "region", "slo_class", "window", "horizon_count")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    SLO_CLASS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    HORIZON_COUNT_FIELD_NUMBER: _ClassVar[int]
    model: str
    region: str
    slo_class: _slo_pb2.SloClass
    window: _duration_pb2.Duration
    horizon_count: int
    def __init__(self, model: _Optional[str] = ..., region: _Optional[str] = ..., slo_class: _Optional[_Union[_slo_pb2.SloClass, str]] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., horizon_count: _Optional[int] = ...) -> None: ...

class ForecastWorkloadResponse(_message.Message):
    __slots__ = ("forecasts", "predicted_by", "history_count")
    FORECASTS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_BY_FIELD_NUMBER: _ClassVar[int]
    HISTORY_COUNT_FIELD_NUMBER: _ClassVar[int]
    forecasts: _containers.RepeatedCompositeFieldContainer[_workload_pb2.WorkloadForecast]
    predicted_by: str
    history_count: int
    def __init__(self, forecasts: _Optional[_Iterable[_Union[_workload_pb2.WorkloadForecast, _Mapping]]] = ..., predicted_by: _Optional[str] = ..., history_count: _Optional[int] = ...) -> None: ...

class ObserveOutcomesRequest(_message.Message):
    __slots__ = ("outcomes", "request_id")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[_length_pb2.LengthOutcome]
    request_id: str
    def __init__(self, outcomes: _Optional[_Iterable[_Union[_length_pb2.LengthOutcome, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ObserveOutcomesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("kind", "page_size", "page_token")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    kind: _length_pb2.ModelKind
    page_size: int
    page_token: str
    def __init__(self, kind: _Optional[_Union[_length_pb2.ModelKind, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[_length_pb2.PredictorModel]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[_length_pb2.PredictorModel, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ActivateModelRequest(_message.Message):
    __slots__ = ("kind", "name", "version", "request_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    kind: _length_pb2.ModelKind
    name: str
    version: str
    request_id: str
    def __init__(self, kind: _Optional[_Union[_length_pb2.ModelKind, str]] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ActivateModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _length_pb2.PredictorModel
    def __init__(self, model: _Optional[_Union[_length_pb2.PredictorModel, _Mapping]] = ...) -> None: ...

class ShadowModelRequest(_message.Message):
    __slots__ = ("name", "version", "ends", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    ends: bool
    request_id: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., ends: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class ShadowModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _length_pb2.PredictorModel
    def __init__(self, model: _Optional[_Union[_length_pb2.PredictorModel, _Mapping]] = ...) -> None: ...

class RollbackModelRequest(_message.Message):
    __slots__ = ("kind", "request_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    kind: _length_pb2.ModelKind
    request_id: str
    def __init__(self, kind: _Optional[_Union[_length_pb2.ModelKind, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RollbackModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _length_pb2.PredictorModel
    def __init__(self, model: _Optional[_Union[_length_pb2.PredictorModel, _Mapping]] = ...) -> None: ...

class ListAccuracyRequest(_message.Message):
    __slots__ = ("predictor", "model", "page_size", "page_token")
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    predictor: str
    model: str
    page_size: int
    page_token: str
    def __init__(self, predictor: _Optional[str] = ..., model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAccuracyResponse(_message.Message):
    __slots__ = ("rows", "next_page_token")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[_length_pb2.PredictorAccuracy]
    next_page_token: str
    def __init__(self, rows: _Optional[_Iterable[_Union[_length_pb2.PredictorAccuracy, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
