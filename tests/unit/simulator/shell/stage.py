"""A fleet by itself: scheduler and gateway are played by hand, and the clock is moved by the test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.autoscaler.policy.autoscaler.base import Autoscaler
from forebay.core.config import from_mapping
from forebay.core.metrics import QueueSample
from forebay.core.prediction import WorkloadForecast
from forebay.core.pressure import Pressure
from forebay.core.values import Instance, InstanceLoad, InstanceState
from forebay.predictor.policy.forecaster import WorkloadHistory
from forebay.simulator.config import EngineConfig, Group, StartConfig, World
from forebay.simulator.kernel import make_kernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.shell.autoscaling_forecasts import RunForecasts
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.fleet import LiveFleet
from forebay.simulator.shell.fleet_plan import make_plan
from forebay.simulator.shell.forecasting import Forecast
from forebay.simulator.workload import make_workload

S = 1_000_000
PROFILE = "H100/Llama-3-8B/tp1"
SMALL = EngineConfig(max_seqs=8, max_batch_tokens=64, kv_tokens=4_096)
"""An engine whose profile is made quickly."""
INSTANT = StartConfig(provisioning_s=0.0, weights_gb_per_s=0.0, warm_s=0.0)
Step = tuple[float, str, str]


def group(model: str = "m", **fields: Any) -> Group:
    """A group of small engines; up to eight of them, ten requests each."""
    plain: dict[str, Any] = {"instances_max": 8, "concurrency_target": 10.0}
    return Group(model=model, profile=PROFILE, **{**plain, **fields})


def world(*groups: Group, start: StartConfig = INSTANT, **tables: Any) -> World:
    """A world of small engines that start in no time, if nothing else is said."""
    return World(groups=groups or (group(),), engine=SMALL, start=start, **tables)


@dataclass
class Scheduler:
    """Hears of fleets and loads; `leases` says what is in flight, by instance."""

    now_us: Callable[[], int]
    leases: dict[str, int] = field(default_factory=dict)
    fleets: list[tuple[int, tuple[Instance, ...]]] = field(default_factory=list)
    seen: list[tuple[int, tuple[InstanceLoad, ...]]] = field(default_factory=list)
    drained: list[str] = field(default_factory=list)
    pressed: list[tuple[int, int]] = field(default_factory=list)

    def fleet(self, instances: Sequence[Instance]) -> None:
        """A fleet is published."""
        self.fleets.append((self.now_us(), tuple(instances)))

    def models(self, leads_us: Mapping[str, int]) -> None:
        """The models that are scaled are told."""

    def loads(self, loads: Sequence[InstanceLoad]) -> None:
        """A snapshot is shown."""
        self.seen.append((self.now_us(), tuple(loads)))

    def drain(self, instance_id: str) -> int | None:
        """A drain is asked for."""
        self.drained.append(instance_id)
        return self.leases.get(instance_id, 0)

    def pressure(self) -> Pressure:
        """The autoscaler asks what is on its way."""
        self.pressed.append((self.now_us(), len(self.seen)))
        return Pressure(self.now_us())


@dataclass
class Gateway:
    """Hears of lost requests."""

    told: list[tuple[tuple[int, ...], str]] = field(default_factory=list)

    def lost(self, rows: Sequence[int], why: str) -> None:
        """Requests are lost."""
        self.told.append((tuple(rows), why))


class Stage:
    """One fleet from its beginning; `concurrency` is what the scheduler is said to have in flight, by model."""

    def __init__(
        self,
        of: World,
        table: Mapping[str, object] | None = None,
        *,
        policy: Autoscaler | None = None,
        forecast: Forecast | None = None,
        seed: int = 0,
        kernel: str = "reference",
    ) -> None:
        workload = make_workload([0] * 64, [100] * 64, [50] * 64)
        self.context = Context(workload, of, make_kernel(64, kernel), profile_of, seed)
        self.scheduler, self.gateway = Scheduler(lambda: self.context.now_us), Gateway()
        plan = make_plan(of, table or {}, self.context.machines)
        chosen = policy or from_mapping(AUTOSCALERS[plan.config.policy], plan.config.parameters, "parameters")
        forecasts = RunForecasts(chosen.needs, tuple(plan.scaled), lambda *_: forecast or _nothing, 86_400, 1_000)
        self.fleet = LiveFleet(self.context, plan, chosen, forecasts, 1.0)
        self.concurrency: dict[str, Callable[[float], int]] = {}
        self.fleet.begin(self.scheduler, self.gateway)
        self.context.every_s(1.0, self._sample)

    def until(self, seconds: float) -> "Stage":
        """Moves the clock; what is due at that time has happened."""
        context, kernel = self.context, self.context.kernel
        until_ps = round(seconds * S) * 1_000_000
        while context.agenda.next_ps <= until_ps:
            self._pass(context.agenda.next_ps)
            context.agenda.pop()()
        self._pass(until_ps)
        assert kernel.now_ps == until_ps
        return self

    def _pass(self, at_ps: int) -> None:
        while self.context.kernel.advance(at_ps):
            pass
        self.context.reach(at_ps)

    def _sample(self) -> None:
        now_us = self.context.now_us
        for model, level in self.concurrency.items():
            self.fleet.sampled(QueueSample(model, now_us, 0, level(now_us / S), "s"))

    @property
    def steps(self) -> list[Step]:
        """What the published fleet became: time in seconds, id, state."""
        found: list[Step] = []
        before: dict[str, str] = {}
        for at_us, instances in self.scheduler.fleets:
            now = {one.instance_id: one.state.name for one in instances}
            gone = [(at_us / S, name, "STOPPED") for name in before if name not in now]
            found += gone + [(at_us / S, name, state) for name, state in now.items() if before.get(name) != state]
            before = now
        return found

    @property
    def rows(self) -> list[Step]:
        """What was written down of the instances: time in seconds, id, state."""
        return [(change.at_us / S, change.instance_id, change.state) for change in self.context.changes]

    def entered(self, state: str) -> list[float]:
        """When instances entered a state."""
        return [at_s for at_s, _, name in self.steps if name == state]

    def states(self) -> dict[str, InstanceState]:
        """The published fleet, by id."""
        return {one.instance_id: one.state for one in self.scheduler.fleets[-1][1]}

    def place(self, row: int, instance_id: str) -> None:
        """Puts a request on an instance."""
        machine = self.context.machines.get(instance_id)
        assert machine is not None
        assert self.context.kernel.arrive(machine.number, row, 100, 50, 0, 0, self.context.now_ps)


def slow_start(**fields: float) -> StartConfig:
    """Starts of 30 s, 20 s of which the server answers."""
    plain = {"provisioning_s": 6.0, "image_s": 3.0, "runtime_s": 1.0, "weights_gb_per_s": 0.0, "warm_s": 20.0}
    return replace(INSTANT, **{**plain, **fields})


def _nothing(history: WorkloadHistory, now_us: int) -> tuple[WorkloadForecast, ...]:
    return ()
