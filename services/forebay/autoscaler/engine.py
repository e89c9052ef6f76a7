"""The state machine of the fleet: what happened goes in, what is to be done comes out; no clock and no I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from forebay.autoscaler.actions import Action, Alarm, Changed, Decided, Retire, SettingsChanged, Start, Stop
from forebay.autoscaler.config import Config
from forebay.autoscaler.life import STARTING, Life
from forebay.autoscaler.limits import Resize, Room, Spans, free_servers, is_busy, resize, victims
from forebay.autoscaler.log import DecisionLog
from forebay.autoscaler.plan import Counts, Plan
from forebay.autoscaler.policy.autoscaler.base import Autoscaler, ForecastWindow
from forebay.core.errors import AlreadyExists, InvalidArgument, ModelUnknown, NotFound
from forebay.core.fleet import Bounds, FleetSettings, FleetState, Member, ModelFleet, Origin, ScalingDecision
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceLoad, InstanceState, ModelLoad, WakeAt

FORGET_US = 600 * US_PER_S
"""How long a registration whose heartbeats stopped is kept as LOST before it is forgotten."""
BUSY_PATIENCE_US = 300 * US_PER_S
"""How long a server's own count of running requests may delay a stop that the scheduler allows."""
_UNLIMITED = 1_000_000


