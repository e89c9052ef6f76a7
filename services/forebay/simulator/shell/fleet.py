"""The fleet of a run with everybody who looks after it: autoscaler, actuator, metrics, and what goes wrong."""

from collections.abc import Callable, Sequence
from functools import partial

from forebay.autoscaler.engine import Engine
from forebay.autoscaler.policy.autoscaler.base import Autoscaler
from forebay.autoscaler.pressures import is_asked
from forebay.core.metrics import QueueSample, Snapshot
from forebay.core.units import US_PER_S
from forebay.core.values import Instance
from forebay.gateway.values import RequestRecord
from forebay.metrics.config import Config as MetricsConfig
from forebay.metrics.engine import MetricsEngine
from forebay.simulator.shell.autoscaling import AutoscalerShell
from forebay.simulator.shell.autoscaling_forecasts import RunForecasts
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.fleet_plan import FleetPlan
from forebay.simulator.shell.fleet_rhythm import Rhythm
from forebay.simulator.shell.fleet_servers import Servers
from forebay.simulator.shell.observing import MetricsShell, record_of
from forebay.simulator.shell.ports import Scheduling, Serving
from forebay.simulator.shell.troubles import Faults, Knobs, Spots


class LiveFleet:
    """A fleet that the live autoscaler's engine moves and the live metrics engine watches.

    Of what is due at one instant, instances are read first, then the scheduler sees the snapshot, then the autoscaler,
    which asks the scheduler what is on its way where its policy wants to know, and thinks last. Snapshots reach both
    `[observation] delay_s` after they were made.
    """

    def __init__(
        self, context: Context, plan: FleetPlan, policy: Autoscaler, forecasts: RunForecasts, watch_interval_s: float
    ) -> None:
        self._context = context
        self._plan = plan
        self._forecasts = forecasts
        self._watch_interval_s = watch_interval_s
        self._is_pressed = is_asked(policy.needs, plan.config)
        self._delay_us = round(context.world.observation.delay_s * US_PER_S)
        self.servers = Servers(context)
        metrics = MetricsConfig()
        self.metrics = MetricsShell(
            context, MetricsEngine(metrics.unreachable_after_count, metrics.queue_stale_after_us), self.servers
        )
        engine = Engine(plan.config, policy, plan.state, context.now_us)
        self.autoscaler = AutoscalerShell(
            context,
            engine,
            plan.config,
            plan.scaled,
            self.servers,
            lambda demands: forecasts.at(context.now_us, demands),
        )
        self._faults = Faults(context, self.servers)
        self._knobs = Knobs(context, self.servers)
        self._spots = Spots(context, self.servers, self.autoscaler.leave)

    def begin(self, scheduler: Scheduling, gateway: Serving) -> None:
        """The run starts: the first instances are there and published."""
        self._scheduler = scheduler
        self.servers.begin(gateway, self.autoscaler.server_changed, self._spots.follow)
        for instance_id, group in self._plan.groups.items():
            self.servers.adopt(instance_id, group, launched=self._plan.scaled.get(group.pool_name) is group)
        self.autoscaler.begin(scheduler, self._publish)
        self._faults.begin()
        self._knobs.begin()
        rhythm = self._rhythm()
        # Whatever else begins at this instant, such as the samples of the queues, comes before.
        self._context.after_us(0, rhythm.begin)

    def reported(self, record: RequestRecord) -> None:
        """A gateway says how a request ended."""
        kept = record_of(record)
        self.metrics.reported(kept)
        self._forecasts.reported(kept)

    def sampled(self, sample: QueueSample) -> None:
        """The scheduler says what it holds of one model."""
        self.metrics.sampled(sample)

    def _rhythm(self) -> Rhythm:
        rhythm, observation = Rhythm(self._context), self._context.world.observation
        rhythm.every_s(observation.scrape_s, self.metrics.scrape)
        rhythm.every_s(self._watch_interval_s, partial(self._show, self._show_scheduler))
        rhythm.every_s(observation.snapshot_s, partial(self._show, self.autoscaler.observe))
        if self._is_pressed:
            rhythm.every_s(observation.snapshot_s, self.autoscaler.feel)
        # As when the live service starts, there is no load to go by at first.
        rhythm.every_s(self._plan.config.tick_s, self.autoscaler.tick, at_once=False)
        return rhythm

    def _publish(self, instances: Sequence[Instance]) -> None:
        self.metrics.follow(instances)
        self._scheduler.models(self.autoscaler.engine.leads())
        self._scheduler.fleet(instances)

    def _show(self, reader: Callable[[Snapshot], None]) -> None:
        """A reader sees the snapshot of now, now or later."""
        snapshot = self.metrics.snapshot()
        if self._delay_us:
            self._context.after_us(self._delay_us, partial(reader, snapshot))
        else:
            reader(snapshot)

    def _show_scheduler(self, snapshot: Snapshot) -> None:
        self._scheduler.loads(snapshot.instances)
