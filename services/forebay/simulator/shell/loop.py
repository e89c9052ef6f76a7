"""Virtual time: the next boundary, timed call or arrival, whichever comes first, until all requests have ended."""

from collections.abc import Callable, Sequence
from typing import Protocol

from forebay.core.units import PS_PER_US, US_PER_S
from forebay.simulator.shell.agenda import NEVER_PS
from forebay.simulator.shell.clients import Clients
from forebay.simulator.shell.context import Context

WATCH_COUNT = 1_000
"""Who watches a run hears of it about every so many requests."""


class Listener(Protocol):
    """Who hears of finished answers."""

    def finished(self, rows: Sequence[int]) -> None:
        """The instances ended these answers at the clock's time."""
        ...


class Simulation:
    """Moves the clock. At one instant come boundaries (lowest instance first), timed calls in the order in which they
    were entered, then arrivals in the order of the trace."""

    def __init__(
        self,
        context: Context,
        clients: Clients,
        gateway: Listener,
        watch: Callable[[int], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._context = context
        self._clients = clients
        self._gateway = gateway
        self._watch = watch
        self._check = check
        horizon_us = round(context.world.horizon_s * US_PER_S)
        self._horizon_ps = horizon_us * PS_PER_US or NEVER_PS
        self._row_count = len(context.workload)
        self._watched = 0

    def run(self) -> None:
        """Runs until every row has its answer or the horizon is reached."""
        context, kernel, clients, agenda = self._context, self._context.kernel, self._clients, self._context.agenda
        rows, count = context.rows, self._row_count
        while rows.ended_count < count:
            until_ps = min(clients.next_ps, agenda.next_ps, self._horizon_ps)
            finished = kernel.advance(until_ps)
            if len(finished):
                context.reach(kernel.now_ps)
                self._gateway.finished(finished)
                self._look()
                continue
            context.reach(until_ps)
            if until_ps == agenda.next_ps:
                agenda.pop()()
            elif until_ps == clients.next_ps:
                clients.send()
            else:
                return
            self._look()

    def _look(self) -> None:
        """Who watches may look at the run between two events."""
        if self._check is not None:
            self._check()
        ended = self._context.rows.ended_count
        if self._watch is not None and ended - self._watched >= WATCH_COUNT:
            self._watched = ended
            self._watch(ended)
