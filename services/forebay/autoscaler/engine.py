"""The state machine of the fleet: what happened goes in, what is to be done comes out; no clock and no I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from forebay.autoscaler.actions import Action, Alarm, SettingsChanged
from forebay.autoscaler.config import Config
from forebay.autoscaler.demands import Key
from forebay.autoscaler.fleet import Fleet
from forebay.autoscaler.forecasts import WINDOW_US, Forecasts
from forebay.autoscaler.life import STARTING, Figures, Life
from forebay.autoscaler.limits import Spans, is_busy
from forebay.autoscaler.log import DecisionLog
from forebay.autoscaler.policy.autoscaler.base import Autoscaler, Needs
from forebay.autoscaler.rehearsal import Rehearsal
from forebay.autoscaler.sizing import Sizing, homes_of
from forebay.core.errors import AlreadyExists
from forebay.core.fleet import Bounds, FleetSettings, FleetState, ForecastBand, Member, ModelFleet, Origin
from forebay.core.pressure import Pressure
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceLoad, InstanceState, ModelLoad, WakeAt

FORGET_US = 600 * US_PER_S
"""How long a registration whose heartbeats stopped is kept as LOST before it is forgotten."""
BUSY_PATIENCE_US = 300 * US_PER_S
"""How long a server's own count of running requests may delay a stop that the scheduler allows."""


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
        self._fleet = Fleet(state.settings.revision, homes_of(config))
        self._sizing = Sizing(config, policy, self._fleet, state)
        self._woken_us = 0
        for member in state.members:
            self._fleet.restore(member, now_us)

    # What others may ask.

    @property
    def policy(self) -> str:
        """The name of the policy in force."""
        return self._config.policy

    @property
    def needs(self) -> Needs:
        """What the policy in force wants to see."""
        return self._policy.needs

    @property
    def mode(self) -> str:
        """The name of the actuator in force."""
        return self._sizing.mode

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the policy tells the operator."""
        return self._sizing.warnings

    @property
    def decisions(self) -> DecisionLog:
        """The newest decisions."""
        return self._sizing.log

    @property
    def revision(self) -> int:
        """Grows by one with every change of the fleet."""
        return self._fleet.revision

    @property
    def settings(self) -> FleetSettings:
        """What holds for the whole fleet, as a store keeps it."""
        sizing = self._sizing
        wanted = {name: plan.wish for name, plan in sizing.plans.items()}
        starts = {name: plan.starts for name, plan in sizing.plans.items() if plan.starts}
        return FleetSettings(dict(sizing.bounds), wanted, sizing.mode, sizing.ordinal, self.revision, starts)

    def instances(self, model: str = "") -> tuple[Instance, ...]:
        """Instances that are not stopped and can be reached, by id."""
        return self._fleet.published(model)

    def instance(self, instance_id: str) -> Instance:
        """One instance. Raises NotFound when it is unknown."""
        return self._fleet.known(instance_id).instance

    @property
    def ids(self) -> frozenset[str]:
        """All that is not known to be gone, also what nobody could reach yet."""
        return frozenset(life.instance.instance_id for life in self._fleet)

    def launched(self) -> tuple[Instance, ...]:
        """Instances that the actuator has started and should know of."""
        return self._fleet.launched()

    def models(self, model: str = "") -> tuple[ModelFleet, ...]:
        """The fleet in numbers, by model."""
        return self._sizing.models(model)

    def forecasts(self, model: str = "") -> tuple[ForecastBand, ...]:
        """What the policy was last told to expect, by model and time."""
        window_us = self._policy.needs.forecast_window_us or WINDOW_US
        return tuple(
            ForecastBand(name, one.start_us, window_us, one.requests, one.prompt_tokens, one.response_tokens)
            for name, windows in sorted(self._sizing.forecasts.models.items())
            for one in windows
            if model in ("", name)
        )

    def rehearsal(self, policy: Autoscaler | None = None) -> Rehearsal:
        """One decision of a policy (None: the one in force) on all that is known now; this engine does not change."""
        return Rehearsal(self._sizing.twin(policy))

    def hears(self, now_us: int) -> bool:
        """Whether the scheduler said lately what is on its way."""
        return self._sizing.hears(now_us)

    def leads(self) -> Mapping[str, int]:
        """How long a start takes, in microseconds, by model, of all models that may have instances."""
        return self._sizing.leads()

    def told(self, pool: str) -> int | None:
        """How many instances those who start and end them are told to have; None: nothing was decided yet."""
        return self._sizing.plans[pool].told

    def demands(self) -> tuple[Key, ...]:
        """Every model, region and class of which the scheduler said that requests came, in order."""
        return self._sizing.demands()

    # Load and time.

    def on_snapshot(self, models: Iterable[ModelLoad], instances: Iterable[InstanceLoad], now_us: int) -> list[Action]:
        """Load was observed. Models that the snapshot does not name keep their last sample until it is too old."""
        self._sizing.observe(models, instances, now_us)
        return []

    def on_pressure(self, pressure: Pressure, now_us: int) -> list[Action]:
        """The scheduler said what is on its way."""
        self._sizing.feel(pressure, now_us)
        return []

    def on_tick(self, forecasts: Forecasts, now_us: int) -> list[Action]:
        """Time to think: the policy chooses for each model, and the fleet follows as far as the limits let it."""
        return [*self._sizing.choose(forecasts, now_us), *self.on_wake(now_us)]

    def on_wake(self, now_us: int) -> list[Action]:
        """The time of a WakeAt has come: what is overdue is dealt with."""
        actions = self._expire(now_us)
        return self._end([*actions, *self._sizing.resize(now_us)], now_us)

    # What servers and the scheduler say.

    def on_probe(self, instance_id: str, live: bool, ready: bool, now_us: int) -> list[Action]:
        """A server was asked: `live` when it answered, `ready` when it takes requests for the model."""
        life = self._fleet.get(instance_id)
        if life is None:
            return []
        failures_max = self._config.probe_failures_max
        if life.state is InstanceState.DRAINING and not life.launched:
            silent = life.unanswered(live, failures_max)
            return self._end(self._fleet.gone(life, "its server does not answer", now_us) if silent else [], now_us)
        was_ready = life.member.was_ready
        if not life.probed(live, ready, failures_max, now_us):
            return []
        if life.member.was_ready and not was_ready:
            self._sizing.came_up(life, now_us)
        return self._end(self._fleet.changed(life), now_us)

    def on_described(self, instance_id: str, figures: Figures, now_us: int) -> list[Action]:
        """A server told what its engine can hold; what was configured or registered stays."""
        life = self._fleet.get(instance_id)
        return self._fleet.changed(life) if life is not None and life.learn(figures) else []

    def on_lease_count(self, instance_id: str, lease_count: int | None, now_us: int) -> list[Action]:
        """The scheduler said how many requests a draining instance has; None: it did not answer or does not know it."""
        life = self._fleet.get(instance_id)
        if life is None or life.state is not InstanceState.DRAINING:
            return []
        if lease_count != 0:
            # Also while a stop is under way: it may fail, and the row then begins anew.
            life.empty_us = None
            return []
        life.empty_us = now_us if life.empty_us is None else life.empty_us
        patient = now_us < life.state_us + BUSY_PATIENCE_US
        busy = patient and is_busy(self._sizing.loads.get(instance_id), now_us - self._spans.snapshot_age_us_max)
        quiet = now_us - life.empty_us >= self._spans.drain_quiet_us
        return self._end(self._fleet.leave(life, now_us), now_us) if quiet and not busy else []

    # What the actuator says.

    def on_actuated(self, instance_id: str, instance: Instance | None, now_us: int) -> list[Action]:
        """A start was carried out and gave the instance its address; None: the actuator in force does not act."""
        life = self._fleet.get(instance_id)
        if life is None or life.actuated:
            return []
        if life.doubtful:
            # Too late: it is being stopped already, and only that says that it is gone.
            return []
        if instance is None:
            self._fleet.remove(life)
            return self._end([], now_us)
        life.actuated = True
        self._sizing.acted(life)
        life.describe(instance)
        actions = self._fleet.changed(life)
        if life.state is InstanceState.DRAINING and not life.member.was_ready:
            actions += self._fleet.leave(life, now_us)
        return self._end(actions, now_us)

    def on_actuator_failed(self, instance_id: str, text: str, now_us: int) -> list[Action]:
        """A start could not be carried out, and left nothing behind; it is tried again later."""
        life = self._fleet.get(instance_id)
        if life is None or life.actuated or life.doubtful:
            return []
        was_active, reason = life.starting, f"could not be started: {text}"
        actions = self._fleet.gone(life, reason, now_us)
        return self._end([*actions, *self._sizing.start_failed(life, was_active, reason, now_us)], now_us)

    def on_actuator_silent(self, instance_id: str, now_us: int) -> list[Action]:
        """A start had no answer in time: it may be there or not, so it is stopped and counts until it is gone."""
        life = self._fleet.get(instance_id)
        if life is None or life.actuated or life.doubtful:
            return []
        return self._end(self._unanswered(life, now_us), now_us)

    def on_retired(self, instance_id: str, accepted: bool, now_us: int) -> list[Action]:
        """The actuator agreed, or not, that an instance may be taken out: it drains, or goes on as it was."""
        life = self._fleet.get(instance_id)
        if life is None or not life.retiring:
            return []
        reason, life.retiring = life.retiring, ""
        if accepted:
            self._sizing.acted(life)
            return self._end(self._fleet.drain(life, reason, now_us), now_us)
        life.retry_us = now_us + self._spans.tick_us
        return self._end([], now_us)

    def on_stopped(self, instance_id: str, done: bool, now_us: int) -> list[Action]:
        """A stop was carried out, or not: then it is tried again."""
        life = self._fleet.get(instance_id)
        if life is None or not life.stopping:
            return []
        life.stopping = False
        if done:
            actions = self._fleet.gone(life, "stopped after its drain", now_us)
            return self._end([*actions, *self._sizing.resize(now_us)], now_us)
        life.retry_us = now_us + self._spans.backoff_us_max
        return self._end([], now_us)

    def on_survey(self, gone: Mapping[str, str], now_us: int) -> list[Action]:
        """The actuator looked around: these have ended by themselves, and why; they are replaced."""
        actions: list[Action] = []
        for instance_id, reason in sorted(gone.items()):
            life = self._fleet.get(instance_id)
            if life is not None and life.launched and life.actuated and not life.stopping:
                actions += self._died(life, reason, now_us)
        return self._end([*actions, *self._sizing.resize(now_us)] if actions else [], now_us)

    def on_orphan(self, instance: Instance, now_us: int) -> list[Action]:
        """At the start the actuator knows an instance that the store does not: it is taken in."""
        if self._fleet.get(instance.instance_id) is not None:
            return []
        number = instance.server_id.rpartition("-")[2]
        self._sizing.ordinal = max(self._sizing.ordinal, int(number) if number.isdigit() else 0)
        fresh = replace(instance, state=InstanceState.PROVISIONING, state_us=now_us, state_reason="found running")
        # It may have been ready before, and have requests: it is treated as if it had.
        life = self._fleet.add(Member(fresh, Origin.LAUNCHED, was_ready=True), True, now_us)
        return self._end(self._fleet.changed(life), now_us)

    # What operators and instances say.

    def on_register(self, instance: Instance, ttl_us: int, now_us: int) -> list[Action]:
        """Somebody else started an instance, or renews it. Raises AlreadyExists when the id has another address."""
        return self._end(self._register(instance, Origin.REGISTERED, ttl_us, now_us), now_us)

    def on_found(self, instances: Iterable[Instance], now_us: int) -> list[Action]:
        """A running server has these models ready; those that are loaded there by us are left out."""
        actions: list[Action] = []
        for instance in instances:
            ours = instance.server_id in self._sizing.servers_of(instance.model)
            if not ours and self._fleet.get(instance.instance_id) is None:
                actions += self._register(instance, Origin.FOUND, 0, now_us)
        return self._end(actions, now_us)

    def on_heartbeat(self, instance_id: str, now_us: int) -> list[Action]:
        """A registered instance is alive. Raises NotFound when it is unknown."""
        self._fleet.known(instance_id).renew(now_us)
        return self._end([], now_us)

    def on_deregister(self, instance_id: str, now_us: int) -> list[Action]:
        """An instance wants to leave: it drains and is forgotten. Raises NotFound when it is unknown."""
        life = self._fleet.known(instance_id)
        if life.leaving:
            return []
        if life.launched:
            return self._end(self._fleet.retire(life, "deregistered", now_us), now_us)
        return self._end(self._fleet.drain(life, "deregistered", now_us), now_us)

    def on_bounds(self, bounds: Bounds, now_us: int) -> list[Action]:
        """Bounds were set. Raises InvalidArgument when they contradict themselves, ModelUnknown for other models."""
        self._sizing.set_bounds(bounds)
        return self._end([SettingsChanged(), *self._sizing.resize(now_us)], now_us)

    def on_mode(self, mode: str, now_us: int) -> list[Action]:
        """Another actuator is in force from now on."""
        self._sizing.mode = mode
        return self._end([SettingsChanged(), *self._sizing.resize(now_us)], now_us)

    # Inside.

    def _register(self, instance: Instance, origin: Origin, ttl_us: int, now_us: int) -> list[Action]:
        life = self._fleet.get(instance.instance_id)
        if life is None:
            reason = f"{origin.name.lower()}; its server is asked"
            fresh = replace(instance, state=InstanceState.PROVISIONING, state_us=now_us, state_reason=reason)
            return self._fleet.changed(self._fleet.add(Member(fresh, origin, ttl_us), True, now_us))
        known = life.instance
        if (known.grpc_address, known.model) != (instance.grpc_address, instance.model):
            where = f"{known.model} at {known.grpc_address}"
            raise AlreadyExists(f"instance {known.instance_id!r} is {where}; choose another id or deregister that one")
        life.renew(now_us)
        if life.launched:
            return []
        before = life.member
        life.member = replace(life.member, ttl_us=ttl_us, origin=origin)
        life.describe(instance)
        return self._fleet.changed(life) if life.member != before else []

    def _died(self, life: Life, reason: str, now_us: int) -> list[Action]:
        was_leaving, was_active = life.leaving, life.starting or life.ready
        settled = life.is_settled(self._spans.settled_us, now_us)
        actions = self._fleet.gone(life, reason, now_us)
        if was_leaving:
            return actions
        if settled:
            return [*actions, Alarm(f"instance {life.instance.instance_id} ended: {reason}")]
        return [*actions, *self._sizing.start_failed(life, was_active, f"ended: {reason}", now_us)]

    def _expire(self, now_us: int) -> list[Action]:
        actions: list[Action] = []
        for life in self._fleet:
            deadline = self._deadline(life)
            if deadline is not None and now_us >= deadline:
                actions += self._overdue(life, now_us)
        for name, plan in self._sizing.plans.items():
            if plan.failure_count and any(
                life.ready and life.is_settled(self._spans.settled_us, now_us) for life in self._fleet.of(name)
            ):
                plan.failure_count = 0
        return actions

    def _deadline(self, life: Life) -> int | None:
        """When something must happen to it without any event; None: never."""
        if life.is_asking:
            limit_us = self._spans.actuator_timeout_us
            return life.asked_us + (limit_us if life.leaving else min(limit_us, self._spans.start_timeout_us))
        if not life.launched:
            return self._outside_deadline(life)
        if life.state in STARTING:
            since_us = life.state_us if life.member.was_ready else life.seen_us
            return max(since_us + self._spans.start_timeout_us, life.retry_us)
        if life.state is InstanceState.LOST:
            return max(life.state_us + self._spans.lost_timeout_us, life.retry_us)
        if life.state is InstanceState.DRAINING and not life.member.was_ready:
            return max(life.state_us, life.retry_us)
        if life.state is InstanceState.DRAINING:
            return life.state_us + self._spans.drain_alarm_us * (life.alarm_count + 1)
        return None

    def _outside_deadline(self, life: Life) -> int | None:
        if life.member.origin is Origin.FOUND and life.state is InstanceState.LOADING:
            return life.state_us + self._spans.lost_timeout_us
        return life.expiry_us(FORGET_US)

    def _overdue(self, life: Life, now_us: int) -> list[Action]:
        if life.is_asking:
            return self._unanswered(life, now_us)
        if not life.launched:
            return self._silent(life, now_us)
        if life.state is InstanceState.DRAINING:
            return self._still_draining(life, now_us)
        if life.state is InstanceState.LOST:
            return self._fleet.retire(life, f"did not answer for {self._config.lost_timeout_s:g} s", now_us)
        text = f"given up: not ready within {self._config.start_timeout_s:g} s"
        actions = self._fleet.retire(life, text, now_us)
        # Where the actuator refuses to take it out, it is asked again, but the failure counts once.
        return actions if life.retry_us else [*actions, *self._sizing.start_failed(life, True, text, now_us)]

    def _unanswered(self, life: Life, now_us: int) -> list[Action]:
        """The actuator hangs: what was asked of it is given up or asked again, and the operator is told."""
        name, waited_s = life.instance.instance_id, (now_us - life.asked_us) / US_PER_S
        if life.stopping or life.retiring:
            what = "stop" if life.stopping else "take out"
            life.stopping, life.retiring = False, ""
            life.retry_us = now_us + self._spans.backoff_us_min
            return [Alarm(f"the actuator did not {what} {name} within {waited_s:g} s; it is asked again")]
        was_active, text = life.starting, f"was not started within {waited_s:g} s"
        actions = self._fleet.doubt(life, text, now_us)
        return [*actions, *self._sizing.start_failed(life, was_active, text, now_us)]

    def _still_draining(self, life: Life, now_us: int) -> list[Action]:
        if not life.member.was_ready:
            return self._fleet.leave(life, now_us)
        life.alarm_count += 1
        drained_s = (now_us - life.state_us) / US_PER_S
        left = "its server runs requests" if life.empty_us is not None else "the scheduler still counts requests on it"
        return [Alarm(f"instance {life.instance.instance_id} has been draining for {drained_s:g} s: {left}")]

    def _silent(self, life: Life, now_us: int) -> list[Action]:
        if life.member.origin is Origin.FOUND:
            return self._fleet.drain(life, "its server does not have the model ready", now_us)
        if life.expired or life.state is InstanceState.DRAINING:
            return self._fleet.gone(life, "no heartbeat for too long", now_us)
        life.expired = True
        life.enter(InstanceState.LOST, f"no heartbeat for {life.member.ttl_us / US_PER_S:g} s", now_us)
        return self._fleet.changed(life)

    def _end(self, actions: list[Action], now_us: int) -> list[Action]:
        """Every event ends here: the shell is told when to come back without one."""
        deadlines = [at for life in self._fleet if (at := self._deadline(life)) is not None]
        deadlines += [plan.retry_us for plan in self._sizing.plans.values() if plan.retry_us > now_us]
        earliest = min(deadlines, default=0)
        if earliest and earliest != self._woken_us:
            actions = [*actions, WakeAt(earliest)]
        self._woken_us = earliest
        return actions
