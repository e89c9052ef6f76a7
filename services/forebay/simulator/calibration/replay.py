"""A measured run through the instance model: predicted token times, and who shared which iteration."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.core.instance import EngineFlags, EngineProfile, EngineRequest, InstanceModel
from forebay.core.instance.batcher import Batcher, BatchPlan, BatchView, make_batcher
from forebay.core.units import PS_PER_S
from forebay.simulator.calibration.runs import Floats, Ints, Run

END_PS = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What the model makes of a run, a row a request; seconds from the run's start, the frontend's time included.

    `shape` has a row an iteration (`constants.SHAPE`), which begins at `start_s` and ends at `end_s`; request i reached
    its first token at the end of iteration `first_iteration[i]` and its last at that of `last_iteration[i]`.
    """

    arrival_s: Floats
    first_s: Floats
    last_s: Floats
    shape: Floats
    start_s: Floats
    end_s: Floats
    first_iteration: Ints
    last_iteration: Ints


def replay(run: Run, profile: EngineProfile, flags: EngineFlags, batcher: str = "chunked_prefill") -> Replay:
    """Sends the requests of `run` to one instance; raises ConfigError for one that can never run there."""
    recorder = _Recorder(make_batcher(batcher))
    model = InstanceModel(profile, flags, recorder)
    state = _Progress(run, profile, model, recorder)
    state.play()
    frontend_s = profile.frontend_ps / PS_PER_S
    starts, ends = np.array(recorder.starts_ps), np.array(state.ends_ps)
    return Replay(
        arrival_s=state.arrival_ps / PS_PER_S,
        first_s=state.first_ps / PS_PER_S + frontend_s,
        last_s=state.last_ps / PS_PER_S + frontend_s,
        shape=np.array(recorder.shape, dtype=float).reshape(-1, 4),
        start_s=starts / PS_PER_S,
        end_s=ends / PS_PER_S,
        first_iteration=np.searchsorted(ends, state.first_ps),
        last_iteration=np.searchsorted(ends, state.last_ps),
    )


class _Recorder:
    """A batcher that notes the shape of every iteration that another one plans."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.now_ps = 0
        self.starts_ps: list[int] = []
        self.shape: list[tuple[int, int, int, int]] = []

    def plan(self, view: BatchView) -> BatchPlan:
        """The other's plan."""
        plan = self._batcher.plan(view)
        self.starts_ps.append(self.now_ps)
        decoding = frozenset(plan.decodes)
        cached = {s.request_id: s.cached_tokens for s in view.running}
        cached |= {s.request_id: s.hit_tokens for s in view.waiting if s.request_id not in cached}
        chunks = [(chunk.tokens, cached[chunk.request_id]) for chunk in plan.chunks]
        context = sum(cached[request_id] for request_id in decoding)
        pairs = sum(tokens * (2 * before + tokens + 1) for tokens, before in chunks)
        self.shape.append((len(decoding), context, sum(tokens for tokens, _ in chunks), pairs))
        return plan


class _Progress:
    """A run in progress: arrivals in order, those of closed loops as the rows before them end."""

    def __init__(self, run: Run, profile: EngineProfile, model: InstanceModel, recorder: _Recorder) -> None:
        self._run, self._profile, self._model, self._recorder = run, profile, model, recorder
        self.arrival_ps = np.rint(run.arrival_s * PS_PER_S).astype(np.int64)
        self.first_ps = np.zeros(len(run), dtype=np.int64)
        self.last_ps = np.zeros(len(run), dtype=np.int64)
        self.ends_ps: list[int] = []
        self._next_of = _successors(run)
        heads = set(range(len(run))) - set(self._next_of.values())
        self._due = sorted((int(self.arrival_ps[row]), row) for row in heads)

    def play(self) -> None:
        while self._due or self._model.next_ps is not None:
            boundary_ps = END_PS if self._model.next_ps is None else self._model.next_ps
            if self._due and self._due[0][0] < boundary_ps:
                self._arrive(*heapq.heappop(self._due))
            else:
                self._pass(boundary_ps)

    def _arrive(self, at_ps: int, row: int) -> None:
        run = self._run
        prompt_tokens, output_tokens = int(run.prompt_tokens[row]), int(run.output_tokens[row])
        request = EngineRequest(str(row), prompt_tokens, output_tokens, int(run.hit_tokens[row]))
        self._recorder.now_ps = at_ps
        self.arrival_ps[row] = at_ps
        if not self._model.arrive(request, at_ps):
            raise ConfigError(f"{run.name}, request {row + 1}: {self._model.refusal(request)}; give larger limits")

    def _pass(self, at_ps: int) -> None:
        self.ends_ps.append(at_ps)
        self._recorder.now_ps = at_ps
        for event in self._model.advance(at_ps):
            row = int(event.request_id)
            if event.token_count == 1:
                self.first_ps[row] = at_ps
            if event.finished:
                self._finish(row, at_ps)

    def _finish(self, row: int, at_ps: int) -> None:
        self.last_ps[row] = at_ps
        after = self._next_of.get(row)
        if after is not None:
            pause_s = self._run.arrival_s[after] - self._run.last_s[row]
            heard_ps = at_ps + self._profile.frontend_ps
            heapq.heappush(self._due, (max(at_ps, heard_ps + round(pause_s * PS_PER_S)), after))


def _successors(run: Run) -> dict[int, int]:
    """The row that each row of a closed loop sets off."""
    return dict(pair for client in set(run.client.tolist()) - {-1} for pair in _pairs(run.client, client))


def _pairs(clients: npt.NDArray[np.int64], client: int) -> Iterator[tuple[int, int]]:
    rows = np.flatnonzero(clients == client).tolist()
    yield from pairwise(rows)
