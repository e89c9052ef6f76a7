"""Lets each model's fleet follow the policy as far as the limits allow, and records what was decided and why."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace

from forebay.autoscaler.actions import Action, Alarm, Decided, Start
from forebay.autoscaler.config import Config, ModelConfig
from forebay.autoscaler.demands import Key
from forebay.autoscaler.fleet import Fleet
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.life import Life
from forebay.autoscaler.limits import Spans, victims
from forebay.autoscaler.log import DecisionLog
from forebay.autoscaler.placement import SHUN_US, free_servers
from forebay.autoscaler.plan import Counts, Plan
from forebay.autoscaler.policy.autoscaler.base import Autoscaler
from forebay.autoscaler.room import Resize, Room, resize
from forebay.autoscaler.rooms import Rooms
from forebay.autoscaler.sight import Sight
from forebay.core.errors import InvalidArgument, ModelUnknown
from forebay.core.fleet import Bounds, FleetState, Member, ModelFleet, Origin, ScalingDecision, StartTime
from forebay.core.pressure import Pressure
from forebay.core.units import US_PER_S
from forebay.core.values import Batching, Instance, InstanceLoad, InstanceRole, InstanceState, ModelLoad

_SILENT = "no fresh metrics, so the last plan holds"


def homes_of(config: Config) -> Mapping[str, str]:
    """The pool of each model's instances that name none: the first one of the model."""
    return {model.name: model.pool_name for model in reversed(config.models)}


