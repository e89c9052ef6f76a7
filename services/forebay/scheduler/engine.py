"""The scheduler's state machine: what arrives, moves on and ends, and what is to be done about it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from forebay.core.errors import NotFound
from forebay.core.pressure import Anticipation, Pressure, WaitingJob
from forebay.core.scheduling import (
    Decision,
    LeaseStatus,
    OpenLease,
    Placement,
    QueueStatus,
    ScheduledInstance,
    ShadowStatus,
)
from forebay.core.units import US_PER_S
from forebay.core.values import (
    InferenceRequest,
    Instance,
    InstanceLoad,
    LengthPrediction,
    LengthQuantiles,
    Outcome,
    WakeAt,
)
from forebay.scheduler.accounts import Accounts
from forebay.scheduler.actions import Action, Observe
from forebay.scheduler.backlogs import Backlogs
from forebay.scheduler.config import Config
from forebay.scheduler.deadlines import NEVER_US
from forebay.scheduler.fleet import Fleet
from forebay.scheduler.gate import Gate
from forebay.scheduler.histogram import Histogram
from forebay.scheduler.intake import Intake
from forebay.scheduler.leases import Lease, LeaseBook
from forebay.scheduler.ledger import Ledger
from forebay.scheduler.placing import Placer
from forebay.scheduler.policy import Policies
from forebay.scheduler.policy.admission.base import Never
from forebay.scheduler.policy.planner.base import Assignment
from forebay.scheduler.policy.puller.base import step_us
from forebay.scheduler.pressure import Arrivals, anticipation, pressure
from forebay.scheduler.queue import Held, HeldBook
from forebay.scheduler.quotas import Quotas
from forebay.scheduler.rescheduling import Rescheduling


class Engine:
    """Holds, places and follows requests. Not thread-safe; time that goes back is taken as standing still.

    `name` prefixes the ids of leases and decisions and must differ between restarts. Every arrival gets exactly one
    Placement, Rejected or Retry, from its own event or a later one. After a WakeAt the shell calls `on_wake` at that
    time; a WakeAt replaces the one before it.
    """

    def __init__(self, config: Config, policies: Policies, name: str = "s") -> None:
        self._config = config
        self._fleet = Fleet(policies.puller)
        self._leases = LeaseBook(round(config.lease_ttl_s * US_PER_S))
        tenants = config.tenant_configs()
        self._held = HeldBook(Accounts({name: one.weight for name, one in tenants.items()}))
        self._ledger = Ledger(config, policies, name)
        quotas = Quotas(tenants)
        self._placer = Placer(policies, self._fleet, self._leases, self._held, self._ledger, quotas)
        self._gate = Gate(config, policies, self._fleet, self._held, self._placer, self._ledger, quotas)
        self._rescheduling = Rescheduling(policies.rescheduler, self._fleet)
        self._histogram = Histogram()
        self._intake = Intake(config, self._fleet, self._histogram)
        self._arrivals, self._backlogs = Arrivals(), Backlogs()
        self._waiting_quantum_us = round(config.waiting_quantum_s * US_PER_S)
        self._hold_review_us = round(config.hold_review_s * US_PER_S)
        self._pull_step_us = step_us(policies.puller)
        self._itl_slo_us = config.itl_slo_us
        self._stale_us = NEVER_US
        self._unblock_us = NEVER_US
        self._review_us = NEVER_US
        self._step_us = NEVER_US
        self._plan_us = NEVER_US
        self._now_us = 0
        self._wake_us = NEVER_US

    # Events

    def on_arrive(
        self, request: InferenceRequest, prediction: LengthPrediction | None, now_us: int, gateway_id: str = ""
    ) -> list[Action]:
        """A request wants an instance; without a prediction the histogram answers. Idempotent by request_id."""
        self._advance(now_us)
        if request.request_id in self._held:
            return self._with_wake([])
        lease = self._leases.of_request(request.request_id)
        if lease is not None and self._serves(lease, request):
            return self._with_wake([self._place_again(lease)])
        freed = self._end([lease]) if lease else []
        return self._with_wake(freed + self._enter(self._intake.held(request, prediction, gateway_id, self._now_us)))

    def on_progress(self, lease_id: str, generated_tokens: int, now_us: int) -> list[Action]:
        """A running request moved on; an unknown lease changes nothing."""
        self._advance(now_us)
        lease = self._leases.get(lease_id)
        if lease is not None:
            self._leases.renew(lease, self._now_us)
            self._move_on(lease, generated_tokens)
        return self._with_wake([])

    def on_finish(self, lease_id: str, outcome: Outcome, generated_tokens: int, now_us: int) -> list[Action]:
        """A running request ended; an unknown lease changes nothing."""
        self._advance(now_us)
        lease = self._leases.get(lease_id)
        if lease is None:
            return self._with_wake([])
        self._move_on(lease, generated_tokens)
        is_done = outcome in (Outcome.STOPPED, Outcome.LENGTH)
        return self._with_wake(self._learn(lease, outcome) + self._end([lease], is_done))

    def on_cancel(self, request_id: str, now_us: int) -> list[Action]:
        """A request is withdrawn: its hold is answered with Rejected, its lease ends, anything else changes nothing."""
        self._advance(now_us)
        if request_id in self._held:
            return self._with_wake([self._withdraw(request_id, "the request was withdrawn by its sender")])
        lease = self._leases.of_request(request_id)
        return self._with_wake(self._end([lease]) if lease else [])

    def on_resume(self, gateway_id: str, open_leases: Sequence[OpenLease], now_us: int) -> list[Action]:
        """A gateway tells all that it has in flight: that is adopted, and leases of its that it does not name end."""
        self._advance(now_us)
        named = {one.lease_id for one in open_leases}
        for lease in self._leases.of_gateway(gateway_id):
            if lease.placement.lease_id not in named:
                self._placer.end(lease, self._now_us)
        withdrawn = [action for one in open_leases for action in self._adopt(gateway_id, one)]
        # Only now is it known how much room there really is.
        return self._with_wake([*withdrawn, *self._fill(sorted(self._held.queues))])

    def on_fleet(self, instances: Sequence[Instance], now_us: int) -> list[Action]:
        """The whole fleet as it is now."""
        self._advance(now_us)
        first = not self._fleet.announced
        changed = self._fleet.replace(instances)
        self._placer.fleet_changed(changed)
        impossible = self._judge_held() if first else []
        return self._with_wake([*impossible, *self._fill(changed)])

    def on_models(self, leads_us: Mapping[str, int], now_us: int) -> list[Action]:
        """The models that are started when requests come for them, with the time that a start takes."""
        self._advance(now_us)
        self._fleet.leads_us = dict(leads_us)
        return self._with_wake([])

    def on_loads(self, loads: Sequence[InstanceLoad], now_us: int) -> list[Action]:
        """What was seen of all instances from outside: those that did not answer are avoided."""
        self._advance(now_us)
        models = self._placer.observe(loads, self._now_us)
        self._stale_us = self._now_us + round(self._config.loads_stale_s * US_PER_S)
        self._unblock_us = self._stale_us if self._fleet.has_unreachable else NEVER_US
        return self._with_wake(self._fill(models))

    def on_drain(self, instance_id: str, now_us: int) -> list[Action]:
        """Nothing more is placed on the instance. Raises NotFound where it is not part of the fleet."""
        self._advance(now_us)
        if self._fleet.get(instance_id) is None:
            raise NotFound(f"instance {instance_id!r} is not part of the fleet; ListInstances names those that are")
        self._fleet.drain(instance_id)
        return self._with_wake([])

    def on_planned(self, model: str, assignment: Assignment | None, now_us: int) -> list[Action]:
        """The planner answers the Plan of a model; None where it found nothing."""
        self._advance(now_us)
        self._placer.plans.answered(model, assignment)
        return self._with_wake(self._fill([model]) if model in self._held.queues else [])

    def on_backlog(self, gateway_id: str, jobs: Sequence[WaitingJob], now_us: int) -> list[Action]:
        """A gateway tells what deferred work it sees in its store: whoever plans capacity is told of it."""
        self._advance(now_us)
        self._backlogs.tell(gateway_id, jobs, self._now_us)
        return self._with_wake([])

    def on_mover(self, now_us: int) -> list[Action]:
        """Whoever carries out actions can move running requests between instances: `Migrate` may be given from now."""
        self._advance(now_us)
        self._rescheduling.begin(self._now_us)
        return self._with_wake([])

    def on_moved(self, lease_id: str, instance_id: str, now_us: int) -> list[Action]:
        """A running request goes on at another instance; an unknown lease or instance changes nothing."""
        self._advance(now_us)
        lease, instance = self._leases.get(lease_id), self._fleet.get(instance_id)
        if lease is None or instance is None:
            return self._with_wake([])
        self._placer.relocate(lease, instance)
        return self._with_wake(self._fill([lease.request.model]))

    def on_wake(self, now_us: int) -> list[Action]:
        """The time of a WakeAt has come: leases expire, holds time out, old sightings are forgotten."""
        self._advance(now_us)
        self._wake_us = NEVER_US
        actions = self._end(self._leases.expired(self._now_us))
        actions += [self._gate.timed_out(held, self._now_us) for held in self._held.due(self._now_us)]
        if self._stale_us <= self._now_us:
            # When nobody looks any more, a stale "unreachable" must not shut instances out for ever.
            self._stale_us = self._unblock_us = NEVER_US
            actions += self._fill(self._placer.observe((), self._now_us))
        if self._review_us <= self._now_us:
            actions += self._review()
        if self._plan_us <= self._now_us:
            actions += self._plan()
        if self._step_us <= self._now_us:
            self._step_us = NEVER_US
            actions += self._fill(self._fleet.step(self._itl_slo_us, self._now_us))
        if self._rescheduling.due_us <= self._now_us:
            actions += self._rescheduling.moves(self._now_us)
        return self._with_wake(actions)

    # Questions

    @property
    def leads_us(self) -> Mapping[str, int]:
        """The models that are started when requests come, with the time that takes."""
        return self._fleet.leads_us

    @property
    def revision(self) -> int:
        """Grows whenever an instance or its load changes."""
        return self._fleet.revision

    def instances(self, model: str = "") -> list[ScheduledInstance]:
        """The instances of a model, or all for an empty name, by id."""
        return list(self._fleet.scheduled(model))

    def queues(self, now_us: int) -> list[QueueStatus]:
        """What is held and what runs, by model."""
        return [self._queue(model, now_us) for model in sorted(self._fleet.models.keys() | self._held.queues.keys())]

    def pressure(self, now_us: int) -> Pressure:
        """The load that is on its way. From the first time on the load that is anticipated is kept ready."""
        quantum_us = self._waiting_quantum_us
        felt = pressure(self._fleet, self._held, self._arrivals, quantum_us, now_us)
        stored = self._backlogs.groups(self._length, quantum_us, now_us)
        return replace(felt, waiting=felt.waiting + stored) if stored else felt

    def anticipation(self, step: int, count: int, now_us: int) -> Anticipation:
        """What each instance is expected to hold, at `count` times that are `step` iterations apart."""
        return anticipation(self._fleet, step, count, now_us)

    def leases(self, instance_id: str = "") -> list[LeaseStatus]:
        """What runs on an instance, or everywhere for an empty id, by lease id."""
        return self._leases.statuses(instance_id)

    def lease_count(self, instance_id: str) -> int:
        """Requests in flight on the instance."""
        return self._fleet.load_of(instance_id)[0]

    def knows(self, request: InferenceRequest) -> bool:
        """Whether the request came before and would only be told its answer, so that no prediction is needed."""
        lease = self._leases.of_request(request.request_id)
        return request.request_id in self._held or (lease is not None and self._serves(lease, request))

    def has_lease(self, lease_id: str) -> bool:
        """Whether the lease is open."""
        return self._leases.get(lease_id) is not None

    def shadows(self) -> list[ShadowStatus]:
        """What came of the policies that are asked beside the active ones, by name."""
        return self._placer.shadows.statuses()

    def explain(self, decision_id: str) -> Decision:
        """The record of a decision. Raises NotFound where it is unknown or dropped for newer ones."""
        decision = self._ledger.explain(decision_id)
        if decision is None:
            raise NotFound(f"decision {decision_id!r} is unknown or older than the records kept")
        return decision

    # Arrivals

    def _length(self, model: str, prompt_tokens: int) -> LengthQuantiles:
        return self._histogram.predict(model, prompt_tokens).quantiles

    def _serves(self, lease: Lease, request: InferenceRequest) -> bool:
        """Whether a request that came again may keep its lease: its instance is there and has not failed it."""
        instance_id = lease.placement.instance_id
        return self._fleet.get(instance_id) is not None and instance_id not in request.excluded_instance_ids

    def _place_again(self, lease: Lease) -> Placement:
        instance = self._fleet.get(lease.placement.instance_id)
        assert instance is not None, "only a lease that serves is given again"
        self._leases.renew(lease, self._now_us)
        lease.placement = replace(
            lease.placement, grpc_address=instance.grpc_address, openai_address=instance.openai_address
        )
        return lease.placement

    def _enter(self, held: Held) -> list[Action]:
        """Refuses, places or holds a new request; behind others it waits its turn."""
        impossible = self._gate.impossible(held, self._now_us)
        if impossible is not None:
            return [impossible]
        self._arrivals.add(held)
        refusal = self._gate.not_admitted(held, self._now_us)
        if refusal is not None:
            return [refusal]
        if held.request.model not in self._held.queues and not self._placer.takes_batches(held.request.model):
            placement = self._placer.place(held, self._now_us)
            if placement is not None:
                return [placement]
        full = self._gate.queue_full(held, self._now_us)
        if full is not None:
            return [full]
        self._held.push(held)
        return self._fill([held.request.model])

    # Leases

    def _adopt(self, gateway_id: str, one: OpenLease) -> list[Action]:
        """Takes over what a gateway runs; a hold or another lease of the same request gives way to it."""
        lease, withdrawn = self._leases.get(one.lease_id), []
        if lease is None:
            withdrawn = self._make_way(one.request.request_id)
            lease = self._intake.lease(gateway_id, one, self._now_us)
            self._placer.open(lease)
        lease.gateway_id = gateway_id
        self._leases.renew(lease, self._now_us)
        self._placer.move_on(lease, one.generated_tokens)
        return withdrawn

    def _make_way(self, request_id: str) -> list[Action]:
        if request_id in self._held:
            return [self._withdraw(request_id, "the gateway runs the request on a lease of its own")]
        lease = self._leases.of_request(request_id)
        if lease is not None:
            self._placer.end(lease, self._now_us)
        return []

    def _move_on(self, lease: Lease, generated_tokens: int) -> None:
        new = self._placer.move_on(lease, generated_tokens)
        self._gate.note_tokens(lease.request.model, new, self._now_us)
        if new:
            self._fleet.moved(lease, new, self._now_us)

    def _learn(self, lease: Lease, outcome: Outcome) -> list[Action]:
        """Only an answer that the model ended, or that was cut at its limit, says how long such answers are."""
        request = lease.request
        self._gate.note_end(request.model, self._now_us)
        if outcome not in (Outcome.STOPPED, Outcome.LENGTH):
            return []
        self._histogram.observe(request.model, request.prompt_tokens, lease.generated_tokens)
        placed, is_cut = lease.placement, outcome is Outcome.LENGTH
        if not is_cut:
            self._placer.calibrations.add(request.model, placed.predicted, lease.generated_tokens)
        return [Observe(request, placed.predicted, lease.generated_tokens, is_cut, placed.predicted_by)]

    def _end(self, leases: Iterable[Lease], is_done: bool = False) -> list[Action]:
        """Ends leases and gives the room to those that wait."""
        models: dict[str, None] = {}
        for lease in leases:
            self._placer.end(lease, self._now_us, is_done)
            models[lease.request.model] = None
        return self._fill(models) if self._held.queues else []

    # Holding

    def _fill(self, models: Iterable[str]) -> list[Action]:
        return [placement for model in models for placement in self._placer.fill(model, self._now_us)]

    def _review(self) -> list[Action]:
        """Looks anew at what the router holds of its own accord: nothing that happens may say that it can go now."""
        models = sorted(self._placer.holding)
        for model in models:
            self._fleet.models[model].review()
        self._review_us = NEVER_US
        return self._fill(models)

    def _plan(self) -> list[Action]:
        """Asks the planner about the models of which something is held."""
        self._plan_us = NEVER_US
        now_us, plans = self._now_us, self._placer.plans
        asked = [
            plans.ask(model, self._gate.tokens_per_s(model, now_us), now_us) for model in sorted(self._held.queues)
        ]
        return [action for action in asked if action is not None]

    def _withdraw(self, request_id: str, why: str) -> Action:
        return self._gate.reject(self._held.remove(request_id), Never("CANCELLED", why), self._now_us)

    def _judge_held(self) -> list[Action]:
        """Answers those that came before the fleet was known and turn out to be impossible."""
        verdicts: list[Action] = []
        for held in [held for queue in self._held.queues.values() for held in queue.entries()]:
            rejected = self._gate.impossible(held, self._now_us)
            if rejected is not None:
                self._held.remove(held.request.request_id)
                verdicts.append(rejected)
        return verdicts

    def _queue(self, model: str, now_us: int) -> QueueStatus:
        counts = self._placer.counts(model)
        oldest_us = self._held.of_model(model).oldest_us()
        return QueueStatus(model, counts.held, max(0, now_us - oldest_us) if oldest_us else 0, counts.leases)

    # Time

    def _advance(self, now_us: int) -> None:
        self._now_us = max(self._now_us, now_us)

    def _with_wake(self, actions: list[Action]) -> list[Action]:
        """The actions, and a WakeAt where something is due earlier than the last one said."""
        if self._placer.holding and self._review_us == NEVER_US:
            self._review_us = self._now_us + self._hold_review_us
        if self._pull_step_us and self._step_us == NEVER_US and len(self._leases):
            self._step_us = self._now_us + self._pull_step_us
        leases, held = self._leases.deadlines, self._held.deadlines
        if self._placer.plans.step_us and self._plan_us == NEVER_US and len(self._held):
            self._plan_us = self._now_us + self._placer.plans.step_us
        others_us = min(self._unblock_us, self._review_us, self._step_us, self._plan_us, self._rescheduling.due_us)
        # What is exact costs more, and almost always nothing is due earlier.
        if min(leases.soonest_us, held.soonest_us, others_us) < self._wake_us:
            next_us = min(leases.next_us(), held.next_us(), others_us)
            if next_us < self._wake_us:
                self._wake_us = next_us
                actions.append(WakeAt(max(next_us, self._now_us)))
        return actions
