"""What the parts of the system last told the page, as messages; nothing of it is older than its part's last answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmaas.autoscaler.v1.autoscaler_service_pb2 import GetFleetResponse
from lmaas.autoscaler.v1.fleet_pb2 import ForecastBand, ScalingDecision
from lmaas.predictor.v1.length_pb2 import PredictorAccuracy, PredictorModel
from lmaas.scheduler.v1.pressure_pb2 import Anticipation, Pressure
from lmaas.scheduler.v1.status_pb2 import Queue, ScheduledInstance, Shadow

from forebay.core.metrics import Snapshot
from forebay.core.values import Instance, WorkloadPoint


@dataclass(frozen=True, slots=True)
class SchedulerSays:
    """One replica of the scheduler."""

    instances: Sequence[ScheduledInstance] = ()
    queues: Sequence[Queue] = ()
    shadows: Sequence[Shadow] = ()
    pressure: Pressure = field(default_factory=Pressure)
    anticipation: Anticipation = field(default_factory=Anticipation)


@dataclass(frozen=True, slots=True)
class AutoscalerSays:
    """The autoscaler."""

    fleet: GetFleetResponse
    decisions: Sequence[ScalingDecision] = ()


@dataclass(frozen=True, slots=True)
class PredictorSays:
    """The predictor; `bands` are its own forecasts, asked for where the autoscaler has none."""

    accuracy: Sequence[PredictorAccuracy] = ()
    models: Sequence[PredictorModel] = ()
    bands: Sequence[ForecastBand] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it was last found: away with a note of what to do about it, or there, since when."""

    kind: str
    address: str
    is_up: bool
    since_us: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything at one time. A part that is away has said nothing."""

    now_us: int
    snapshot: Snapshot
    instances: Sequence[Instance] = ()
    parts: Sequence[Part] = ()
    schedulers: Sequence[SchedulerSays] = ()
    autoscaler: AutoscalerSays | None = None
    predictor: PredictorSays | None = None
    traffic: Mapping[str, Sequence[WorkloadPoint]] = field(default_factory=dict)
