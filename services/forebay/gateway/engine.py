"""The life of every request: asked for, placed, tried, answered or refused; with or without a scheduler."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from forebay.core.errors import ForebayError, InvalidArgument, ModelUnknown, ResourceExhausted
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.core.pressure import WaitingJob
from forebay.core.scheduling import OpenLease, Placement
from forebay.core.units import US_PER_MS, US_PER_S
from forebay.core.values import InferenceRequest, Instance, Outcome, WakeAt
from forebay.gateway.config import Config
from forebay.gateway.fleet import RETRY_AFTER_US, Fleet
from forebay.gateway.flights import Flight, Phase, open_lease, own_placement, report
from forebay.gateway.leases import Leases
from forebay.gateway.promises import Promises
from forebay.gateway.replicas import Replicas
from forebay.gateway.values import (
    Action,
    Ask,
    Attempt,
    End,
    Fail,
    Renew,
    RequestStatus,
    Resume,
    Tell,
    Withdraw,
)

_TICK_US = 250 * US_PER_MS
_UNDELIVERED_COUNT_MAX = 10_000
WITHDRAWN = "CANCELLED"
"""The reason with which a scheduler answers a request that was withdrawn."""


class Engine:
    """Decides what follows from each event. Exactly one of Fail or a call of on_finished, on_gone ends a request.

    After Attempt the shell reports tokens and then on_finished, or on_failed. Nothing is told twice: events about a
    request that ended change nothing.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fleet = Fleet(config.fallback_queue_factor, int(config.suspect_s * US_PER_S))
        self._flights: dict[str, Flight] = {}
        self._waiting: dict[str, Flight] = {}
        self._leases = Leases(config)
        self._undelivered: deque[tuple[OpenLease, End]] = deque(maxlen=_UNDELIVERED_COUNT_MAX)
        self._replicas = Replicas()
        self._backlogged: set[str] = set()
        self._promises = Promises(config.promises)

    @property
    def fleet(self) -> Fleet:
        """The fleet as last seen; shells only read it."""
        return self._fleet

    @property
    def is_linked(self) -> bool:
        """Whether the stream of any replica of the scheduler is open."""
        return bool(self._replicas)

    @property
    def flight_count(self) -> int:
        """Requests that have not ended."""
        return len(self._flights)

    def flights(self) -> Sequence[Flight]:
        """The requests that have not ended; shells only read them."""
        return list(self._flights.values())

    def oldest_ask_us(self, replica: str | None = None) -> int | None:
        """When the longest unanswered question was put to the replica, or to any; None where there is none."""
        return min(
            (
                one.asked_us
                for one in self._flights.values()
                if one.phase is Phase.ASKED and replica in (None, one.replica)
            ),
            default=None,
        )

    def due(self, now_us: int) -> list[str]:
        """The requests whose leases `on_wake` would renew now; whoever counts tokens rarely counts theirs before."""
        return [flight.request.request_id for flight in self._leases.due(now_us)] if self._replicas else []

    def quiet_until_us(self, now_us: int) -> int:
        """Before then `on_wake` does nothing but name the next tick, whatever arrives, is placed or ends meanwhile.

        That holds while the scheduler's stream is open and no lease is shorter than all before; else it gives now.
        """
        quiet_us = self._leases.quiet_until_us(now_us)
        if not self._replicas or self._waiting or quiet_us is None:
            return now_us
        if quiet_us <= now_us + _TICK_US:
            return quiet_us
        asked_us = self.oldest_ask_us()
        return min(
            quiet_us, int(self._config.placement_timeout_s * US_PER_S) + (now_us if asked_us is None else asked_us)
        )

    def hints(self, request_id: str, now_us: int) -> Hints:
        """What the instance that the request was placed on is told beside it."""
        flight = self._flights.get(request_id)
        if flight is None or flight.placement is None:
            return NO_HINTS
        return self._promises.hints(flight.request, flight.placement, now_us - flight.arrival_us)

    def on_arrive(self, request: InferenceRequest, now_us: int) -> list[Action]:
        """A client sent a request."""
        flight = Flight(request, now_us, excluded=set(request.excluded_instance_ids))
        if len(self._flights) >= self._config.requests_max:
            error = ResourceExhausted(
                f"the gateway has {len(self._flights)} requests in flight, its limit; try again later",
                reason="GATEWAY_FULL",
                retry_after_us=RETRY_AFTER_US,
            )
            return [report(flight, RequestStatus.REJECTED, now_us, error), Fail(request.request_id, error)]
        self._flights[request.request_id] = flight
        return self._seek(flight, now_us)

    def on_placed(self, replica: str, placement: Placement, now_us: int) -> list[Action]:
        """A replica chose an instance. A request that went away was withdrawn, so that the lease ends there too.

        So was one that another replica is asked for by now.
        """
        flight = self._flights.get(placement.request_id)
        if flight is None or flight.phase is not Phase.ASKED or flight.replica != replica:
            return []
        flight.is_known = True
        return self._start(flight, placement, now_us)

    def on_moved(self, request_id: str, instance_id: str, now_us: int) -> list[Action]:
        """A running request goes on at another instance; one that does not run changes nothing."""
        flight = self._flights.get(request_id)
        if flight is not None and flight.phase is Phase.RUNNING and flight.placement is not None:
            self._fleet.give_back(flight.placement.instance_id)
            flight.placement = replace(flight.placement, instance_id=instance_id)
            self._fleet.take(instance_id)
        return []

    def on_failed_over(self, request_id: str, instance_id: str, now_us: int) -> list[Action]:
        """The chosen instance failed, and a proxy went on to another one by itself."""
        flight = self._flights.get(request_id)
        if flight is not None and flight.placement is not None:
            self._fleet.suspect(flight.placement.instance_id, now_us)
        return self.on_moved(request_id, instance_id, now_us)

    def on_refused(self, replica: str, request_id: str, error: ForebayError, now_us: int) -> list[Action]:
        """A replica said no, for now or for ever. After a failed attempt the client gets that attempt's error."""
        flight = self._flights.get(request_id)
        if flight is None or flight.phase is not Phase.ASKED or flight.replica != replica:
            return []
        if error.code == WITHDRAWN:
            # It answers what we withdrew, for whatever cause; we ask for the request anew.
            return []
        if isinstance(error, ModelUnknown):
            error = self._fleet.unknown(flight.request.model)
        return self._refuse(flight, error, now_us)

    def on_tokens(self, request_id: str, generated_tokens: int, prompt_tokens: int, now_us: int) -> list[Action]:
        """The instance has generated this many tokens in all, for a prompt of that many (0: it does not tell)."""
        flight = self._flights.get(request_id)
        if flight is not None:
            flight.generated_tokens = generated_tokens
            flight.prompt_tokens = prompt_tokens
            if not flight.first_token_us:
                flight.first_token_us = now_us
        return []

    def on_counted(self, request_id: str, generated_tokens: int, prompt_tokens: int, now_us: int) -> list[Action]:
        """The same of an answer that came whole: nobody knows when its first token was there."""
        flight = self._flights.get(request_id)
        if flight is not None:
            flight.generated_tokens, flight.prompt_tokens = generated_tokens, prompt_tokens
        return []

    def on_finished(self, request_id: str, outcome: Outcome, now_us: int) -> list[Action]:
        """The instance ended the answer."""
        flight = self._flights.get(request_id)
        if flight is None:
            return []
        return [*self._release(flight, outcome), *self._close(flight, RequestStatus.OK, now_us, None, outcome)]

    def on_failed(self, request_id: str, error: ForebayError, now_us: int, *, is_final: bool = False) -> list[Action]:
        """The attempt failed: before the first token another instance is tried, unless the request is at fault.

        None is where the failure is final, since the client has seen it.
        """
        flight = self._flights.get(request_id)
        if flight is None or flight.placement is None:
            return []
        instance_id = flight.placement.instance_id
        is_fault_of_client = isinstance(error, InvalidArgument)
        if not is_fault_of_client:
            self._fleet.suspect(instance_id, now_us)
        actions = self._release(flight, Outcome.FAILED)
        is_final = is_final or is_fault_of_client or bool(flight.first_token_us)
        if is_final or flight.attempt_count >= self._config.attempts_max:
            return [*actions, *self._fail(flight, RequestStatus.FAILED, error, now_us)]
        flight.excluded.add(instance_id)
        flight.error = error
        return [*actions, *self._seek(flight, now_us)]

    def on_gone(self, request_id: str, now_us: int) -> list[Action]:
        """The client went away."""
        flight = self._flights.get(request_id)
        if flight is None:
            return []
        actions: list[Action] = self._release(flight, Outcome.CANCELLED)
        if flight.phase is Phase.ASKED and self._replicas:
            actions.append(Withdraw(request_id, flight.replica))
        return [*actions, *self._close(flight, RequestStatus.CANCELLED, now_us, None)]

    def on_fleet(self, instances: Sequence[Instance], now_us: int) -> list[Action]:
        """The scheduler described its fleet."""
        self._fleet.update(instances)
        return self._place_waiting(now_us)

    def on_backlog(self, jobs: Sequence[WaitingJob], now_us: int) -> list[Action]:
        """Deferred work waits: each replica is told of its models', and once where nothing waits any more."""
        told: list[Action] = []
        for replica in self._replicas.names:
            own = tuple(job for job in jobs if self._replicas.owner(job.model) == replica)
            if own or replica in self._backlogged:
                told.append(Tell(own, replica))
            (self._backlogged.add if own else self._backlogged.discard)(replica)
        return told

    def on_link_up(self, replica: str, now_us: int) -> list[Action]:
        """A replica's stream opened: tell it what is its own, and take that from the others; ask it for what waits."""
        self._replicas.add(replica)
        moving = [one for one in self._flights.values() if self._is_to_move(one)]
        gone = [Withdraw(one.request.request_id, one.replica) for one in moving if self._is_with_other(one, replica)]
        actions: list[Action] = [*gone, *self._resume(replica, now_us)]
        for flight in moving:
            if flight.phase is Phase.ASKED:
                actions += self._seek(flight, now_us)
        for flight in list(self._waiting.values()):
            actions += self._seek(flight, now_us)
        return actions

    def on_link_down(self, replica: str, now_us: int) -> list[Action]:
        """A replica's stream broke: its requests go to the others, or are placed by ourselves where there is none."""
        self._replicas.remove(replica)
        lost = [one for one in self._flights.values() if one.replica == replica]
        actions: list[Action] = []
        if self._replicas:
            heirs = {self._replicas.owner(one.request.model) for one in lost if one.phase is Phase.RUNNING}
            actions = [action for heir in sorted(heirs) for action in self._resume(heir, now_us)]
        for flight in lost:
            if flight.phase is Phase.ASKED:
                actions += self._seek(flight, now_us)
        return actions

    def _is_to_move(self, flight: Flight) -> bool:
        """Whether a request that is asked for or runs belongs to another replica than the one that it is with."""
        is_anywhere = flight.phase in (Phase.ASKED, Phase.RUNNING)
        return is_anywhere and flight.replica != self._replicas.owner(flight.request.model)

    def _is_with_other(self, flight: Flight, newcomer: str) -> bool:
        """Whether another replica that is linked has the request in its books."""
        is_known = flight.phase is Phase.ASKED or flight.is_known
        return is_known and flight.replica != newcomer and flight.replica in self._replicas

    def _resume(self, replica: str, now_us: int) -> list[Action]:
        """Tells a replica all that runs and is its own, and what ended while nobody listened."""
        running = [
            one
            for one in self._flights.values()
            if one.phase is Phase.RUNNING and self._replicas.owner(one.request.model) == replica
        ]
        for flight in running:
            flight.is_known, flight.replica = True, replica
            self._leases.tell(flight, now_us)
        mine: list[tuple[OpenLease, End]] = []
        others: list[tuple[OpenLease, End]] = []
        for one in self._undelivered:
            (mine if self._replicas.owner(one[0].request.model) == replica else others).append(one)
        self._undelivered = deque(others, maxlen=_UNDELIVERED_COUNT_MAX)
        # What ended meanwhile is named too, so that the scheduler has a lease to end and learns from its outcome.
        opened = [*(open_lease(one) for one in running), *(lease for lease, _ in mine)]
        return [Resume(tuple(opened), replica), *(replace(ended, to=replica) for _, ended in mine)]

    def on_wake(self, now_us: int) -> list[Action]:
        """Time passed: renew leases, end patience, use room that came free."""
        actions = self._renewals(now_us) if self._replicas else []
        patience_us = int(self._config.placement_timeout_s * US_PER_S)
        for flight in list(self._flights.values()):
            if flight.phase is not Phase.RUNNING and now_us - flight.asked_us >= patience_us:
                actions += self._lose_patience(flight, now_us)
        return [*actions, *self._place_waiting(now_us), WakeAt(now_us + _TICK_US)]

    def _seek(self, flight: Flight, now_us: int) -> list[Action]:
        flight.asked_us = now_us
        if not self._replicas:
            return self._place_here(flight, now_us)
        flight.phase = Phase.ASKED
        self._waiting.pop(flight.request.request_id, None)
        request = flight.request
        flight.replica = self._replicas.owner(request.model)
        if flight.excluded:
            request = replace(request, excluded_instance_ids=frozenset(flight.excluded))
        return [Ask(request, flight.replica)]

    def _place_here(self, flight: Flight, now_us: int) -> list[Action]:
        model, excluded = flight.request.model, flight.excluded
        instance = self._fleet.choose(model, excluded, now_us)
        if instance is not None:
            flight.is_known = False
            return self._start(flight, own_placement(flight, instance), now_us)
        absence = self._fleet.absence(model, excluded)
        if absence is not None:
            return self._refuse(flight, absence, now_us)
        flight.phase = Phase.WAITING
        self._waiting[flight.request.request_id] = flight
        return []

    def _place_waiting(self, now_us: int) -> list[Action]:
        return [action for flight in list(self._waiting.values()) for action in self._place_here(flight, now_us)]

    def _lose_patience(self, flight: Flight, now_us: int) -> list[Action]:
        if flight.phase is Phase.ASKED:
            withdrawal: list[Action] = [Withdraw(flight.request.request_id, flight.replica)] if self._replicas else []
            flight.asked_us = now_us
            return [*withdrawal, *self._place_here(flight, now_us)]
        waited_s = self._config.placement_timeout_s
        error = ResourceExhausted(
            f"every instance of model {flight.request.model!r} was full for {waited_s:g} s; try again later",
            reason="HELD_TOO_LONG",
            retry_after_us=RETRY_AFTER_US,
        )
        return self._refuse(flight, error, now_us)

    def _start(self, flight: Flight, placement: Placement, now_us: int) -> list[Action]:
        flight.phase = Phase.RUNNING
        self._waiting.pop(flight.request.request_id, None)
        flight.placement = placement
        flight.placed_us = now_us
        flight.attempt_count += 1
        if flight.is_known:
            self._leases.opened(flight, now_us)
        self._fleet.take(placement.instance_id)
        return [Attempt(flight.request.request_id, placement)]

    def _release(self, flight: Flight, outcome: Outcome) -> list[Action]:
        """Ends the lease of a running request."""
        if flight.phase is not Phase.RUNNING or flight.placement is None:
            return []
        self._fleet.give_back(flight.placement.instance_id)
        self._leases.drop(flight.request.request_id)
        flight.phase = Phase.ENDED
        if not flight.is_known:
            return []
        lease_id = flight.placement.lease_id
        ended = End(lease_id, outcome, flight.generated_tokens, flight.prompt_tokens, flight.replica)
        if flight.replica in self._replicas:
            return [ended]
        self._undelivered.append((open_lease(flight), ended))
        return []

    def _refuse(self, flight: Flight, error: ForebayError, now_us: int) -> list[Action]:
        if flight.error is not None:
            return self._fail(flight, RequestStatus.FAILED, flight.error, now_us)
        return self._fail(flight, RequestStatus.REJECTED, error, now_us)

    def _fail(self, flight: Flight, status: RequestStatus, error: ForebayError, now_us: int) -> list[Action]:
        return [Fail(flight.request.request_id, error), *self._close(flight, status, now_us, error)]

    def _close(
        self,
        flight: Flight,
        status: RequestStatus,
        now_us: int,
        error: ForebayError | None,
        outcome: Outcome | None = None,
    ) -> list[Action]:
        del self._flights[flight.request.request_id]
        self._waiting.pop(flight.request.request_id, None)
        self._promises.served(flight.request.session, flight.generated_tokens)
        ended = report(flight, status, now_us, error, outcome)
        return [ended, *(() if self._replicas else self._place_waiting(now_us))]

    def _renewals(self, now_us: int) -> list[Action]:
        actions: list[Action] = []
        for flight in self._leases.due(now_us):
            assert flight.placement is not None
            self._leases.tell(flight, now_us)
            actions.append(Renew(flight.placement.lease_id, flight.generated_tokens, flight.replica))
        return actions
