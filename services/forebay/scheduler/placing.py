"""Puts requests on instances: picks what is next, asks the router, opens the lease."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from forebay.core.scheduling import Placement
from forebay.core.values import InferenceRequest, Instance, InstanceLoad, SloClass
from forebay.scheduler.affinity import Affinity
from forebay.scheduler.batches import RunningBatches, WaitingBatches
from forebay.scheduler.calibration import Calibrations
from forebay.scheduler.decisions import Batch, Counts, Sight
from forebay.scheduler.fleet import Fleet
from forebay.scheduler.lanes import Lanes
from forebay.scheduler.leases import Lease, LeaseBook, remaining_tokens
from forebay.scheduler.ledger import Ledger
from forebay.scheduler.plans import Plans
from forebay.scheduler.policy import Policies
from forebay.scheduler.policy.router.base import Hold, Route, RouteView
from forebay.scheduler.queue import Held, HeldBook
from forebay.scheduler.quotas import Quotas
from forebay.scheduler.serving_times import ServingTimes
from forebay.scheduler.shadows import Others, Shadows

TRITON_PRIORITY = {SloClass.INTERACTIVE_FAST: 1, SloClass.INTERACTIVE_NORMAL: 2, SloClass.DEFERRED: 3}


class Chosen(NamedTuple):
    """What a lease rests on: the instances, the router's choice, that of shadows, and the batch where there is one."""

    sight: Sight
    route: Route
    others: Others
    batch: Batch | None = None


