"""The fast lane for comparing routers: a fixed fleet, every request placed at once, no service but a router."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.core.units import PS_PER_US
from forebay.core.values import InferenceRequest, Instance, LengthPrediction, LengthQuantiles
from forebay.gateway.config import Config as GatewayConfig
from forebay.scheduler.actions import Observe
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.histogram import Histogram
from forebay.scheduler.leases import remaining_tokens
from forebay.scheduler.placing import TRITON_PRIORITY
from forebay.scheduler.policy.puller.base import UNLIMITED
from forebay.scheduler.policy.router.base import KV_TOKENS_UNKNOWN, Observed, Router, RouteView
from forebay.simulator.config import World
from forebay.simulator.kernel import make_kernel
from forebay.simulator.parts import Scenario, lengths_of, policies_of, predictor_of, result_of
from forebay.simulator.profiles import profile_of
from forebay.simulator.results import RunResult
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.ports import Lengths
from forebay.simulator.shell.predicting import NoPredictor
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.rows import FAILED, FINISHED, REJECTED
from forebay.simulator.shell.standing import start_all

N = TypeVar("N", bound=np.generic)

WATCH_COUNT = 1_000


def simulate_direct(
    scenario: Scenario, *, kernel: str = "fast", watch: Callable[[int], None] = lambda _: None
) -> RunResult:
    """Gives what `simulate` gives where admission is open, the puller unlimited and nothing takes time but the engines,
    where nobody watches the instances and nobody reports progress; several times as fast.

    The autoscaler and gateway of the arm are left out. Raises ConfigError for a scenario that needs more than this.
    """
    config = from_mapping(SchedulerConfig, scenario.policy.scheduler, "scheduler")
    _refuse_more(scenario, config)
    workload = scenario.workload
    context = Context(workload, scenario.world, make_kernel(len(workload), kernel), profile_of, scenario.seed)
    requests = Requests(workload, from_mapping(GatewayConfig, scenario.policy.gateway, "gateway").prompt_head_bytes)
    lengths = lengths_of(context, scenario, predictor_of(scenario), config)
    boards = _boards(start_all(context), context)
    lengths.begin()
    _Direct(context, requests, lengths, policies_of(config).router, boards, watch).run()
    return result_of(scenario, context, requests)


def _refuse_more(scenario: Scenario, config: SchedulerConfig) -> None:
    """Raises ConfigError where the scenario has what this lane leaves out."""
    world = scenario.world
    for holds, what in (
        (config.admission == "open", 'set admission = "open" in [scheduler]'),
        (config.puller == "unlimited", 'set puller = "unlimited" in [scheduler]'),
        (not len(scenario.workload.parents), "the workload has closed loops"),
        (not world.faults and not world.spot.reclaims_per_hour, "the world has [[faults]] or [spot] reclaims"),
        (not _takes_time(world), "[network] and frontend_ms take time"),
        (not world.engine.prefix_cache_tokens, "[engine] has a prefix cache"),
        (not world.engine.model_tokens_max, "[engine] has model_tokens_max"),
        (not world.horizon_s, "the world has a horizon_s"),
    ):
        if not holds:
            raise ConfigError(f"a direct run cannot do this: {what}; use simulate")


def _takes_time(world: World) -> bool:
    network = world.network
    far = any(group.region != "local" for group in world.groups) and (network.remote_ms or network.routes)
    return bool(network.local_ms or network.prediction_ms or world.engine.frontend_ms or far)


class _Board:
    """The instances of one model as routers see them, in the order of their ids.

    What routers are shown are windows on the counts: good for the one call, and read-only.
    """

    def __init__(self, instances: list[Instance], numbers: dict[str, int]) -> None:
        instances.sort(key=lambda one: one.instance_id)
        count = len(instances)
        self.ids = tuple(one.instance_id for one in instances)
        self.numbers = [numbers[instance_id] for instance_id in self.ids]
        self.turn_index = 0
        counts = np.zeros((3, count), dtype=np.int64)
        # A memoryview reads and writes one number in half the time that an array takes.
        self.in_flight, self.tokens, self.prompt = (row.data for row in counts)
        shown = _frozen(counts)
        zeros = _frozen(np.zeros(count, dtype=np.int64))
        room = _frozen(np.array([one.kv_tokens_max or KV_TOKENS_UNKNOWN for one in instances], dtype=np.int64))
        caps = _frozen(np.full(count, UNLIMITED, dtype=np.int32))
        everyone = _frozen(np.ones(count, dtype=np.bool_))
        nothing = _frozen(np.zeros(count, dtype=np.bool_))
        observed = Observed(nothing, zeros, zeros, _frozen(np.zeros(count, dtype=np.float64)), room)
        in_flight, tokens, prompt = shown
        self._shown = (self.ids, everyone, count, caps, in_flight, tokens, prompt, prompt, in_flight, prompt, observed)

    def view(self, request: InferenceRequest, predicted: LengthQuantiles) -> RouteView:
        """What a router sees for the request."""
        return RouteView(*self._shown, self.turn_index, request.prompt_tokens, predicted, request.slo_class)

    def add(self, index: int, count: int, prompt_tokens: int, tokens: int) -> None:
        """Counts requests that are placed, or that end where negative."""
        self.in_flight[index] += count
        self.prompt[index] += prompt_tokens
        self.tokens[index] += tokens

    def pass_turn(self, index: int) -> None:
        """A request was placed: a rotation goes on with the next instance."""
        self.turn_index = (index + 1) % len(self.ids)


def _boards(instances: list[Instance], context: Context) -> dict[str, _Board]:
    numbers = {machine.instance_id: machine.number for machine in context.machines}
    models = dict.fromkeys(one.model for one in instances)
    return {model: _Board([one for one in instances if one.model == model], numbers) for model in models}


def _frozen(array: npt.NDArray[N]) -> npt.NDArray[N]:
    """A read-only window on the array."""
    shown = array.view()
    shown.setflags(write=False)
    return shown


class _Direct:
    """One direct run."""

    def __init__(
        self,
        context: Context,
        requests: Requests,
        lengths: Lengths,
        router: Router,
        boards: dict[str, _Board],
        watch: Callable[[int], None],
    ) -> None:
        self._context = context
        self._rows = context.rows
        self._requests = requests
        self._lengths = lengths
        self._router = router
        self._boards = boards
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

    def _predict(self, request: InferenceRequest) -> LengthQuantiles:
        """What the predictor says, at once, or the scheduler's histogram where there is none."""
        if self._histogram is not None:
            self._given = self._histogram.predict(request.model, request.prompt_tokens)
        else:
            self._lengths.ask(request, self._take)
        assert self._given is not None, "without delay a predictor answers before it returns"
        return self._given.quantiles.capped(request.tokens_max)

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
        predicted = self._predict(request)
        rows.predicted(row, predicted)
        index = self._router.route(board.view(request, predicted)).index
        self._place(row, _Placed(board, index, request, predicted))

    def _place(self, row: int, placed: "_Placed") -> None:
        rows, context, request, board = self._rows, self._context, placed.request, placed.board
        number = board.numbers[placed.index]
        rows.attempt_count[row], rows.instance[row] = 1, number
        board.pass_turn(placed.index)
        prompt_tokens, served_tokens = request.prompt_tokens, self._requests.served_tokens[row]
        lengths = (prompt_tokens, served_tokens, 0, request.tokens_max)
        if not context.kernel.arrive(number, row, *lengths, context.now_ps, TRITON_PRIORITY[request.slo_class]):
            self._refuse(row, FAILED, "REFUSED_BY_MODEL")
            return
        board.add(placed.index, 1, prompt_tokens, placed.tokens)
        self._placed[row] = placed

    def _refuse(self, row: int, status: int, reason: str) -> None:
        self._context.rejections[reason] += 1
        self._rows.ended(row, status)

    def _end(self, row: int) -> None:
        """The row's last token has appeared."""
        rows, kernel, placed = self._rows, self._context.kernel, self._placed.pop(row)
        request, tokens = placed.request, self._requests.served_tokens[row]
        placed.board.add(placed.index, -1, -request.prompt_tokens, -placed.tokens)
        rows.first_us[row] = kernel.first_ps(row) // PS_PER_US
        rows.finish_us[row] = kernel.finish_ps(row) // PS_PER_US
        rows.preemption_count[row] = kernel.preemption_count(row)
        rows.ended(row, FINISHED)
        if self._histogram is None:
            self._lengths.observe(Observe(request, placed.predicted, tokens, self._requests.is_cut(row)))
        else:
            self._histogram.observe(request.model, request.prompt_tokens, tokens)


class _Placed:
    """A request that runs, with what is counted for it."""

    __slots__ = ("board", "index", "predicted", "request", "tokens")

    def __init__(self, board: _Board, index: int, request: InferenceRequest, predicted: LengthQuantiles) -> None:
        self.board = board
        self.index = index
        self.request = request
        self.predicted = predicted
        self.tokens = remaining_tokens(predicted.p50, 0, request.tokens_max)
