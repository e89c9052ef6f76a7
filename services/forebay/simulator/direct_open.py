"""Direct runs in which nobody hears of finishes: the kernel itself counts what is on its instances."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from forebay.core.units import PS_PER_US
from forebay.core.values import LengthQuantiles, SloClass
from forebay.predictor.engine import PredictorEngine
from forebay.scheduler.leases import remaining_tokens
from forebay.scheduler.policy.router.base import Ints, Router
from forebay.simulator.direct_board import Board, chosen
from forebay.simulator.kernel.base import Kernel, OpenLoop
from forebay.simulator.results import UNKNOWN
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.loop import WATCH_COUNT
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.rows import FAILED, FINISHED, REJECTED


class OpenKernel(Kernel, OpenLoop, Protocol):
    """A kernel that offers open loops."""


class Open:
    """A run with all predictions made before it begins."""

    def __init__(
        self,
        context: Context,
        kernel: OpenKernel,
        requests: Requests,
        predictor: PredictorEngine,
        router: Router,
        boards: dict[str, Board],
        watch: Callable[[int], None],
    ) -> None:
        self._context = context
        self._kernel = kernel
        self._rows = context.rows
        self._requests = requests
        self._router = router
        self._watch = watch
        workload = context.workload
        self._boards = [boards.get(workload.models[index]) for index in workload.model.tolist()]
        self._orders = {id(board): _order(board, len(context.machines.all)) for board in boards.values()}
        self._predicted = _predict(predictor, requests, len(workload))
        self._classes = [SloClass(number) for number in workload.slo_class.tolist()]
        pairs = zip(self._predicted, requests.tokens_max, strict=True)
        weights = [remaining_tokens(quantiles.p50, 0, tokens_max) for quantiles, tokens_max in pairs]
        kernel.load(workload.prompt_tokens, requests.served_tokens, None, weights)

    def run(self) -> None:
        """Places every request in turn, and waits for the last one to end."""
        arrivals_us: list[int] = self._context.workload.arrival_us.tolist()
        arrivals_ps = [arrival_us * PS_PER_US for arrival_us in arrivals_us]
        refused_us = 0
        for row, (now_ps, next_ps) in enumerate(zip(arrivals_ps, [*arrivals_ps[1:], *arrivals_ps[-1:]], strict=True)):
            if not self._arrive(row, now_ps, next_ps):
                refused_us = arrivals_us[row]
            if row % WATCH_COUNT == 0:
                self._watch(row)
        self._kernel.drain()
        self._conclude(arrivals_us, refused_us)

    def _arrive(self, row: int, now_ps: int, next_ps: int) -> bool:
        """Places a request and passes all boundaries until the next one comes; False where it was refused."""
        board = self._boards[row]
        if board is None:
            self._refuse(row, REJECTED, "MODEL_UNKNOWN")
            self._kernel.run(next_ps)
            return False
        predicted, order, loads = self._predicted[row], self._orders[id(board)], self._kernel.loads()
        counts: tuple[Ints, Ints, Ints] = loads
        if order is not None:
            counts = loads.in_flight_count[order], loads.weight[order], loads.prompt_tokens[order]
        view = board.view(counts, self._requests.prompt_tokens[row], predicted, self._classes[row])
        index = chosen(self._router, view)
        board.pass_turn(index)
        rows, number = self._rows, board.numbers[index]
        rows.instance[row] = number
        if not self._kernel.place(number, row, now_ps, next_ps):
            self._refuse(row, FAILED, "REFUSED_BY_MODEL")
            return False
        return True

    def _refuse(self, row: int, status: int, reason: str) -> None:
        self._context.rejections[reason] += 1
        self._rows.ended(row, status)

    def _conclude(self, arrivals_us: list[int], refused_us: int) -> None:
        """Writes down what the kernel knows."""
        rows = self._rows
        first_ps, finish_ps, preempted, lost, gap_ps = self._kernel.times()
        rows.arrival_us = arrivals_us
        rows.first_us = np.where(first_ps < 0, UNKNOWN, first_ps // PS_PER_US).tolist()
        rows.finish_us = np.where(finish_ps < 0, UNKNOWN, finish_ps // PS_PER_US).tolist()
        rows.preemption_count = preempted.tolist()
        rows.lost_tokens = lost.tolist()
        rows.gap_us = (gap_ps // PS_PER_US).tolist()
        rows.attempt_count = [int(number >= 0) for number in rows.instance]
        for row, (number, predicted) in enumerate(zip(rows.instance, self._predicted, strict=True)):
            if number >= 0:
                rows.predicted(row, predicted)
            if rows.finish_us[row] >= 0:
                rows.ended(row, FINISHED)
        self._context.reach(max(int(finish_ps.max(initial=0)), refused_us * PS_PER_US))


def _predict(predictor: PredictorEngine, requests: Requests, count: int) -> Sequence[LengthQuantiles]:
    answering = predictor.on_queries([requests.request(row, f"r{row}") for row in range(count)])
    while count and not answering.step():
        pass
    pairs = zip(answering.predictions, requests.tokens_max, strict=True)
    return [prediction.quantiles.capped(tokens_max) for prediction, tokens_max in pairs]


def _order(board: Board, count: int) -> Ints | None:
    """Where the kernel has the board's instances; None where it has them in the same order and no others."""
    numbers = list(board.numbers)
    return None if numbers == list(range(count)) else np.array(numbers, dtype=np.int64)