class Engine:
    """Owns the life of every instance. Each `on_...` takes the time in microseconds and returns what is to be done.

    Guarantees, each with a test: no Start takes a model above its most or the fleet above its budget, starting and
    draining instances counted; what may have requests gets no Stop before the scheduler has reported no lease for
    `drain_quiet_s` since it began to drain; a start that does not come ready is given up and tried again, later each
    time.
    """

    def __init__(self, config: Config, policy: Autoscaler, state: FleetState, now_us: int) -> None:
        self._config = config
        self._policy = policy
        self._spans = Spans.of(config)
        self._mode = state.settings.mode or config.mode
        self._ordinal = state.settings.ordinal
        self._revision = state.settings.revision
        self._bounds = dict(state.settings.bounds)
        self._plans = {model.name: self._plan(model.name, state) for model in config.models}
        self._lives: dict[str, Life] = {}
        self._loads: Mapping[str, InstanceLoad] = {}
        self._log = DecisionLog(config.decision_count_max, state.decisions)
        self._sequence = 0
        self._woken_us = 0
        for decision in state.decisions:
            if decision.model in self._plans:
                self._plans[decision.model].last_decision_id = decision.decision_id
        for member in state.members:
            self._lives[member.instance.instance_id] = Life(member, actuated=True, seen_us=now_us)

    def _plan(self, name: str, state: FleetState) -> Plan:
        model = next(model for model in self._config.models if model.name == name)
        bounds = self._bounds.get(name, Bounds(name, model.instances_min, model.instances_max))
        return Plan(model, bounds, state.settings.wanted.get(name, model.instances_initial))

    # What others may ask.

    @property
    def mode(self) -> str:
        """The name of the actuator in force."""
        return self._mode

    @property
    def policy(self) -> str:
        """The name of the policy in force."""
        return self._config.policy

    @property
    def decisions(self) -> DecisionLog:
        """The newest decisions."""
        return self._log

    @property
    def settings(self) -> FleetSettings:
        """What holds for the whole fleet, as a store keeps it."""
        wanted = {name: plan.wish for name, plan in self._plans.items()}
        return FleetSettings(dict(self._bounds), wanted, self._mode, self._ordinal, self._revision)

    @property
    def revision(self) -> int:
        """Grows by one with every change of the fleet."""
        return self._revision

    def instances(self, model: str = "") -> tuple[Instance, ...]:
        """Instances that are not stopped and have an address, by id."""
        found = (life.instance for _, life in sorted(self._lives.items()) if life.instance.grpc_address)
        return tuple(instance for instance in found if model in ("", instance.model))

    def launched(self) -> tuple[Instance, ...]:
        """Instances that the actuator has started and should know of."""
        lives = self._lives.values()
        return tuple(life.instance for life in lives if life.launched and life.actuated and not life.stopping)

    def models(self, model: str = "") -> tuple[ModelFleet, ...]:
        """The fleet in numbers, by model; a model that nobody scales has bounds of what it has."""
        names = sorted({*self._plans, *(life.instance.model for life in self._lives.values())})
        return tuple(self._fleet(name) for name in names if model in ("", name))

    def _fleet(self, name: str) -> ModelFleet:
        counts, plan = self._counts(name), self._plans.get(name)
        if plan is None:
            bounds = Bounds(name, counts.total, counts.total)
            return ModelFleet(name, bounds, counts.active, counts.ready, counts.starting, counts.leaving)
        return ModelFleet(
            name,
            plan.bounds,
            plan.target,
            counts.ready,
            counts.starting,
            counts.leaving,
            plan.last_decision_id,
        )

    def _counts(self, model: str) -> Counts:
        lives = [life for life in self._lives.values() if life.instance.model == model]
        return Counts(
            ready=sum(life.ready for life in lives),
            starting=sum(life.starting for life in lives),
            leaving=sum(life.leaving for life in lives),
            total=len(lives),
        )

    # Load and time.

    def on_snapshot(self, models: Iterable[ModelLoad], instances: Iterable[InstanceLoad], now_us: int) -> list[Action]:
        """Load was observed. Models that the snapshot does not name keep their last sample until it is too old."""
        self._loads = {load.instance_id: load for load in instances}
        for load in models:
            if load.model in self._plans:
                self._plans[load.model].observe(load, now_us)
        return []

    def on_tick(self, forecasts: Mapping[str, tuple[ForecastWindow, ...]], now_us: int) -> list[Action]:
        """Time to think: the policy chooses for each model, and the fleet follows as far as the limits let it."""
        for name, plan in self._plans.items():
            plan.choose(self._policy, self._counts(name), forecasts.get(name, ()), self._spans, now_us)
        return self._end(self._expire(now_us), now_us)

    def on_wake(self, now_us: int) -> list[Action]:
        """The time of a WakeAt has come: what is overdue is dealt with."""
        return self._end(self._expire(now_us), now_us)

    # What servers and the scheduler say.

    def on_probe(self, instance_id: str, live: bool, ready: bool, now_us: int) -> list[Action]:
        """A server was asked: `live` when it answered, `ready` when it takes requests for the model."""
        life = self._lives.get(instance_id)
        if life is None:
            return []
        failures_max = self._config.probe_failures_max
        if life.state is InstanceState.DRAINING and not life.launched:
            gone = life.unanswered(live, failures_max)
            return self._end(self._gone(life, "drained: the server does not answer", now_us) if gone else [], now_us)
        changed = life.probed(live, ready, failures_max, now_us)
        return self._end(self._changed(life) if changed else [], now_us)

    def on_lease_count(self, instance_id: str, lease_count: int | None, now_us: int) -> list[Action]:
        """The scheduler said how many requests a draining instance has; None: it did not answer or does not know it."""
        life = self._lives.get(instance_id)
        if life is None or life.state is not InstanceState.DRAINING or life.stopping:
            return []
        if lease_count != 0:
            life.empty_us = None
            return []
        life.empty_us = now_us if life.empty_us is None else life.empty_us
        patient = now_us < life.state_us + BUSY_PATIENCE_US
        busy = patient and is_busy(self._loads.get(instance_id), now_us - self._spans.snapshot_age_us_max)
        quiet = now_us - life.empty_us >= self._spans.drain_quiet_us
        return self._end(self._leave(life, now_us) if quiet and not busy else [], now_us)

    # What the actuator says.

    def on_actuated(self, instance_id: str, instance: Instance | None, now_us: int) -> list[Action]:
        """A start was carried out and gave the instance its address; None: the actuator in force does not act."""
        life = self._lives.get(instance_id)
        if life is None or life.actuated:
            return []
        if instance is None:
            del self._lives[instance_id]
            return self._end([], now_us)
        life.actuated = True
        known = life.instance
        placed = replace(instance, state=known.state, state_us=known.state_us, state_reason=known.state_reason)
        life.member = replace(life.member, instance=placed)
        actions = self._changed(life)
        if life.state is InstanceState.DRAINING:
            actions += self._leave(life, now_us)
        return self._end(actions, now_us)

    def on_actuator_failed(self, instance_id: str, text: str, now_us: int) -> list[Action]:
        """A start could not be carried out; it is tried again later."""
        life = self._lives.get(instance_id)
        if life is None or life.actuated:
            return []
        del self._lives[instance_id]
        return self._end(self._start_failed(life, f"could not be started: {text}", now_us), now_us)

    def on_retired(self, instance_id: str, accepted: bool, now_us: int) -> list[Action]:
        """The actuator agreed, or not, that an instance may be taken out: it drains, or goes on as it was."""
        life = self._lives.get(instance_id)
        if life is None or not life.retiring:
            return []
        reason, life.retiring = life.retiring, ""
        if not accepted:
            life.retry_us = now_us + self._spans.tick_us
            return self._end([], now_us)
        return self._end(self._drain(life, reason, now_us), now_us)

    def on_stopped(self, instance_id: str, done: bool, now_us: int) -> list[Action]:
        """A stop was carried out, or not: then it is tried again."""
        life = self._lives.get(instance_id)
        if life is None or not life.stopping:
            return []
        life.stopping = False
        if not done:
            life.retry_us = now_us + self._spans.backoff_us_max
            return self._end([], now_us)
        return self._end([*self._gone(life, "stopped after its drain", now_us), *self._resize(now_us)], now_us)

    def on_survey(self, gone: Mapping[str, str], now_us: int) -> list[Action]:
        """The actuator looked around: these have ended by themselves, and why; they are replaced."""
        actions: list[Action] = []
        for instance_id, reason in sorted(gone.items()):
            life = self._lives.get(instance_id)
            if life is not None and life.launched and life.actuated and not life.stopping:
                actions += self._died(life, reason, now_us)
        return self._end([*actions, *self._resize(now_us)] if actions else [], now_us)

    def on_orphan(self, instance: Instance, now_us: int) -> list[Action]:
        """At the start the actuator knows an instance that the store does not: it is taken in."""
        if instance.instance_id in self._lives:
            return []
        self._ordinal = max(self._ordinal, _ordinal_of(instance.server_id))
        fresh = replace(instance, state=InstanceState.PROVISIONING, state_us=now_us, state_reason="found running")
        # It may have been ready before, and have requests: it is treated as if it had.
        life = self._add(Member(fresh, Origin.LAUNCHED, was_ready=True), True, now_us)
        return self._end(self._changed(life), now_us)

    # What operators and instances say.

    def on_register(self, instance: Instance, ttl_us: int, now_us: int) -> list[Action]:
        """Somebody else started an instance, or renews it. Raises AlreadyExists when the id has another address."""
        return self._end(self._register(instance, Origin.REGISTERED, ttl_us, now_us), now_us)

    def on_found(self, instances: Iterable[Instance], now_us: int) -> list[Action]:
        """A running server has these models ready; those that are loaded there by us are left out."""
        actions: list[Action] = []
        for instance in instances:
            plan = self._plans.get(instance.model)
            ours = plan is not None and instance.server_id in plan.config.servers
            if not ours and instance.instance_id not in self._lives:
                actions += self._register(instance, Origin.FOUND, 0, now_us)
        return self._end(actions, now_us)

    def on_heartbeat(self, instance_id: str, now_us: int) -> list[Action]:
        """A registered instance is alive. Raises NotFound when it is unknown."""
        life = self._known(instance_id)
        life.seen_us, life.expired = now_us, False
        return self._end([], now_us)

    def on_deregister(self, instance_id: str, now_us: int) -> list[Action]:
        """An instance wants to leave: it drains and is forgotten. Raises NotFound when it is unknown."""
        life = self._known(instance_id)
        if life.leaving:
            return []
        reason = "deregistered"
        return self._end(self._retire(life, reason) if life.launched else self._drain(life, reason, now_us), now_us)

    def on_bounds(self, bounds: Bounds, now_us: int) -> list[Action]:
        """Bounds were set. Raises InvalidArgument when they contradict themselves, ModelUnknown for other models."""
        if bounds.instances_min > bounds.instances_max:
            text = f"is more than instances_max ({bounds.instances_max})"
            violation = {"bounds.instances_min": text}
            raise InvalidArgument(f"instances_min ({bounds.instances_min}) {text}", violations=violation)
        plan = self._plans.get(bounds.model)
        if plan is None:
            known = ", ".join(sorted(self._plans)) or "none"
            raise ModelUnknown(f"model {bounds.model!r} is not scaled; models under [autoscaler]: {known}")
        plan.bounds = self._bounds[bounds.model] = bounds
        return self._end([SettingsChanged(), *self._resize(now_us)], now_us)

    def on_mode(self, mode: str, now_us: int) -> list[Action]:
        """Another actuator is in force from now on."""
        self._mode = mode
        return self._end([SettingsChanged(), *self._resize(now_us)], now_us)

    def state_of(self, instance_id: str) -> InstanceState:
        """Where an instance stands. Raises NotFound when it is unknown."""
        return self._known(instance_id).state

    def instance(self, instance_id: str) -> Instance:
        """One instance. Raises NotFound when it is unknown."""
        return self._known(instance_id).instance

    # Inside.

    def _known(self, instance_id: str) -> Life:
        life = self._lives.get(instance_id)
        if life is None:
            raise NotFound(f"no instance {instance_id!r} in the fleet; register it first")
        return life

    def _add(self, member: Member, actuated: bool, now_us: int) -> Life:
        life = self._lives[member.instance.instance_id] = Life(member, actuated, seen_us=now_us)
        return life

    def _register(self, instance: Instance, origin: Origin, ttl_us: int, now_us: int) -> list[Action]:
        life = self._lives.get(instance.instance_id)
        if life is None:
            fresh = replace(
                instance,
                state=InstanceState.PROVISIONING,
                state_us=now_us,
                state_reason=f"{origin.name.lower()}; its server is asked",
            )
            return self._changed(self._add(Member(fresh, origin, ttl_us), True, now_us))
        known = life.instance
        if (known.grpc_address, known.model) != (instance.grpc_address, instance.model):
            where = f"{known.model} at {known.grpc_address}"
            raise AlreadyExists(f"instance {known.instance_id!r} is {where}; choose another id or deregister that one")
        life.seen_us, life.expired = now_us, False
        if life.launched:
            return []
        kept = replace(instance, state=known.state, state_us=known.state_us, state_reason=known.state_reason)
        renewed = replace(life.member, instance=kept, ttl_us=ttl_us, origin=origin)
        changed, life.member = renewed != life.member, renewed
        return self._changed(life) if changed else []

    def _changed(self, life: Life) -> list[Action]:
        if not life.instance.grpc_address:
            return []
        self._revision += 1
        return [Changed(life.member)]

    def _gone(self, life: Life, reason: str, now_us: int) -> list[Action]:
        life.enter(InstanceState.STOPPED, reason, now_us)
        del self._lives[life.instance.instance_id]
        return self._changed(life)

    def _retire(self, life: Life, reason: str) -> list[Action]:
        life.retiring = reason
        return [Retire(life.instance.instance_id)]

    def _drain(self, life: Life, reason: str, now_us: int) -> list[Action]:
        life.enter(InstanceState.DRAINING, reason, now_us)
        life.empty_us = None
        # Nothing was ever placed on what was never ready, so there is nothing to wait for.
        return [*self._changed(life), *([] if life.member.was_ready else self._leave(life, now_us))]

    def _leave(self, life: Life, now_us: int) -> list[Action]:
        if not life.launched:
            return self._gone(life, "drained and forgotten", now_us)
        if not life.actuated or life.stopping or now_us < life.retry_us:
            return []
        life.stopping = True
        return [Stop(life.instance.instance_id)]

    def _died(self, life: Life, reason: str, now_us: int) -> list[Action]:
        was_leaving, settled = life.leaving, self._is_settled(life, now_us)
        actions = self._gone(life, reason, now_us)
        plan = self._plans.get(life.instance.model)
        if was_leaving or plan is None:
            return actions
        if settled:
            plan.noted = ()
            return [*actions, Alarm(f"instance {life.instance.instance_id} ended: {reason}")]
        return [*actions, *self._start_failed(life, f"ended: {reason}", now_us)]

    def _is_settled(self, life: Life, now_us: int) -> bool:
        ready = life.state in (InstanceState.READY, InstanceState.LOST) and life.member.was_ready
        return ready and now_us - life.state_us >= self._spans.settled_us

    def _start_failed(self, life: Life, text: str, now_us: int) -> list[Action]:
        """Notes a start that came to nothing; the record says when the next one is."""
        plan = self._plans.get(life.instance.model)
        alarm = Alarm(f"instance {life.instance.instance_id} {text}")
        if plan is None:
            return [alarm]
        plan.failed(self._spans, now_us)
        wait_s = (plan.retry_us - now_us) / US_PER_S
        active = self._counts(plan.config.name).active
        reason = f"{life.instance.instance_id} {text}; failure {plan.failure_count}, the next start waits {wait_s:g} s"
        return [alarm, self._decided(plan, active, active, reason, now_us)]

    # Deadlines.

    def _expire(self, now_us: int) -> list[Action]:
        actions: list[Action] = []
        for life in list(self._lives.values()):
            deadline = self._deadline(life)
            if deadline is not None and now_us >= deadline:
                actions += self._overdue(life, now_us)
        for name, plan in self._plans.items():
            lives = (life for life in self._lives.values() if life.instance.model == name and life.ready)
            if plan.failure_count and any(self._is_settled(life, now_us) for life in lives):
                plan.failure_count = 0
        return [*actions, *self._resize(now_us)]

    def _deadline(self, life: Life) -> int | None:
        """When something must happen to it without any event; None: never."""
        if life.retiring or life.stopping:
            return None
        if not life.launched:
            return self._expiry(life)
        if life.state in STARTING:
            since_us = life.state_us if life.member.was_ready else life.seen_us
            return max(since_us + self._spans.start_timeout_us, life.retry_us)
        if life.state is InstanceState.LOST:
            return max(life.state_us + self._spans.lost_timeout_us, life.retry_us)
        if life.state is InstanceState.DRAINING and life.actuated and not life.member.was_ready:
            return max(life.state_us, life.retry_us)
        return None

    def _expiry(self, life: Life) -> int | None:
        if not life.member.ttl_us:
            return None
        return life.seen_us + life.member.ttl_us + (FORGET_US if life.expired else 0)

    def _overdue(self, life: Life, now_us: int) -> list[Action]:
        if not life.launched:
            return self._silent(life, now_us)
        if life.state is InstanceState.DRAINING:
            return self._leave(life, now_us)
        if life.state is InstanceState.LOST:
            return self._retire(life, f"did not answer for {self._config.lost_timeout_s:g} s")
        text = f"given up: not ready within {self._config.start_timeout_s:g} s"
        first = life.retry_us == 0
        return [*self._retire(life, text), *(self._start_failed(life, text, now_us) if first else [])]

    def _silent(self, life: Life, now_us: int) -> list[Action]:
        if life.expired or life.state is InstanceState.DRAINING:
            return self._gone(life, "no heartbeat for too long", now_us)
        life.expired = True
        life.enter(InstanceState.LOST, f"no heartbeat for {life.member.ttl_us / US_PER_S:g} s", now_us)
        return self._changed(life)

    def _end(self, actions: list[Action], now_us: int) -> list[Action]:
        """Every event ends here: the shell is told when to come back without one."""
        deadlines = [at for life in self._lives.values() if (at := self._deadline(life)) is not None]
        deadlines += [plan.retry_us for plan in self._plans.values() if plan.retry_us > now_us]
        earliest = min(deadlines, default=0)
        if earliest and earliest != self._woken_us:
            actions = [*actions, WakeAt(earliest)]
        self._woken_us = earliest
        return actions

    # The fleet follows the plan.

    def _resize(self, now_us: int) -> list[Action]:
        actions: list[Action] = []

        def urgency(plan: Plan) -> tuple[bool, str]:
            name = plan.config.name
            return (self._counts(name).active >= plan.bounds.instances_min, name)

        for plan in sorted(self._plans.values(), key=urgency):
            actions += self._follow(plan, now_us)
        return [*actions, *self._retire_strangers(now_us)]

    def _follow(self, plan: Plan, now_us: int) -> list[Action]:
        room = self._room(plan, now_us)
        step = resize(plan.wish, room)
        lives = [life for life in self._lives.values() if life.instance.model == plan.config.name]
        leaving = victims(lives, self._loads, step.drain_count, now_us)
        after = room.active + step.start_count - len(leaving)
        noted = self._note(plan, room, step, after, now_us)
        actions: list[Action] = [self._start(plan, now_us) for _ in range(step.start_count)]
        for life in leaving:
            actions += self._retire(life, f"the fleet shrinks to {after}")
        return [*noted, *actions]

    def _room(self, plan: Plan, now_us: int) -> Room:
        model = plan.config
        counts = self._counts(model.name)
        launched = sum(life.launched for life in self._lives.values())
        free = len(free_servers(model, self._config.servers, self._lives.values())) if model.servers else _UNLIMITED
        return Room(
            active=counts.active,
            total=counts.total,
            bounds=plan.bounds,
            budget_left=self._config.instances_max - launched,
            slots_left=free,
            step_max=self._config.step_instances_max,
            waiting=now_us < plan.retry_us,
        )

    def _note(self, plan: Plan, room: Room, step: Resize, after: int, now_us: int) -> list[Action]:
        """A record, unless nothing is wanted or the same was noted last."""
        changes = after != room.active
        if not changes and not step.bound_by:
            plan.noted = ()
            return []
        key = (room.active, after, step.bound_by, self._mode, plan.wish if changes else 0)
        if key == plan.noted:
            return []
        plan.noted = key
        reason = f"{plan.reason}: {plan.wish} wanted"
        reason += f", but {step.bound_by}" if step.bound_by else ""
        return [self._decided(plan, room.active, after, reason, now_us)]

    def _decided(self, plan: Plan, before: int, after: int, reason: str, now_us: int) -> Decided:
        self._sequence += 1
        decision = ScalingDecision(
            decision_id=f"scale-{now_us}-{self._sequence}",
            model=plan.config.name,
            decided_us=now_us,
            instances_before=before,
            instances_wanted=plan.wish,
            instances_after=after,
            policy=self._config.policy,
            mode=self._mode,
            reason=reason,
            inputs=dict(plan.inputs),
        )
        self._log.add(decision)
        plan.last_decision_id = decision.decision_id
        return Decided(decision)

    def _start(self, plan: Plan, now_us: int) -> Start:
        model = plan.config
        if model.servers:
            server = free_servers(model, self._config.servers, self._lives.values())[0]
            server_id, grpc_address, metrics_url = server.server_id, server.grpc_address, server.metrics_url
        else:
            self._ordinal += 1
            server_id, grpc_address, metrics_url = f"local-{self._ordinal}", "", ""
        instance = Instance(
            instance_id=f"{server_id}/{model.name}",
            model=model.name,
            grpc_address=grpc_address,
            server_id=server_id,
            metrics_url=metrics_url,
            state=InstanceState.PROVISIONING,
            region=model.region,
            profile=model.profile,
            concurrency_max=model.concurrency_max,
            kv_tokens_max=model.kv_tokens_max,
            context_tokens_max=model.context_tokens_max,
            state_us=now_us,
            state_reason="being started",
        )
        self._add(Member(instance, Origin.LAUNCHED), False, now_us)
        return Start(instance)

    def _retire_strangers(self, now_us: int) -> list[Action]:
        """What the configuration does not name is taken out: launched models, servers to find instances on."""
        actions: list[Action] = []
        servers = {server.server_id for server in self._config.servers}
        for life in list(self._lives.values()):
            if life.leaving or now_us < life.retry_us:
                continue
            if life.launched and life.instance.model not in self._plans:
                actions += self._retire(life, "its model is not configured")
            elif life.member.origin is Origin.FOUND and life.instance.server_id not in servers:
                actions += self._drain(life, "its server is not configured", now_us)
        return actions


def _ordinal_of(server_id: str) -> int:
    number = server_id.rpartition("-")[2]
    return int(number) if number.isdigit() else 0