class Placer:
    """The one place where leases open and end, so that the fleet's counts always equal the leases.

    `holding` are the models of which the router held requests though some instance could have taken them, with what it
    said of each class last.
    """

    def __init__(
        self, policies: Policies, fleet: Fleet, leases: LeaseBook, held: HeldBook, ledger: Ledger, quotas: Quotas
    ) -> None:
        self._policies = policies
        self._fleet = fleet
        self._leases = leases
        self._held = held
        self._ledger = ledger
        self.calibrations = Calibrations()
        self._quotas = quotas
        self.holding: dict[str, dict[SloClass, str]] = {}
        self._is_class_held = False
        self.shadows = Shadows(policies.shadows)
        self._affinity: dict[str, Affinity] = {}
        self._times = ServingTimes()
        self._waiting: dict[str, WaitingBatches] = {}
        self._running = RunningBatches(self._times)
        self.plans = Plans(policies.planner.grouping, fleet, held)

    def takes_batches(self, model: str) -> bool:
        """Whether the model's requests are placed batch by batch."""
        lanes = self._fleet.models.get(model)
        return lanes is not None and lanes.batched

    def place(self, held: Held, now_us: int) -> Placement | None:
        """Opens a lease for the request, or gives None where no instance may take it now."""
        request = held.request
        model = request.model
        lanes = self._fleet.models.get(model)
        if lanes is None or not lanes.eligible_count:
            return None
        sight, count = _sight(lanes, held)
        if not count:
            return None
        view = self._remembered(self._view(lanes, held, sight, count, now_us), request)
        route = self._policies.router.route(view)
        if isinstance(route, Hold):
            self._note_hold(held, route)
            self.shadows.waits(held, view)
            # Who may not use all that others may speaks for nobody else.
            self._is_class_held = route.is_for_class and sight.eligible is lanes.eligible
            return None
        others = self.shadows.routed(model, view, route)
        lanes.pass_turn(route.index)
        return self._lease(held, lanes, Chosen(sight, route, others), now_us)

    def _lease(self, held: Held, lanes: Lanes, chosen: Chosen, now_us: int) -> Placement:
        """Opens a lease where the router says."""
        request, instance = held.request, lanes.instances[chosen.route.index]
        sight, route, others, batch = chosen
        placement = Placement(
            request.request_id,
            self._ledger.next_name("l"),
            self._ledger.placed(held, sight, route, self.counts(request.model), now_us, others, batch),
            instance.instance_id,
            instance.grpc_address,
            held.quantiles,
            held.predicted_by,
            self._leases.ttl_us,
            now_us - held.arrived_us,
            TRITON_PRIORITY[request.slo_class],
            batch.batch_id if batch else "",
            batch.request_count if batch else 0,
            instance.openai_address,
        )
        self.open(Lease(placement, request, held.gateway_id, held.tokens_max, now_us, now_us + self._leases.ttl_us))
        return placement

    def _note_hold(self, held: Held, said: Hold) -> None:
        self.holding.setdefault(held.request.model, {})[held.request.slo_class] = said.reason

    def fleet_changed(self, models: Iterable[str]) -> None:
        """Forgets what instances of these models had in their caches that are gone."""
        for model in models:
            if model in self._affinity:
                self._affinity[model].keep(self._fleet.models[model].ids)

    def _view(self, lanes: Lanes, held: Held, sight: Sight, eligible_count: int, now_us: int) -> RouteView:
        standing, counts, request = sight.standing, sight.counts, held.request
        return RouteView(
            standing.instance_ids,
            sight.eligible,
            eligible_count,
            standing.concurrency_cap,
            counts[0],
            counts[1],
            counts[2],
            counts[3],
            counts[4],
            counts[5],
            standing.observed,
            lanes.turn_index,
            request.prompt_tokens,
            held.quantiles,
            request.slo_class,
            now_us,
            request.region,
            standing.regions,
            standing.roles,
            counts[6],
            anticipated=lanes.anticipations,
            calibration=self.calibrations.of(request.model),
            released_count=counts[7],
            arrived_us=held.arrived_us,
            tenant_service=self._held.accounts.tenant_served(request.model, request.tenant),
        )

    def _remembered(self, view: RouteView, request: InferenceRequest) -> RouteView:
        """The view with what a plan says of the request, and the instances remember of its session and its prompt."""
        planned = self.plans.instance_of(request.model, request.request_id)
        if planned and planned in view.instance_ids:
            view = view._replace(planned=view.instance_ids.index(planned))
        affinity = self._affinity.get(request.model)
        if affinity is None or not (request.session or request.prefix_hashes):
            return view
        prefix = affinity.prefix_tokens(request, view.instance_ids) if request.prefix_hashes else None
        return view._replace(home=affinity.home(request.session, view.instance_ids), prefix_tokens=prefix)

    def fill(self, model: str, now_us: int) -> list[Placement]:
        """Places held requests of the model, in the orderer's order, until room or requests run out.

        On instances with static batches whole batches are placed, in the grouper's order, each where nothing runs.
        """
        placed: list[Placement] = []
        self.holding.pop(model, None)
        self._is_class_held = False
        lanes, queue = self._fleet.models.get(model), self._held.queues.get(model)
        if lanes is not None and lanes.batched:
            return self._fill_with_batches(lanes, model, now_us)
        while lanes is not None and queue and lanes.eligible_count:
            held = queue.first(self._policies.orderer, now_us)
            if len(queue) > 1:
                self.shadows.taken(model, queue, held, now_us)
            placement = self.place(held, now_us)
            if placement is None:
                return placed + self._fill_around(lanes, model, now_us, held)
            self._held.remove(held.request.request_id)
            placed.append(placement)
        return placed

    def _fill_around(self, lanes: Lanes, model: str, now_us: int, first: Held) -> list[Placement]:
        """Fills where the first in line may not use the room there is, so that those behind it need not wait too."""
        placed: list[Placement] = []
        ranked = self._held.of_model(model).ranked(self._policies.orderer, now_us)
        if self._is_class_held:
            ranked.pass_over(first)
        for held in ranked:
            self._is_class_held = False
            placement = self.place(held, now_us)
            if placement is not None:
                self._held.remove(held.request.request_id)
                placed.append(placement)
            elif self._is_class_held:
                ranked.pass_over(held)
            if not lanes.eligible_count:
                break
        return placed

    def _fill_with_batches(self, lanes: Lanes, model: str, now_us: int) -> list[Placement]:
        if model not in self._held.queues:
            return []
        waiting, grouper = self._batches(model), self._policies.grouper
        waiting.join(grouper, lanes.batch_room())
        placed: list[Placement] = []
        while len(waiting) and lanes.idle_for(frozenset(), 0).any():
            now_placed = self._place_batch(waiting.of(waiting.pick(grouper, self._times, now_us)), lanes, now_us)
            others = iter(range(len(waiting)))
            while not now_placed and (index := next(others, None)) is not None:
                # The next batch may not use the room there is; those behind it need not wait too.
                now_placed = self._place_batch(waiting.of(index), lanes, now_us)
            if not now_placed:
                break
            placed += now_placed
        return placed

    def _place_batch(self, batch: Sequence[Held], lanes: Lanes, now_us: int) -> list[Placement]:
        """Opens a lease for each request of the batch on one instance where nothing runs, or none.

        Where its longest requests fit into no such instance, they stay behind.
        """
        excluded = batch[0].request.excluded_instance_ids
        longest = max(batch, key=lambda held: held.context_tokens)
        idle = lanes.idle_for(excluded, longest.context_tokens)
        sight = Sight(lanes.standing, idle, lanes.counts(), excluded, longest.context_tokens)
        if not idle.any():
            fits = [held for held in batch if lanes.idle_for(excluded, held.context_tokens).any()]
            return self._place_batch(fits, lanes, now_us) if fits else []
        view = self._remembered(self._view(lanes, longest, sight, int(idle.sum()), now_us), longest.request)
        route = self._policies.router.route(view)
        if isinstance(route, Hold):
            self._note_hold(longest, route)
            return []
        others = self.shadows.routed(longest.request.model, view, route)
        lanes.pass_turn(route.index)
        for held in batch:
            self._held.remove(held.request.request_id)
        chosen = Chosen(sight, route, others, self._described(batch))
        return [self._lease(held, lanes, chosen, now_us) for held in batch]

    def _described(self, batch: Sequence[Held]) -> Batch:
        """What is told of a batch that has just left those that wait."""
        answers = [held.quantiles.p50 for held in batch]
        prompt_max = max(held.request.prompt_tokens for held in batch)
        waiting_count = len(self._batches(batch[0].request.model))
        return Batch(self._ledger.next_name("b"), len(batch), prompt_max, min(answers), max(answers), waiting_count)

    def _batches(self, model: str) -> WaitingBatches:
        """The model's waiting batches, with everything that is held of it."""
        waiting = self._waiting.get(model)
        if waiting is None:
            waiting = self._waiting[model] = self._held.followers[model] = WaitingBatches()
            for held in self._held.of_model(model).entries():
                waiting.add(held)
        return waiting

    def open(self, lease: Lease) -> None:
        """Adds a lease that has not moved on yet, with its predicted tokens."""
        lease.remaining_tokens = remaining_tokens(lease.placement.predicted.p50, 0, lease.tokens_max)
        self._leases.add(lease)
        placement = lease.placement
        self._held.accounts.start(placement.lease_id, lease.request, placement.predicted.p50, placement.held_us)
        lanes, index = self._fleet.lane(placement.instance_id)
        lanes.open(index, lease)
        if lease.request.session or lease.request.prefix_hashes:
            affinity = self._affinity.setdefault(lease.request.model, Affinity())
            affinity.note(lease.request, lease.placement.instance_id, lanes.instances[index].kv_tokens_max)
        if lease.placement.batch_id:
            self._running.opened(lease)

    def move_on(self, lease: Lease, generated_tokens: int) -> int:
        """Takes how far a lease's answer is and gives the tokens that are new; the count never decreases."""
        new = generated_tokens - lease.generated_tokens
        if new <= 0:
            return 0
        lanes, index = self._fleet.lane(lease.placement.instance_id)
        if not lease.generated_tokens:
            lanes.start(index, lease)
        lease.generated_tokens = generated_tokens
        remaining = remaining_tokens(lease.placement.predicted.p50, generated_tokens, lease.tokens_max)
        lanes.move(index, lease, new, remaining - lease.remaining_tokens)
        lease.remaining_tokens = remaining
        self._held.accounts.serve(lease.placement.lease_id, new)
        return new

    def relocate(self, lease: Lease, instance: Instance) -> None:
        """A lease goes on at another instance."""
        lanes, index = self._fleet.lane(lease.placement.instance_id)
        lanes.end(index, lease)
        lease.placement = replace(
            lease.placement,
            instance_id=instance.instance_id,
            grpc_address=instance.grpc_address,
            openai_address=instance.openai_address,
        )
        lanes, index = self._fleet.lane(instance.instance_id)
        lanes.open(index, lease)
        if lease.generated_tokens:
            lanes.start(index, lease)

    def end(self, lease: Lease, now_us: int, is_done: bool = False) -> None:
        """Ends a lease and frees what it took; `is_done`: its answer is complete."""
        self._leases.remove(lease)
        self._held.accounts.end(lease.placement.lease_id)
        self._quotas.settle(lease.request, lease.request.prompt_tokens + lease.generated_tokens, now_us)
        lanes, index = self._fleet.lane(lease.placement.instance_id)
        lanes.end(index, lease)
        if lease.placement.batch_id:
            self._running.ended(lease, is_done, now_us)

    def observe(self, loads: Iterable[InstanceLoad], now_us: int) -> list[str]:
        """Takes what is seen of the fleet from outside and gives the models whose caps may have moved."""
        models = self._fleet.observe(loads, now_us)
        since_us = self._fleet.seen_us_min()
        if since_us is not None:
            for lease in self._leases.newest_first():
                if lease.opened_us < since_us:
                    break
                self._fleet.count_unseen(lease)
        return models

    def counts(self, model: str) -> Counts:
        """Requests held and leases open of the model."""
        queue = self._held.queues.get(model)
        return Counts(len(queue) if queue else 0, self._leases.count_by_model[model])

    def counts_by_class(self, model: str) -> dict[SloClass, int]:
        """Leases open of the model, by class."""
        return {slo_class: self._leases.count_by_class[model, slo_class] for slo_class in SloClass}

    def sight(self, held: Held) -> Sight | None:
        """What there is for the request; None where the model has no instance."""
        lanes = self._fleet.models.get(held.request.model)
        return _sight(lanes, held)[0] if lanes is not None and lanes.ids else None


def _sight(lanes: Lanes, held: Held) -> tuple[Sight, int]:
    """What there is for the request, and how many instances may get it."""
    excluded, context_tokens = held.request.excluded_instance_ids, held.context_tokens
    eligible = lanes.eligible_for(excluded, context_tokens)
    count = lanes.eligible_count if eligible is lanes.eligible else int(eligible.sum())
    return Sight(lanes.standing, eligible, lanes.counts(), excluded, context_tokens), count
