"""The instances of a direct run as routers see them."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.core.values import Instance, LengthQuantiles, SloClass
from forebay.scheduler.policy.puller.base import UNLIMITED
from forebay.scheduler.policy.router.base import KV_TOKENS_UNKNOWN, Hold, Ints, Observed, Router, RouteView
from forebay.simulator.shell.context import Context

N = TypeVar("N", bound=np.generic)


class Board:
    """The instances of one model in the order of their ids; `numbers` are theirs in the kernel.

    All are ready, have no cap, and were never seen from outside, as a scheduler's lanes are where nobody watches.
    """

    def __init__(self, instances: Sequence[Instance], numbers: Sequence[int]) -> None:
        count = len(instances)
        self.ids = tuple(one.instance_id for one in instances)
        self.numbers = numbers
        self.turn_index = 0
        zeros = frozen(np.zeros(count, dtype=np.int64))
        nothing = frozen(np.zeros(count, dtype=np.bool_))
        room = frozen(np.array([one.kv_tokens_max or KV_TOKENS_UNKNOWN for one in instances], dtype=np.int64))
        self._caps = frozen(np.full(count, UNLIMITED, dtype=np.int32))
        self._everyone = frozen(np.ones(count, dtype=np.bool_))
        self._observed = Observed(nothing, zeros, zeros, frozen(np.zeros(count, dtype=np.float64)), room)

    def view(
        self,
        counts: tuple[Ints, Ints, Ints],
        prompt_tokens: int,
        predicted: LengthQuantiles,
        slo_class: SloClass,
    ) -> RouteView:
        """What a router sees for a request.

        `counts` are requests, predicted and prompt tokens by instance; nobody tells progress, so no prompt is done.
        """
        in_flight, tokens, prompt = counts
        return RouteView(
            self.ids,
            self._everyone,
            len(self.ids),
            self._caps,
            in_flight,
            tokens,
            prompt,
            prompt,
            in_flight,
            prompt,
            self._observed,
            self.turn_index,
            prompt_tokens,
            predicted,
            slo_class,
        )

    def pass_turn(self, index: int) -> None:
        """A request was placed: a rotation goes on with the next instance."""
        self.turn_index = (index + 1) % len(self.ids)


def chosen(router: Router, view: RouteView) -> int:
    """Where the router sends a request; raises ConfigError where it would hold it, since nothing waits here."""
    route = router.route(view)
    if isinstance(route, Hold):
        raise ConfigError(f"the router holds requests ({route.reason}), which direct runs cannot: set direct = false")
    return route.index


def boards_of(instances: Sequence[Instance], context: Context) -> dict[str, Board]:
    """A board for each model."""
    numbers = {machine.instance_id: machine.number for machine in context.machines}
    boards = {}
    for model in dict.fromkeys(one.model for one in instances):
        mine = sorted((one for one in instances if one.model == model), key=lambda one: one.instance_id)
        boards[model] = Board(mine, [numbers[one.instance_id] for one in mine])
    return boards


def frozen(array: npt.NDArray[N]) -> npt.NDArray[N]:
    """A read-only window on the array."""
    shown = array.view()
    shown.setflags(write=False)
    return shown
