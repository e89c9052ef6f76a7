"""Puts requests on instances: picks what is next, asks the router, opens the lease."""

from forebay.core.scheduling import Placement
from forebay.core.values import SloClass
from forebay.scheduler.decisions import Sight
from forebay.scheduler.fleet import Fleet, turn_after
from forebay.scheduler.leases import Lease, LeaseBook, remaining_tokens
from forebay.scheduler.ledger import Counts, Ledger
from forebay.scheduler.policy import Policies
from forebay.scheduler.policy.router.base import RouteView
from forebay.scheduler.queue import Held, HeldBook

TRITON_PRIORITY = {SloClass.INTERACTIVE_FAST: 1, SloClass.INTERACTIVE_NORMAL: 2, SloClass.DEFERRED: 3}


class Placer:
    """The one place where leases open and end, so that the fleet's counts always equal the leases."""

    def __init__(self, policies: Policies, fleet: Fleet, leases: LeaseBook, held: HeldBook, ledger: Ledger) -> None:
        self._policies = policies
        self._fleet = fleet
        self._leases = leases
        self._held = held
        self._ledger = ledger
        self._last_instance: dict[str, str] = {}

    def place(self, held: Held, now_us: int) -> Placement | None:
        """Opens a lease for the request, or gives None where no instance may take it now."""
        sight = self.sight(held)
        if sight is None or not sight.view.eligible.any():
            return None
        route = self._policies.router.route(sight.view)
        instance_id = sight.view.instance_ids[route.index]
        instance = self._fleet.get(instance_id)
        assert instance is not None, "lanes hold only instances of the fleet"
        model, request = held.request.model, held.request
        placement = Placement(
            request_id=request.request_id,
            lease_id=self._ledger.next_name("l"),
            decision_id=self._ledger.placed(held, sight, route, self.counts(model), now_us),
            instance_id=instance_id,
            grpc_address=instance.grpc_address,
            predicted=held.prediction.quantiles,
            predicted_by=held.prediction.predicted_by,
            lease_ttl_us=self._leases.ttl_us,
            held_us=now_us - held.arrived_us,
            triton_priority=TRITON_PRIORITY[request.slo_class],
        )
        self._last_instance[model] = instance_id
        self.open(Lease(placement, request, held.gateway_id, held.tokens_max, now_us + self._leases.ttl_us))
        return placement

    def fill(self, model: str, now_us: int) -> list[Placement]:
        """Places held requests of the model, in the orderer's order, until room or requests run out."""
        lanes, queue = self._fleet.models.get(model), self._held.of_model(model)
        placed: list[Placement] = []
        while lanes is not None and len(queue) and lanes.has_room():
            held = queue.first(self._policies.orderer, now_us)
            placement = self.place(held, now_us)
            if placement is None:
                return placed + self._fill_around(model, now_us)
            self._held.remove(held.request.request_id)
            placed.append(placement)
        return placed

    def _fill_around(self, model: str, now_us: int) -> list[Placement]:
        """Fills where the next request may not use the room there is, so that those behind it need not wait too."""
        placed: list[Placement] = []
        for held in self._held.of_model(model).ranked(self._policies.orderer, now_us):
            placement = self.place(held, now_us)
            if placement is not None:
                self._held.remove(held.request.request_id)
                placed.append(placement)
            if not self._fleet.models[model].has_room():
                break
        return placed

    def open(self, lease: Lease) -> None:
        """Adds a lease with its predicted tokens."""
        lease.remaining_tokens = _remaining(lease)
        self._leases.add(lease)
        self._fleet.add(lease.placement.instance_id, 1, lease.remaining_tokens)

    def move_on(self, lease: Lease, generated_tokens: int) -> int:
        """Takes how far a lease's answer is and gives the tokens that are new; the count never decreases."""
        new = max(0, generated_tokens - lease.generated_tokens)
        lease.generated_tokens += new
        before, lease.remaining_tokens = lease.remaining_tokens, _remaining(lease)
        self._fleet.add(lease.placement.instance_id, 0, lease.remaining_tokens - before)
        return new

    def end(self, lease: Lease) -> None:
        """Ends a lease and frees what it took."""
        self._leases.remove(lease)
        self._fleet.add(lease.placement.instance_id, -1, -lease.remaining_tokens)

    def counts(self, model: str) -> Counts:
        """Requests held and leases open of the model."""
        return Counts(len(self._held.of_model(model)), self._leases.count_by_model[model])

    def sight(self, held: Held) -> Sight | None:
        """What a router sees for the request; None where the model has no instance."""
        request = held.request
        lanes = self._fleet.models.get(request.model)
        if lanes is None or not lanes.ids:
            return None
        view = RouteView(
            instance_ids=lanes.ids,
            in_flight_count=lanes.in_flight(),
            predicted_tokens=lanes.tokens(),
            concurrency_cap=lanes.caps,
            eligible=lanes.eligible(request.excluded_instance_ids, held.context_tokens),
            turn_index=turn_after(lanes.ids, self._last_instance.get(request.model, "")),
            prompt_tokens=request.prompt_tokens,
            predicted_length=held.prediction.quantiles,
            slo_class=request.slo_class,
        )
        return Sight(view, lanes.blocked, lanes.contexts, request.excluded_instance_ids, held.context_tokens)


def _remaining(lease: Lease) -> int:
    return remaining_tokens(lease.placement.predicted.p50, lease.generated_tokens, lease.tokens_max)
