"""Who is promised an answer in time gets it: admission by dynamic programming, the rest as far as there is room."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from forebay.core.instance.batcher.base import BatchPlan, BatchView, SequenceView
from forebay.core.instance.batcher.estimates import blocks_needed
from forebay.core.instance.batcher.filling import Filling
from forebay.core.instance.batcher.pace import Pace
from forebay.core.units import PS_PER_US

ACCEPTED, DECLINED = 1, 2
"""Marks: it will be served in time, or as far as there is room. Who is new has none."""


class _Best(NamedTuple):
    """The best way to accept so many: the unused prompt tokens, the blocks taken, and who."""

    spare_tokens: int
    blocks: int
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SlosServe:
    """SLOs-Serve (arXiv 2504.08784): admission and token allocation by dynamic programming.

    Every request with a `ttft_slo_us` is considered once, when it is first seen; those without are served as far as
    there is room. By deadline D of the first token, for each number of acceptances n the most unused prompt tokens pb
    are kept: rejecting leaves them, accepting needs pb + dPB >= p and takes p, the tokens of the prompt, where
    dPB(t, n) = floor(t / T) * max(0, batch_tokens - n), T is the tightest `tpot_slo_us` and batch_tokens is what an
    iteration of length T computes beside the decodes of now (the recurrence is known from JITServe's code). Whoever was
    accepted stays so: it counts, and is not asked again. Memory for prompt and predicted answer has to be there too.
    The most acceptances win; of those declined, nothing is promised.

    An iteration lasts at most T: accepted decodes, accepted prompts by deadline, then the others, whose decodes wait
    where the iteration would get too long, and who are evicted where the accepted need memory. At most
    `considered_max` new requests are decided on at once, the rest in the iterations to come (ours, as is
    `tokens_default`, the answer where nobody predicted). Where nobody has a `tpot_slo_us`, T is `horizon_us` (ours).
    """

    considered_max: int = 64
    horizon_us: int = 100_000
    tokens_default: int = 256

    def __post_init__(self) -> None:
        if min(self.considered_max, self.horizon_us, self.tokens_default) < 1:
            raise ValueError("considered_max, horizon_us and tokens_default must be positive")

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration for `view`."""
        new = [one for one in view.waiting if not one.mark]
        promised = sorted((one for one in new if one.due_ps), key=lambda one: (one.due_ps, one.rank))
        promised = promised[: self.considered_max]
        accepted = [one for one in (*view.running, *view.waiting) if one.mark == ACCEPTED]
        chosen = self._choose(promised, accepted, view) if promised else frozenset()
        marks = [(one.request_id, DECLINED) for one in new if not one.due_ps]
        marks += [(one.request_id, ACCEPTED if one.request_id in chosen else DECLINED) for one in promised]
        accepted += [one for one in promised if one.request_id in chosen]
        return self._fill(accepted, view).plan(marks)

    def _fill(self, accepted: Sequence[SequenceView], view: BatchView) -> Filling:
        """Tokens of one iteration: the accepted first, then the rest."""
        names = {one.request_id for one in accepted}
        slos_us = [one.hints.tpot_slo_us for one in accepted if one.decoding and one.hints.tpot_slo_us]
        filling = Filling(view, min(slos_us, default=0) * PS_PER_US)
        rest = [one for one in (*view.running, *view.waiting) if one.request_id not in names]
        if view.flags.no_evict:
            filling.take_all(one for one in accepted if one.block_count)
            filling.take_all(one for one in rest if one.block_count)
            accepted, rest = [o for o in accepted if not o.block_count], [o for o in rest if not o.block_count]
        filling.take_all(sorted(accepted, key=lambda one: (not one.decoding, one.due_ps, one.rank)))
        for one in sorted(rest, key=lambda one: (one.block_count == 0, not one.decoding, one.rank)):
            filling.take(one, optional=True)
        return filling

    def _choose(
        self, promised: Sequence[SequenceView], accepted: Sequence[SequenceView], view: BatchView
    ) -> frozenset[str]:
        """Whom to accept of those who are new."""
        profile = view.profile
        step_ps = self._step_ps((*promised, *accepted))
        batch_tokens = _batch_tokens(view, step_ps, [one for one in accepted if one.decoding])
        decode_count = sum(one.decoding for one in accepted)
        forced = {one.request_id for one in accepted}
        blocks_max = profile.block_count - view.flags.watermark_blocks
        begun = [one for one in accepted if not one.decoding]
        order = sorted((*promised, *begun), key=lambda one: (one.due_ps, one.rank))
        states = {0: _Best(0, sum(blocks_needed(one, view, self.tokens_default) for one in accepted))}
        passed_steps = 0
        for index, one in enumerate(order):
            steps = max(0, one.due_ps - view.now_ps) // step_ps
            forced_count = sum(other.request_id in forced for other in order[:index])
            states = {
                n: _grown(best, (steps - passed_steps) * max(0, batch_tokens - decode_count - forced_count - n))
                for n, best in states.items()
            }
            passed_steps = max(passed_steps, steps)
            prompt_tokens = one.target_tokens - max(one.cached_tokens, one.hit_tokens)
            if one.request_id in forced:
                states = {n: _grown(best, -prompt_tokens) for n, best in states.items()}
            else:
                seats_left = profile.max_seqs - len(accepted)
                blocks = blocks_needed(one, view, self.tokens_default)
                _accept(states, one.request_id, prompt_tokens, blocks, blocks_max, seats_left)
        return frozenset(states[max(states)].accepted)

    def _step_ps(self, sequences: Iterable[SequenceView]) -> int:
        slos_us = [one.hints.tpot_slo_us for one in sequences if one.hints.tpot_slo_us]
        return min(slos_us, default=self.horizon_us) * PS_PER_US


def _batch_tokens(view: BatchView, step_ps: int, decodes: Sequence[SequenceView]) -> int:
    """Time2BS: the tokens of an iteration of that length, the decodes of now among them."""
    pace = Pace(view.profile, step_ps)
    for one in decodes:
        pace.decode(max(one.cached_tokens, one.hit_tokens))
    return len(decodes) + pace.tokens_within(0, view.profile.max_batch_tokens - len(decodes))


def _grown(best: _Best, tokens: int) -> _Best:
    return best._replace(spare_tokens=best.spare_tokens + tokens)


def _accept(
    states: dict[int, _Best], name: str, prompt_tokens: int, blocks: int, blocks_max: int, count_max: int
) -> None:
    """Adds to the states those in which this one is accepted too; the more unused tokens are the better."""
    for n in sorted(states, reverse=True):
        best = states[n]
        spare, taken = best.spare_tokens - prompt_tokens, best.blocks + blocks
        if spare < 0 or taken > blocks_max or n >= count_max:
            continue
        known = states.get(n + 1)
        if known is None or (spare, -taken) > (known.spare_tokens, -known.blocks):
            states[n + 1] = _Best(spare, taken, (*best.accepted, name))
