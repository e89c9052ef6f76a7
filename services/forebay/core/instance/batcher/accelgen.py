"""Chunks as long as the tightest promise between tokens allows, requests packed by compute and memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.core.instance.batcher.base import BatchPlan, BatchView, SequenceView
from forebay.core.instance.batcher.estimates import blocks_needed
from forebay.core.instance.batcher.filling import RANK, Filling
from forebay.core.units import PS_PER_S, PS_PER_US

NO_SLO_US = 2**62


@dataclass(frozen=True, slots=True)
class AccelGen:
    """AccelGen (arXiv 2503.13737), whose formulas are not public: this is a reconstruction of its three ideas.

    All who decode have their token. The iteration lasts at most as long as the tightest `tpot_slo_us` among them, and
    prompts are computed as far as that allows: n* = max{n : step(n, contexts, decodes) <= T}, exact by the profile.
    Prompts that were begun come first, then new requests, tightest promise first, those of equal promise together.
    Among the first `window_count` of a group enters whose prompt and memory (prompt and predicted answer) are nearest
    to what is left of n* and of the KV cache, as long as there is room for both now. Nobody is evicted for another;
    where memory runs out all the same, the worst in rank of the loosest promise is.

    Who has waited for `patience_s` comes before all groups, in order of arrival, and is asked for no more memory than
    its prompt (ours: packing could pass over a request for ever). `tokens_default`: the answer where nobody predicted.
    """

    window_count: int = 32
    patience_s: float = 20.0
    tokens_default: int = 256

    def __post_init__(self) -> None:
        if self.window_count < 1 or self.tokens_default < 1 or self.patience_s <= 0:
            raise ValueError("window_count, tokens_default and patience_s must be positive")

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration for `view`."""
        running = sorted(view.running, key=lambda one: (not one.decoding, _slo_us(one), one.rank))
        slos_us = [_slo_us(one) for one in running if one.decoding]
        tightest_us = min(slos_us, default=NO_SLO_US)
        filling = Filling(view, 0 if tightest_us == NO_SLO_US else tightest_us * PS_PER_US).take_all(running)
        prompt_tokens_max = max(1, filling.prompt_budget)
        late, groups = self._split(view)
        filling.take_all(late)
        for group in groups:
            while group and not filling.is_full:
                sequence = self._nearest(group, filling, prompt_tokens_max)
                if filling.has_work and blocks_needed(sequence, view, self.tokens_default) > filling.blocks_left:
                    return filling.plan()
                filling.take(sequence)
                group.remove(sequence)
        return filling.plan()

    def _split(self, view: BatchView) -> tuple[list[SequenceView], list[list[SequenceView]]]:
        """Who may enter: the impatient, and the others by promise."""
        patience_ps = round(self.patience_s * PS_PER_S)
        late: list[SequenceView] = []
        groups: dict[int, list[SequenceView]] = {}
        for one in sorted(view.waiting, key=RANK):
            is_late = one.waited_ps(view.now_ps) >= patience_ps
            (late if is_late else groups.setdefault(_slo_us(one), [])).append(one)
        return late, [groups[slo_us] for slo_us in sorted(groups)]

    def _nearest(self, group: Sequence[SequenceView], filling: Filling, tokens_max: int) -> SequenceView:
        """Whose needs are nearest to what is left, each in shares of what there is; the first of equals."""
        view = filling.view

        def distance(sequence: SequenceView) -> float:
            tokens = sequence.target_tokens - sequence.hit_tokens - filling.prompt_budget
            blocks = blocks_needed(sequence, view, self.tokens_default) - filling.blocks_left
            return (tokens / tokens_max) ** 2 + (blocks / view.profile.block_count) ** 2

        return min(group[: self.window_count], key=distance)


def _slo_us(sequence: SequenceView) -> int:
    return sequence.hints.tpot_slo_us or NO_SLO_US
