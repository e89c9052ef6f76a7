"""The most gain of service a unit of time, among requests of similar length."""

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.core.instance.batcher.base import BatchPlan, BatchView, SequenceView
from forebay.core.instance.batcher.estimates import expected_tokens, prefill_ps
from forebay.core.instance.batcher.filling import Filling
from forebay.core.units import PS_PER_US

RATIO_MIN = 1e-6


@dataclass(frozen=True, slots=True)
class Tempo:
    """GMAX of Tempo = JITServe (NSDI'26, arXiv 2504.20068; density as in its public code, the window from its text).

    Density is gain / remaining time. A prompt token is worth 1 and one of the answer `answer_weight`; what comes late
    is worth less, by ratio = (due / expected end) ** `penalty`, from 1e-6 to 1: the prompt by when the first token is
    due, the answer by when its last one is. Without promises nothing is late. The time a token takes is that of an
    iteration of those who decode now.

    Of all, the `spare` * B of the greatest density are sorted by length, and the B neighbours with the greatest sum go
    first, by density, B being as many of the densest as memory and seats hold. The others fill what is left. More than
    `evictions_max` evictions in one iteration are not made for it: then those who run go first.
    """

    answer_weight: float = 8.0
    penalty: float = 2.0
    spare: float = 1.5
    evictions_max: int = 4
    tokens_default: int = 256

    def __post_init__(self) -> None:
        if min(self.answer_weight, self.penalty, self.tokens_default) <= 0 or self.spare < 1 or self.evictions_max < 0:
            raise ValueError("answer_weight, penalty and tokens_default must be positive, spare at least 1")

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration for `view`."""
        token_ps = _token_ps(view)
        density = {one.request_id: self.density(one, view, token_ps) for one in (*view.running, *view.waiting)}
        order = sorted((*view.running, *view.waiting), key=lambda one: (-density[one.request_id], one.rank))
        chosen = {one.request_id for one in self._window(order, density, view)}
        order.sort(key=lambda one: one.request_id not in chosen)
        planned = Filling(view).take_all(order).plan() if not view.flags.no_evict else None
        if planned is None or len(planned.preempted) > self.evictions_max:
            planned = Filling(view).take_all(sorted(order, key=lambda one: one.block_count == 0)).plan()
        return planned

    def density(self, sequence: SequenceView, view: BatchView, token_ps: int) -> float:
        """The gain that a request still brings, over the time that it still needs."""
        hints, now_ps = sequence.hints, view.now_ps
        left_tokens = expected_tokens(sequence, self.tokens_default) - sequence.generated_tokens
        prompt_ps = prefill_ps(sequence, view.profile)
        remaining_ps = prompt_ps + left_tokens * token_ps
        whole_ps = hints.ttft_slo_us * PS_PER_US + hints.tpot_slo_us * PS_PER_US * (
            left_tokens + sequence.generated_tokens
        )
        answer_due_ps = sequence.arrived_ps + whole_ps if hints.tpot_slo_us else 0
        gain = self.answer_weight * left_tokens * self._ratio(sequence, answer_due_ps, now_ps + remaining_ps)
        if not sequence.generated_tokens:
            prompt_tokens = sequence.target_tokens
            gain += prompt_tokens * self._ratio(sequence, sequence.due_ps, now_ps + prompt_ps + token_ps)
        return gain / max(1, remaining_ps)

    def _ratio(self, sequence: SequenceView, due_ps: int, end_ps: int) -> float:
        if not due_ps:
            return 1.0
        allowed_ps, taken_ps = due_ps - sequence.arrived_ps, max(1, end_ps - sequence.arrived_ps)
        return float(min(1.0, max(RATIO_MIN, allowed_ps / taken_ps)) ** self.penalty)

    def _window(
        self, order: Sequence[SequenceView], density: dict[str, float], view: BatchView
    ) -> Sequence[SequenceView]:
        """Neighbours in length that gain the most together."""
        count = _fitting_count(order, view)
        pool = sorted(order[: max(count, int(self.spare * count))], key=lambda one: (one.target_tokens, one.rank))
        starts = range(len(pool) - count + 1)
        best = max(starts, key=lambda start: sum(density[one.request_id] for one in pool[start : start + count]))
        return pool[best : best + count]


def _token_ps(view: BatchView) -> int:
    """How long an iteration of all who decode takes; one decode where nobody does."""
    decodes = [one.cached_tokens for one in view.running if one.decoding] or [0]
    return view.profile.duration_ps(len(decodes), sum(decodes))


def _fitting_count(order: Sequence[SequenceView], view: BatchView) -> int:
    """How many of the first have seats, and blocks for what they have and for the next token."""
    blocks_left = view.free_blocks + sum(one.block_count for one in view.running)
    for count, one in enumerate(order[: view.profile.max_seqs]):
        blocks_left -= view.profile.blocks(one.target_tokens)
        if blocks_left < 0:
            return count
    return min(len(order), view.profile.max_seqs)