class Sizing:
    """Holds a plan for each pool. `mode` is the name of the actuator in force, for the records only."""

    def __init__(self, config: Config, policy: Autoscaler, fleet: Fleet, state: FleetState) -> None:
        self._config = config
        self._policy = policy
        self._fleet = fleet
        self._spans = Spans.of(config)
        self._mode = state.settings.mode or config.mode
        self._failed_us: dict[str, int] = {}
        self.ordinal = state.settings.ordinal
        self.bounds = dict(state.settings.bounds)
        self.plans = {model.pool_name: self._plan(model, state) for model in config.models}
        self._homes = homes_of(config)
        self.log = DecisionLog(config.decision_count_max, state.decisions)
        self._sight = Sight(config, policy.needs, fleet)
        self._rooms = Rooms(config, fleet, self.plans, self._sight)
        self._memo: Mapping[str, float] = {}
        self.warnings: tuple[str, ...] = ()
        self.forecasts = Forecasts()
        self._sequence = 0
        for decision in state.decisions:
            plan = self.plans.get(decision.pool or self._homes.get(decision.model, ""))
            if plan is not None:
                plan.last_decision_id = decision.decision_id

    @property
    def mode(self) -> str:
        """The name of the actuator in force."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self._mode = mode
        # Nobody has followed what was told meanwhile: it begins with what is there.
        for plan in self.plans.values():
            plan.told = None

    @property
    def loads(self) -> Mapping[str, InstanceLoad]:
        """What was seen of each instance."""
        return self._sight.loads

    def _plan(self, model: ModelConfig, state: FleetState) -> Plan:
        configured = Bounds(model.name, *model.instances_range)
        bounds = replace(self.bounds.get(model.pool_name, configured), model=model.name, pool=model.pool)
        plan = Plan(model, bounds, state.settings.wanted.get(model.pool_name, model.instances_initial))
        for start in state.settings.starts.get(model.pool_name, ()):
            plan.came_up(start)
        return plan

    def twin(self, policy: Autoscaler | None = None) -> "Sizing":
        """The same once more, with which anything may be done: nothing of it comes back here.

        Another policy begins with what was seen and without what the one in force remembers.
        """
        members = (life.member for life in self._fleet)
        shared = (self._config, *self._config.models, self._policy, self.log, self.forecasts, self._sight.loads)
        twin = deepcopy(self, {id(one): one for one in (*shared, *members)})
        twin.log = DecisionLog(self._config.decision_count_max)
        if policy is not None:
            twin._policy, twin._sight.needs, twin._memo, twin.warnings = policy, policy.needs, {}, ()
            for plan in twin.plans.values():
                plan.unlearn()
        return twin

    def counts(self, pool: str) -> Counts:
        """One pool's instances in numbers."""
        lives = self._fleet.of(pool)
        return Counts(
            ready=sum(life.ready for life in lives),
            starting=sum(life.starting for life in lives),
            leaving=sum(life.leaving for life in lives),
            total=len(lives),
        )

    def models(self, model: str) -> tuple[ModelFleet, ...]:
        """The fleet in numbers, by pool; one that nobody scales has bounds of what it has."""
        strange = {self._fleet.pool_of(life.instance): life.instance.model for life in self._fleet}
        models = {**strange, **{name: plan.config.name for name, plan in self.plans.items()}}
        return tuple(self._numbers(name, of) for name, of in sorted(models.items()) if model in ("", of))

    def _numbers(self, name: str, model: str) -> ModelFleet:
        counts, plan = self.counts(name), self.plans.get(name)
        pool = name if name != model else ""
        numbers = ModelFleet(
            model=model,
            bounds=plan.bounds if plan else Bounds(model, counts.total, counts.total, pool),
            instances_wanted=plan.target if plan else counts.active,
            ready_count=counts.ready,
            starting_count=counts.starting,
            draining_count=counts.leaving,
            pool=pool,
        )
        if plan is None:
            return numbers
        return replace(
            numbers,
            last_decision_id=plan.last_decision_id,
            reason=plan.reason,
            flip=plan.flip,
            lead_p50_us=plan.lead.p50_us,
            lead_p90_us=plan.lead.p90_us,
            bound_by=plan.bound_by,
            region=plan.config.region,
            gpu=plan.config.hardware[0],
            gpu_count=plan.config.hardware[1],
            role=InstanceRole[plan.config.role.upper()],
        )

    def set_bounds(self, bounds: Bounds) -> None:
        """Puts bounds in force. Raises InvalidArgument when they contradict themselves, ModelUnknown otherwise."""
        if bounds.instances_min > bounds.instances_max:
            text = f"is more than instances_max ({bounds.instances_max})"
            violation = {"bounds.instances_min": text}
            raise InvalidArgument(f"instances_min ({bounds.instances_min}) {text}", violations=violation)
        name = bounds.pool or self._homes.get(bounds.model, bounds.model)
        plan = self.plans.get(name)
        if plan is None or plan.config.name != bounds.model:
            known = ", ".join(sorted(self._homes)) or "none"
            what = f"pool {bounds.pool!r} of model {bounds.model!r}" if bounds.pool else f"model {bounds.model!r}"
            raise ModelUnknown(f"{what} is not scaled; models under [autoscaler]: {known}")
        plan.bounds = self.bounds[name] = replace(bounds, pool=plan.config.pool)

    def servers_of(self, model: str) -> frozenset[str]:
        """The servers that pools of the model are loaded on by us."""
        plans = (plan for plan in self.plans.values() if plan.config.name == model)
        return frozenset(server for plan in plans for server in plan.config.servers)

    def observe(self, models: Iterable[ModelLoad], instances: Iterable[InstanceLoad], now_us: int) -> None:
        """Load was observed; a model that is not named keeps its last sample until it is too old."""
        self._sight.see(instances)
        for load in models:
            rivals = [plan for plan in self.plans.values() if plan.config.name == load.model]
            for plan in rivals:
                plan.observe(load, self._sight.concurrency(plan, rivals, load, now_us), now_us)

    def feel(self, pressure: Pressure, now_us: int) -> None:
        """The scheduler said what is on its way."""
        self._sight.feel(pressure, now_us)

    def hears(self, now_us: int) -> bool:
        """Whether the scheduler was heard of lately."""
        return not self._sight.is_deaf(now_us)

    def came_up(self, life: Life, now_us: int) -> None:
        """An instance is ready for the first time: its pool learns how long that takes."""
        plan = self.plans.get(self._fleet.pool_of(life.instance))
        if plan is not None and life.launched and life.begun_us is not None:
            provision_us = (now_us if life.reached_us is None else life.reached_us) - life.begun_us
            plan.came_up(StartTime(now_us, now_us - life.begun_us, provision_us))

    def leads(self) -> Mapping[str, int]:
        """How long a start takes (nine of ten) by model, of those that may have instances: by its fastest pool."""
        leads: dict[str, int] = {}
        for plan in self.plans.values():
            if plan.bounds.instances_max:
                name, lead_us = plan.config.name, plan.lead.p90_us
                leads[name] = min(lead_us, leads.get(name, lead_us))
        return leads

    def demands(self) -> tuple[Key, ...]:
        """Every demand that was heard of, in order."""
        return self._sight.demands.keys

    def choose(self, forecasts: Forecasts, now_us: int) -> list[Action]:
        """Lets the policy choose for every pool; where it has nothing fresh to go by, the last plan holds."""
        needs = self._policy.needs
        self.forecasts = forecasts
        for plan in self.plans.values():
            plan.forget(now_us - self._spans.lead_age_us_max)
        deaf = needs.pressure and self._sight.is_deaf(now_us)
        held = [plan for plan in self.plans.values() if deaf or plan.is_silent(needs, self._spans, now_us)]
        for plan in held:
            plan.hold("no fresh word of the scheduler, so the last plan holds" if deaf else _SILENT)
        pools = tuple(
            self._sight.pool_view(plan, self.counts(name), forecasts.models.get(plan.config.name, ()), now_us)
            for name, plan in self.plans.items()
            if plan not in held
        )
        if not pools:
            return []
        chosen = self._policy.plan(self._sight.fleet_view(pools, held, forecasts.demands, self._memo, now_us))
        for name, choice in chosen.pools.items():
            self.plans[name].take(choice, now_us)
        self._memo = chosen.memo
        fresh = [text for text in chosen.warnings if text not in self.warnings]
        self.warnings = chosen.warnings
        return [Alarm(text) for text in fresh]

    def resize(self, now_us: int) -> list[Action]:
        """Starts and retires what the plans want, those below their least first."""
        actions: list[Action] = []

        def urgency(plan: Plan) -> tuple[bool, str]:
            name = plan.config.pool_name
            return (self.counts(name).active >= self._rooms.least(plan, now_us), name)

        for plan in sorted(self.plans.values(), key=urgency):
            actions += self._follow(plan, now_us)
        return [*actions, *self._make_way(now_us), *self._retire_strangers(now_us)]

    def _make_way(self, now_us: int) -> list[Action]:
        """One instance at a time leaves a pool that has more than it must, for one that has less and no room."""
        for plan in self.plans.values():
            giver = self._rooms.giver(plan, self.counts, now_us)
            leaving = victims(self._fleet.of(giver.config.pool_name), self.loads, 1) if giver else []
            if giver is not None and leaving:
                active = self.counts(giver.config.pool_name).active
                change = (active, active - 1, plan.config.pool_name, self.mode)
                # Where nobody acts, or only later, it is asked for again and told once.
                is_new, giver.noted_change = change != giver.noted_change, change
                text = f"{giver.reason}: {giver.wish} wanted, but {plan.config.pool_name} needs its place"
                giver.stepped(0, 1, now_us)
                retired = self._fleet.retire(leaving[0], f"it makes way for {plan.config.pool_name}", now_us)
                return [*([self._decided(giver, active, active - 1, text, now_us)] if is_new else ()), *retired]
        return []

    def acted(self, life: Life) -> None:
        """The actuator did as it was asked: wanting the same once more is a new decision."""
        plan = self.plans.get(self._fleet.pool_of(life.instance))
        if plan is not None:
            plan.noted_change = ()

    def start_failed(self, life: Life, was_active: bool, text: str, now_us: int) -> list[Action]:
        """Notes a start that came to nothing, after the fleet has lost it; the record says when the next one is."""
        plan = self.plans.get(self._fleet.pool_of(life.instance))
        alarm = Alarm(f"instance {life.instance.instance_id} {text}")
        if plan is None:
            return [alarm]
        plan.failed(self._spans, now_us)
        if plan.config.servers:
            self._failed_us[life.instance.server_id] = now_us
        wait_s = (plan.retry_us - now_us) / US_PER_S
        active = self.counts(plan.config.pool_name).active
        reason = f"{life.instance.instance_id} {text}; failure {plan.failure_count}, the next start waits {wait_s:g} s"
        return [alarm, self._decided(plan, active + was_active, active, reason, now_us)]

    def _follow(self, plan: Plan, now_us: int) -> list[Action]:
        if plan.config.is_pulled:
            return self._tell(plan, now_us)
        room = self._rooms.of(plan, self.counts(plan.config.pool_name), now_us)
        step = resize(plan.wish, room)
        leaving = victims(self._fleet.of(plan.config.pool_name), self.loads, step.drain_count)
        after = room.active + step.start_count - len(leaving)
        actions = self._note(plan, room, step, after, now_us)
        actions += [self._start(plan.config, now_us) for _ in range(step.start_count)]
        plan.stepped(step.start_count, len(leaving), now_us)
        for life in leaving:
            actions += self._fleet.retire(life, f"the fleet shrinks to {after}", now_us)
        return actions

    def _tell(self, plan: Plan, now_us: int) -> list[Action]:
        """Others start and end the instances: what they are told goes as far towards the wish as the limits let it."""
        counts = self.counts(plan.config.pool_name)
        told = counts.active if plan.told is None else plan.told
        ready = min(counts.ready, told)
        room = self._rooms.of(plan, Counts(ready, told - ready, counts.leaving, told + counts.leaving), now_us)
        step = resize(plan.wish, room)
        plan.told = told + step.start_count - step.drain_count
        plan.stepped(step.start_count, step.drain_count, now_us)
        return self._note(plan, room, step, plan.told, now_us)

    def _note(self, plan: Plan, room: Room, step: Resize, after: int, now_us: int) -> list[Action]:
        """A record of what changes, and of what a limit forbids; neither is repeated while it stays the same."""
        plan.bound_by = step.bound_by
        change = (room.active, after, plan.wish, self.mode) if after != room.active else ()
        bound = (step.bound_by, self.mode) if step.bound_by and not room.waiting else ()
        new = (change and change != plan.noted_change) or (bound and bound != plan.noted_bound)
        plan.noted_change, plan.noted_bound = change or plan.noted_change, bound
        if not new:
            return []
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
            mode=self.mode,
            reason=reason,
            inputs=dict(plan.inputs),
            pool=plan.config.pool,
            flip=plan.flip,
        )
        self.log.add(decision)
        plan.last_decision_id = decision.decision_id
        return Decided(decision)

    def _start(self, model: ModelConfig, now_us: int) -> Start:
        if model.servers:
            shunned = {name for name, failed_us in self._failed_us.items() if now_us < failed_us + SHUN_US}
            server = free_servers(model, self._config, self._fleet, shunned)[0]
            server_id, grpc_address, metrics_url = server.server_id, server.grpc_address, server.metrics_url
            openai_address = server.openai_address
        else:
            self.ordinal += 1
            server_id, grpc_address, metrics_url = f"local-{self.ordinal}", "", ""
            openai_address = ""
        instance = Instance(
            instance_id=f"{server_id}/{model.name}",
            model=model.name,
            grpc_address=grpc_address,
            server_id=server_id,
            metrics_url=metrics_url,
            openai_address=openai_address,
            state=InstanceState.PROVISIONING,
            region=model.region,
            profile=model.profile,
            concurrency_max=model.concurrency_max,
            kv_tokens_max=model.kv_tokens_max,
            context_tokens_max=model.context_tokens_max,
            role=InstanceRole[model.role.upper()],
            batching=Batching[model.batching.upper()],
            state_us=now_us,
            state_reason="being started",
            pool=model.pool,
        )
        self._fleet.add(Member(instance, Origin.LAUNCHED), False, now_us)
        return Start(instance)

    def _retire_strangers(self, now_us: int) -> list[Action]:
        """What the configuration does not name is taken out: launched models, servers to find instances on."""
        actions: list[Action] = []
        servers = {server.server_id for server in self._config.servers}
        for life in self._fleet:
            if life.leaving or now_us < life.retry_us:
                continue
            plan = self.plans.get(self._fleet.pool_of(life.instance))
            if life.launched and plan is None:
                actions += self._fleet.retire(life, "its model is not configured", now_us)
            elif life.launched and plan is not None and plan.config.is_pulled:
                actions += self._fleet.retire(life, "others start the instances of its pool", now_us)
            elif life.member.origin is Origin.FOUND and life.instance.server_id not in servers:
                actions += self._fleet.drain(life, "its server is not configured", now_us)
        return actions
