"""Policies that are asked beside the active ones and decide nothing: how often they differ, and what it would cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from forebay.core.scheduling import ShadowCost, ShadowRow, ShadowStatus
from forebay.core.units import US_PER_S
from forebay.scheduler.policy import Cast
from forebay.scheduler.policy.admission.base import Admission, AdmissionView, Admitted, Later, Never
from forebay.scheduler.policy.orderer.base import Orderer
from forebay.scheduler.policy.router.base import Hold, Route, Router, RouteView
from forebay.scheduler.queue import Held, HeldQueue

Others = tuple[tuple[str, int], ...]
"""Which instance each shadow would have chosen, -1 where it would have held the request."""


class Unit(NamedTuple):
    """What a cost is called and counted in; positive is worse for the request or for those behind it."""

    name: str
    unit: str


COSTS: Mapping[str, tuple[Unit, ...]] = {
    "router": (Unit("work ahead of the request", "tokens"), Unit("the active router's score", "score")),
    "orderer": (Unit("predicted answer of who goes first", "tokens"), Unit("waiting that goes on", "s")),
    "admission": (Unit("refused", "share"),),
}
"""What the other choice would cost more, by kind, on average over all that were compared."""


@dataclass(slots=True)
class Tally:
    """What was compared of one kind and model."""

    compared_count: int = 0
    different_count: int = 0
    sums: list[float] = field(default_factory=list)

    def add(self, *more: float) -> None:
        """Takes one comparison that came out differently."""
        self.different_count += 1
        self.sums = [before + new for before, new in zip(self.sums or [0.0] * len(more), more, strict=True)]


@dataclass(slots=True)
class Shadow:
    """The policies of one shadow by kind, and what came of them."""

    name: str
    policies: Mapping[str, Any]
    names: Mapping[str, str]
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)

    def compared(self, kind: str, model: str) -> Tally:
        """Counts a comparison."""
        tally = self.tallies.setdefault((kind, model), Tally())
        tally.compared_count += 1
        return tally


class Shadows:
    """All shadows; asking them changes nothing but their own tallies and draws.

    They see what the active policies see: the load is the one that those have made, not the one that a shadow would
    have made.
    """

    def __init__(self, casts: Mapping[str, Cast]) -> None:
        self._all = [Shadow(name, cast.policies, cast.names) for name, cast in sorted(casts.items())]
        self._waiting_us = -1
        self._waiting: set[str] = set()

    def statuses(self) -> list[ShadowStatus]:
        """What is known of each, by name."""
        return [_status(shadow) for shadow in self._all]

    def routed(self, model: str, view: RouteView, route: Route) -> Others:
        """Compares where a request goes."""
        if not self._all:
            return ()
        return tuple(
            (shadow.name, _reroute(shadow, shadow.policies["router"], model, view, route))
            for shadow in self._all
            if "router" in shadow.policies
        )

    def waits(self, held: Held, view: RouteView) -> None:
        """Compares once, when it comes, that a request waits by the router's will; one that would place it differs."""
        if view.now_us != held.arrived_us or not self._all:
            return
        if view.now_us != self._waiting_us:
            self._waiting_us, self._waiting = view.now_us, set()
        if held.request.request_id in self._waiting:
            return
        self._waiting.add(held.request.request_id)
        model = held.request.model
        for shadow in self._all:
            if "router" in shadow.policies:
                tally, other = shadow.compared("router", model), shadow.policies["router"].route(view)
                if not isinstance(other, Hold):
                    tally.add(0.0, 0.0)

    def taken(self, model: str, queue: HeldQueue, held: Held, now_us: int) -> None:
        """Compares who goes first of those that wait."""
        for shadow in self._all:
            if "orderer" in shadow.policies:
                _reorder(shadow.compared("orderer", model), shadow.policies["orderer"], queue, held, now_us)

    def judged(self, model: str, view: AdmissionView, said: Admitted | Later | Never) -> None:
        """Compares who enters."""
        for shadow in self._all:
            if "admission" in shadow.policies:
                _readmit(shadow.compared("admission", model), shadow.policies["admission"], view, said)


def _reroute(shadow: Shadow, router: Router, model: str, view: RouteView, route: Route) -> int:
    tally, other = shadow.compared("router", model), router.route(view)
    if isinstance(other, Hold):
        tally.add(0.0, 0.0)
        return -1
    if other.index != route.index:
        tally.add(
            _ahead(view, other.index) - _ahead(view, route.index),
            float(route.scores[other.index]) - float(route.scores[route.index]),
        )
    return other.index


def _ahead(view: RouteView, index: int) -> float:
    return float(view.predicted_tokens[index] + view.prompt_tokens_pending[index])


def _reorder(tally: Tally, orderer: Orderer, queue: HeldQueue, held: Held, now_us: int) -> None:
    other = queue.first(orderer, now_us)
    if other is not held:
        tally.add(other.quantiles.p50 - held.quantiles.p50, (other.arrived_us - held.arrived_us) / US_PER_S)


def _readmit(tally: Tally, admission: Admission, view: AdmissionView, said: Admitted | Later | Never) -> None:
    other = admission.admit(view)
    if type(other) is not type(said):
        tally.add(float(isinstance(said, Admitted)) - float(isinstance(other, Admitted)))


def _status(shadow: Shadow) -> ShadowStatus:
    rows = [_row(kind, model, tally) for (kind, model), tally in sorted(shadow.tallies.items())]
    return ShadowStatus(shadow.name, shadow.names, tuple(rows))


def _row(kind: str, model: str, tally: Tally) -> ShadowRow:
    means = [total / tally.compared_count for total in tally.sums] or [0.0] * len(COSTS[kind])
    costs = tuple(ShadowCost(*unit, mean) for unit, mean in zip(COSTS[kind], means, strict=True))
    return ShadowRow(kind, model, tally.compared_count, tally.different_count, costs)
