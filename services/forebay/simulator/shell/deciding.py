"""The processor that the scheduler decides on: answers take effect once it had the time for them."""

from collections.abc import Sequence
from functools import partial

from forebay.core.scheduling import Placement, Rejected, Retry
from forebay.core.units import PS_PER_US, US_PER_MS
from forebay.core.values import Instance
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.ports import Answers


class Deciding:
    """Stands between scheduler and gateway. Every answer takes `[network] decision_ms` of one processor, in the order
    in which they are given, so a scheduler that is asked too much falls behind; news of the fleet take none.

    What a decision rests on is what was known when it was asked for, as the engine answers at once.
    """

    def __init__(self, context: Context, gateway: Answers) -> None:
        self._context = context
        self._gateway = gateway
        self._decision_ps = round(context.world.network.decision_ms * US_PER_MS * PS_PER_US)
        self._free_ps = 0

    def placed(self, placement: Placement) -> None:
        """A request may go to an instance."""
        self._after(partial(self._gateway.placed, placement))

    def refused(self, answer: Rejected | Retry) -> None:
        """A request got a no."""
        self._after(partial(self._gateway.refused, answer))

    def fleet(self, instances: Sequence[Instance]) -> None:
        """The fleet as the scheduler sees it."""
        self._gateway.fleet(instances)

    def _after(self, call: partial[None]) -> None:
        self._free_ps = max(self._free_ps, self._context.now_ps) + self._decision_ps
        self._context.agenda.at(self._free_ps, call)
