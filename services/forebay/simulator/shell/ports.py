"""What the shells may ask of each other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from forebay.core.metrics import QueueSample
from forebay.core.pressure import Pressure
from forebay.core.scheduling import Placement, Rejected, Retry
from forebay.core.values import InferenceRequest, Instance, InstanceLoad, LengthPrediction
from forebay.gateway.values import RequestRecord
from forebay.scheduler.actions import Observe


class Scheduling(Protocol):
    """The scheduler as the fleet's shell knows it."""

    def fleet(self, instances: Sequence[Instance]) -> None:
        """The whole fleet as the autoscaler publishes it; gateways hear of it from the scheduler."""
        ...

    def models(self, leads_us: Mapping[str, int]) -> None:
        """The models that the autoscaler starts when requests come for them, with the time that takes."""
        ...

    def loads(self, loads: Sequence[InstanceLoad]) -> None:
        """The instances of a snapshot."""
        ...

    def drain(self, instance_id: str) -> int | None:
        """Nothing more is placed there; gives the leases that are left, None where the instance is unknown."""
        ...

    def pressure(self) -> Pressure:
        """The load that is on its way."""
        ...


class Serving(Protocol):
    """The gateway as the fleet's shell knows it."""

    def lost(self, rows: Sequence[int], why: str) -> None:
        """An instance ended with these requests on it (what `Kernel.crash` gave, or what was cancelled there)."""
        ...


class Answers(Protocol):
    """The gateway as the scheduler's shell knows it."""

    def placed(self, placement: Placement) -> None:
        """A request may go to an instance."""
        ...

    def refused(self, answer: Rejected | Retry) -> None:
        """A request got a no."""
        ...

    def fleet(self, instances: Sequence[Instance]) -> None:
        """The fleet as the scheduler sees it."""
        ...


class Entry(Protocol):
    """The gateway as clients know it."""

    def arrive(self, row: int, request: InferenceRequest) -> None:
        """A client sends a request."""
        ...


class Fleet(Protocol):
    """Who starts and ends instances, watches them, and takes what is reported: autoscaler, actuator and metrics.

    It adds engines with `context.machines.add`, ends them with `kernel.crash` and `machines.end`, and writes every
    step down in `context.changes`.
    """

    def begin(self, scheduler: Scheduling, gateway: Serving) -> None:
        """The run starts at the clock's time: the first instances are there and published."""
        ...

    def reported(self, record: RequestRecord) -> None:
        """A gateway says how a request ended."""
        ...

    def sampled(self, sample: QueueSample) -> None:
        """The scheduler says what it holds of one model."""
        ...


class Lengths(Protocol):
    """The predictor as the scheduler's shell knows it."""

    def ask(self, request: InferenceRequest, reply: Callable[[LengthPrediction | None], None]) -> None:
        """Calls `reply` once, now or later."""
        ...

    def observe(self, outcome: Observe) -> None:
        """Takes an outcome."""
        ...
