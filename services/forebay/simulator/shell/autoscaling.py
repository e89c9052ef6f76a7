"""The autoscaler in virtual time: turns what happens into events and carries out what its engine asks for."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from forebay.autoscaler.actions import Action, Alarm, Changed, Decided, Retire, SettingsChanged, Start, Stop
from forebay.autoscaler.config import LEASES_S, SURVEY_S, Config
from forebay.autoscaler.demands import Key
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.core.errors import NotFound
from forebay.core.metrics import Snapshot
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceState, WakeAt
from forebay.simulator.config import Group
from forebay.simulator.shell.autoscaling_probes import Prober
from forebay.simulator.shell.context import Alarm as Clock
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.fleet_rhythm import on_grid_us
from forebay.simulator.shell.fleet_servers import Server, Servers
from forebay.simulator.shell.machines import change_of
from forebay.simulator.shell.ports import Scheduling

SURVEY_US, LEASES_US = round(SURVEY_S * US_PER_S), round(LEASES_S * US_PER_S)
ACTIVE = "active"

Forecasting = Callable[[Sequence[Key]], Forecasts]
Publish = Callable[[Sequence[Instance]], None]


class AutoscalerShell:
    """The one caller of the autoscaler's engine. `groups` are those that it scales, by pool."""

    def __init__(
        self,
        context: Context,
        engine: Engine,
        config: Config,
        groups: Mapping[str, Group],
        servers: Servers,
        forecasts: Forecasting,
    ) -> None:
        self.engine = context.recorded("autoscaler", engine)
        self._context = context
        self._groups = groups
        self._servers = servers
        self._forecasts = forecasts
        self._prober = Prober(context, config, self)
        self._clock = Clock(context, self._wake)
        self._stop_us = round(context.world.start.stop_s * US_PER_S)
        self._todo: deque[Action] = deque()
        self._is_applying = self._has_changed = False
        self._gone: dict[str, str] = {}
        self._is_asking = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            Start: self._start,
            Retire: self._retire,
            Stop: self._stop,
            Changed: self._changed,
            Decided: lambda _: self._context.counters.update(("scaling_decisions",)),
            SettingsChanged: lambda _: None,
            Alarm: lambda _: self._context.counters.update(("scaling_alarms",)),
            WakeAt: lambda action: self._clock.set(action.at_us),
        }

    def begin(self, scheduler: Scheduling, publish: Publish) -> None:
        """The run starts: the first fleet is written down, published and watched."""
        self._scheduler = scheduler
        self._publish = publish
        for instance in self.engine.instances():
            server = self._server(instance.instance_id)
            self._note(server, instance.state)
            self._prober.follow(server)
        publish(self.engine.instances())

    # What time and metrics bring

    def tick(self) -> None:
        """Time to think."""
        self._apply(self.engine.on_tick(self._forecasts(self.engine.demands()), self._context.now_us))

    def observe(self, snapshot: Snapshot) -> None:
        """Load was observed."""
        self._apply(self.engine.on_snapshot(snapshot.models, snapshot.instances, self._context.now_us))

    def feel(self) -> None:
        """The scheduler is asked what load is on its way."""
        self._apply(self.engine.on_pressure(self._scheduler.pressure(), self._context.now_us))

    # What servers say

    def state_of(self, instance_id: str) -> InstanceState | None:
        """Where an instance stands; None once it is gone."""
        try:
            return self.engine.instance(instance_id).state
        except NotFound:
            return None

    def probed(self, instance_id: str, live: bool, ready: bool) -> None:
        """A server was asked how it is."""
        self._apply(self.engine.on_probe(instance_id, live, ready, self._context.now_us))

    def server_changed(self, server: Server) -> None:
        """A server answers otherwise than before, or has ended by itself."""
        self._prober.changed(server)
        if server.gone and server.noted is not None:
            self._note(server, InstanceState.LOST)
        if not server.gone or not server.launched:
            return
        if not self._gone:
            self._context.at_us(on_grid_us(0, SURVEY_US, self._context.now_us), self._survey)
        self._gone[server.instance_id] = server.gone

    def leave(self, instance_id: str) -> None:
        """An instance is told that it will be taken away: it wants to drain."""
        if self.state_of(instance_id) is not None:
            self._apply(self.engine.on_deregister(instance_id, self._context.now_us))

    def _survey(self) -> None:
        gone, self._gone = self._gone, {}
        self._apply(self.engine.on_survey(gone, self._context.now_us))

    def _ask_leases(self) -> None:
        """Asks for what the draining have left, as long as any drains."""
        self._is_asking = False
        draining = [one for one in self.engine.instances() if one.state is InstanceState.DRAINING]
        counts = [self._scheduler.drain(instance.instance_id) for instance in draining]
        actions: list[Action] = []
        for instance, count in zip(draining, counts, strict=True):
            actions += self.engine.on_lease_count(instance.instance_id, count, self._context.now_us)
        self._apply(actions)
        if draining:
            self._ask_at(self._context.now_us + LEASES_US)

    def _ask_at(self, at_us: int) -> None:
        if not self._is_asking:
            self._is_asking = True
            self._context.at_us(at_us, self._ask_leases)

    # Actions

    def _wake(self) -> None:
        self._apply(self.engine.on_wake(self._context.now_us))

    def _apply(self, actions: Sequence[Action]) -> None:
        """Carries out actions in order; what follows from them comes after them, as with the live loop's tasks."""
        self._todo.extend(actions)
        if self._is_applying:
            return
        self._is_applying = True
        while self._todo or self._has_changed:
            if self._todo:
                action = self._todo.popleft()
                self._handlers[type(action)](action)
            else:
                self._has_changed = False
                self._publish(self.engine.instances())
        self._is_applying = False

    def _start(self, action: Start) -> None:
        instance, now_us = action.instance, self._context.now_us
        if self.engine.mode != ACTIVE:
            self._apply(self.engine.on_actuated(instance.instance_id, None, now_us))
            return
        server = self._servers.start(instance.instance_id, self._groups[instance.pool or instance.model])
        if server is None:
            text = "there is no machine for it"
            self._context.counters["starts_refused"] += 1
            self._apply(self.engine.on_actuator_failed(instance.instance_id, text, now_us))
            return
        self._note(server, InstanceState.PROVISIONING)
        if server.gone:
            # Its first phases took no time, and one of them failed.
            self._note(server, InstanceState.LOST)
        placed = replace(instance, grpc_address=instance.instance_id)
        self._apply(self.engine.on_actuated(instance.instance_id, placed, now_us))
        self._prober.follow(server)

    def _retire(self, action: Retire) -> None:
        accepted = self.engine.mode == ACTIVE
        self._apply(self.engine.on_retired(action.instance_id, accepted, self._context.now_us))

    def _stop(self, action: Stop) -> None:
        end = partial(self._end, action.instance_id, self.engine.mode == ACTIVE)
        if self._stop_us:
            self._context.after_us(self._stop_us, end)
        else:
            end()

    def _end(self, instance_id: str, acts: bool) -> None:
        if acts:
            self._servers.stop(instance_id)
        self._apply(self.engine.on_stopped(instance_id, acts, self._context.now_us))

    def _changed(self, action: Changed) -> None:
        instance = action.member.instance
        self._has_changed = True
        self._note(self._server(instance.instance_id), instance.state)
        if instance.state is InstanceState.STOPPED:
            # Nobody needs a server that has drained and is forgotten.
            self._servers.stop(instance.instance_id)
        if instance.state is InstanceState.DRAINING:
            self._ask_at(on_grid_us(0, LEASES_US, self._context.now_us))

    def _note(self, server: Server, state: InstanceState) -> None:
        """Writes down what the instance really is; what hangs is believed to be lost, but it is there and paid for."""
        is_belief = state is InstanceState.LOST and not server.gone
        if is_belief or server.noted in (state, InstanceState.LOST):
            return
        server.noted = state
        change = change_of(server.instance_id, server.group, server.profile, state, self._context.now_us)
        self._context.changes.append(change)

    def _server(self, instance_id: str) -> Server:
        server = self._servers.get(instance_id)
        assert server is not None, "every instance of the simulated fleet has a server"
        return server
