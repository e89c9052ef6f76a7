"""Direct runs in which every finish is heard."""

from collections.abc import Callable

import numpy as np

from forebay.core.units import PS_PER_US
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.scheduler.actions import Observe
from forebay.scheduler.histogram import Histogram
from forebay.scheduler.leases import remaining_tokens
from forebay.scheduler.placing import TRITON_PRIORITY
from forebay.scheduler.policy.router.base import Router
from forebay.simulator.direct_board import Board, chosen, frozen
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.loop import WATCH_COUNT
from forebay.simulator.shell.ports import Lengths
from forebay.simulator.shell.predicting import NoPredictor
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.rows import FAILED, FINISHED, REJECTED


class _Tally:
    """What is counted of each instance of a model; `shown` are read-only windows, good until the next change."""

    def __init__(self, count: int) -> None:
        counts = np.zeros((3, count), dtype=np.int64)
        # A memoryview reads and writes one number in half the time that an array takes.
        self._in_flight, self._tokens, self._prompt = (row.data for row in counts)
        in_flight, tokens, prompt = frozen(counts)
        self.shown = in_flight, tokens, prompt

    def add(self, index: int, count: int, prompt_tokens: int, tokens: int) -> None:
        """Counts requests that are placed, or that end where negative."""
        self._in_flight[index] += count
        self._prompt[index] += prompt_tokens
        self._tokens[index] += tokens


class _Placed:
    """A request that runs, with what is counted for it."""

    __slots__ = ("index", "predicted", "predicted_by", "request", "tally", "tokens")

    def __init__(
        self, tally: _Tally, index: int, request: InferenceRequest, predicted: LengthQuantiles, predicted_by: str
    ) -> None:
        self.tally = tally
        self.index = index
        self.request = request
        self.predicted = predicted
        self.predicted_by = predicted_by
        self.tokens = remaining_tokens(predicted.p50, 0, request.tokens_max)


class Heard:
    """A run of which every finish is heard as it comes, for predictors that learn from it."""

    def __init__(
        self,
        context: Context,
        requests: Requests,
        lengths: Lengths,
        router: Router,
        boards: dict[str, Board],
        watch: Callable[[int], None],
    ) -> None:
        self._context = context
        self._rows = context.rows
        self._requests = requests
        self._lengths = lengths
        self._router = router
        self._boards = boards
        self._tallies = {model: _Tally(len(board.ids)) for model, board in boards.items()}
        self._watch = watch
        self._histogram = Histogram() if isinstance(lengths, NoPredictor) else None
        self._given: LengthPrediction | None = None
        self._placed: dict[int, _Placed] = {}

    def run(self) -> None:
        """Places every request in turn, and waits for the last one to end."""
        context, rows = self._context, self._context.rows
        for row, arrival_us in enumerate(context.workload.arrival_us.tolist()):
            self._pass(arrival_us * PS_PER_US)
            self._arrive(row)
            if row % WATCH_COUNT == 0:
                self._watch(rows.ended_count)
        self._drain()

    def _pass(self, until_ps: int) -> None:
        """All that happens up to a time."""
        agenda = self._context.agenda
        while agenda.next_ps <= until_ps:
            self._advance(agenda.next_ps)
            agenda.pop()()
        self._advance(until_ps)

    def _advance(self, until_ps: int) -> None:
        advance = self._context.kernel.advance
        while rows := advance(until_ps):
            for row in rows:
                self._end(row)
        self._context.reach(until_ps)

    def _drain(self) -> None:
        """The rest of the run: nobody arrives any more."""
        context, kernel, agenda = self._context, self._context.kernel, self._context.agenda
        while context.rows.ended_count < len(context.workload):
            rows = kernel.advance(agenda.next_ps)
            context.reach(kernel.now_ps)
            for row in rows:
                self._end(row)
            if not rows:
                agenda.pop()()

    def _predict(self, request: InferenceRequest) -> tuple[LengthQuantiles, str]:
        """What the predictor says, at once, or the scheduler's histogram where there is none; and by whom."""
        if self._histogram is not None:
            self._given = self._histogram.predict(request.model, request.prompt_tokens)
        else:
            self._lengths.ask(request, self._take)
        assert self._given is not None, "without delay a predictor answers before it returns"
        return self._given.quantiles.capped(request.tokens_max), self._given.predicted_by

    def _take(self, prediction: LengthPrediction | None) -> None:
        self._given = prediction

    def _arrive(self, row: int) -> None:
        rows, requests = self._rows, self._requests
        rows.arrival_us[row] = self._context.now_us
        request = requests.request(row, f"r{row}")
        board = self._boards.get(request.model)
        if board is None:
            self._refuse(row, REJECTED, "MODEL_UNKNOWN")
            return
        predicted, by = self._predict(request)
        rows.predicted(row, predicted)
        tally = self._tallies[request.model]
        view = board.view(tally.shown, request.prompt_tokens, predicted, request.slo_class)
        self._place(row, board, _Placed(tally, chosen(self._router, view), request, predicted, by))

    def _place(self, row: int, board: Board, placed: "_Placed") -> None:
        rows, context, request = self._rows, self._context, placed.request
        number = board.numbers[placed.index]
        rows.attempt_count[row], rows.instance[row] = 1, number
        board.pass_turn(placed.index)
        prompt_tokens, served_tokens = request.prompt_tokens, self._requests.served_tokens[row]
        lengths = (prompt_tokens, served_tokens, 0, request.tokens_max)
        if not context.kernel.arrive(number, row, *lengths, context.now_ps, TRITON_PRIORITY[request.slo_class]):
            self._refuse(row, FAILED, "REFUSED_BY_MODEL")
            return
        placed.tally.add(placed.index, 1, prompt_tokens, placed.tokens)
        self._placed[row] = placed

    def _refuse(self, row: int, status: int, reason: str) -> None:
        self._context.rejections[reason] += 1
        self._rows.ended(row, status)

    def _end(self, row: int) -> None:
        """The row's last token has appeared."""
        rows, kernel, placed = self._rows, self._context.kernel, self._placed.pop(row)
        request, tokens = placed.request, self._requests.served_tokens[row]
        placed.tally.add(placed.index, -1, -request.prompt_tokens, -placed.tokens)
        rows.first_us[row] = kernel.first_ps(row) // PS_PER_US
        rows.finish_us[row] = kernel.finish_ps(row) // PS_PER_US
        rows.preemption_count[row] = kernel.preemption_count(row)
        rows.lost_tokens[row] = kernel.lost_tokens(row)
        rows.gap_us[row] = kernel.gap_ps(row) // PS_PER_US
        rows.ended(row, FINISHED)
        if self._histogram is None:
            is_cut = self._requests.is_cut(row)
            self._lengths.observe(Observe(request, placed.predicted, tokens, is_cut, placed.predicted_by))
        else:
            self._histogram.observe(request.model, request.prompt_tokens, tokens)
