"""The scheduler in virtual time: turns what happens into events and brings each answer to the gateway."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from forebay.core.metrics import QueueSample
from forebay.core.pressure import Pressure
from forebay.core.scheduling import OpenLease, Placement, Rejected, Retry
from forebay.core.units import US_PER_MS
from forebay.core.values import (
    InferenceRequest,
    Instance,
    InstanceLoad,
    InstanceState,
    LengthPrediction,
    Outcome,
    WakeAt,
)
from forebay.scheduler.actions import Action, Migrate, Observe, Plan
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.policy.planner.base import Planner
from forebay.simulator.shell.context import Alarm, Context
from forebay.simulator.shell.moving import Mover
from forebay.simulator.shell.ports import Answers, Fleet, Lengths

GATEWAY_ID = "gateway"
SCHEDULER_ID = "s"


class SchedulerShell:
    """The one caller of the scheduler's engine; what it answers reaches the gateway at once."""

    def __init__(self, context: Context, engine: Engine, config: Config, lengths: Lengths, planner: Planner) -> None:
        self.engine = context.recorded("scheduler", engine)
        self._context = context
        self._lengths = lengths
        self._interval_s = config.queue_sample_interval_s
        self._alarm = Alarm(context, self._wake)
        self._predicting: set[str] = set()
        self._planner = planner
        self._plan_us = round(context.world.network.plan_ms * US_PER_MS)

    def connect(self, gateway: Answers, fleet: Fleet) -> None:
        """Whom answers and samples go to."""
        self._gateway = gateway
        self._fleet = fleet

    def move_by(self, mover: Mover) -> None:
        """From now on running requests can be moved."""
        self._mover = mover
        self._do(self.engine.on_mover(self._context.now_us))

    def begin(self) -> None:
        """The run starts: queues are sampled from now on."""
        self._context.every_s(self._interval_s, self._sample)

    # What the gateway says

    def arrive(self, request: InferenceRequest) -> None:
        """A request wants an instance; one that came before is only told its answer."""
        if self.engine.knows(request):
            self._do(self.engine.on_arrive(request, None, self._context.now_us, GATEWAY_ID))
            return
        self._predicting.add(request.request_id)
        self._lengths.ask(request, partial(self._predicted, request))

    def withdraw(self, request_id: str) -> None:
        """A request needs no answer any more."""
        self._predicting.discard(request_id)
        self._do(self.engine.on_cancel(request_id, self._context.now_us))

    def progress(self, lease_id: str, generated_tokens: int) -> None:
        """A running request moved on."""
        self._do(self.engine.on_progress(lease_id, generated_tokens, self._context.now_us))

    def finish(self, lease_id: str, outcome: Outcome, generated_tokens: int) -> None:
        """A running request ended."""
        self._do(self.engine.on_finish(lease_id, outcome, generated_tokens, self._context.now_us))

    def resume(self, open_leases: Sequence[OpenLease]) -> None:
        """The gateway tells what it has in flight."""
        self._do(self.engine.on_resume(GATEWAY_ID, open_leases, self._context.now_us))

    # What the fleet says

    def fleet(self, instances: Sequence[Instance]) -> None:
        """The whole fleet as it is now."""
        self._do(self.engine.on_fleet(instances, self._context.now_us))
        self._tell_fleet()

    def models(self, leads_us: Mapping[str, int]) -> None:
        """The models that are started when requests come for them."""
        if leads_us != self.engine.leads_us:
            self._do(self.engine.on_models(leads_us, self._context.now_us))

    def loads(self, loads: Sequence[InstanceLoad]) -> None:
        """What metrics saw of the instances."""
        self._do(self.engine.on_loads(loads, self._context.now_us))

    def drain(self, instance_id: str) -> int | None:
        """Stops placing on an instance and gives the leases it still has; None where it is unknown."""
        if not any(one.instance.instance_id == instance_id for one in self.engine.instances()):
            return None
        self._do(self.engine.on_drain(instance_id, self._context.now_us))
        self._tell_fleet()
        return self.engine.lease_count(instance_id)

    def pressure(self) -> Pressure:
        """The load that is on its way."""
        return self.engine.pressure(self._context.now_us)

    def _tell_fleet(self) -> None:
        known = self.engine.instances()
        self._gateway.fleet(
            [replace(one.instance, state=InstanceState.DRAINING) if one.draining else one.instance for one in known]
        )

    def moved(self, lease_id: str, instance_id: str) -> None:
        """A running request goes on at another instance."""
        self._do(self.engine.on_moved(lease_id, instance_id, self._context.now_us))

    # Time

    def _wake(self) -> None:
        self._do(self.engine.on_wake(self._context.now_us))

    def _sample(self) -> None:
        now_us = self._context.now_us
        for queue in self.engine.queues(now_us):
            self._fleet.sampled(QueueSample(queue.model, now_us, queue.held_count, queue.lease_count, SCHEDULER_ID))

    def _predicted(self, request: InferenceRequest, prediction: LengthPrediction | None) -> None:
        if request.request_id in self._predicting:
            self._predicting.discard(request.request_id)
            self._do(self.engine.on_arrive(request, prediction, self._context.now_us, GATEWAY_ID))

    def _planned(self, asked: Plan) -> None:
        """The plan is ready; what it takes to make one is no time of this run."""
        assignment = self._planner.plan(asked.view)
        self._do(self.engine.on_planned(asked.model, assignment, self._context.now_us))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case WakeAt(at_us):
                    self._alarm.set(at_us)
                case Observe():
                    self._lengths.observe(action)
                case Plan():
                    self._context.after_us(self._plan_us, partial(self._planned, action))
                case Migrate():
                    self._mover.move(action)
                case Placement():
                    self._gateway.placed(action)
                case Rejected() | Retry():
                    self._gateway.refused(action)
