"""Seats, blocks and tokens of one iteration, handed out to one request after another, the most urgent first."""

from collections.abc import Callable, Iterable
from operator import attrgetter

from forebay.core.instance.batcher.base import BatchPlan, BatchView, ChunkPlan, SequenceView
from forebay.core.instance.batcher.pace import Pace

RANK = attrgetter("rank")


class Filling:
    """A plan in the making. `take` everybody who runs and whoever may enter, in the order of urgency, then `plan`.

    Memory goes to the urgent: who runs and finds no blocks left by those before it is evicted. Where `take` was not
    called for somebody who runs, it is evicted as well. Nobody enters after somebody who found no room, so whoever is
    taken first gets whatever it needs. Decodes of those who run have their token; prompts share
    what is left of the budget, `prompt_tokens_max` at most, as long as the iteration keeps `limit_ps` (0: any time).
    A prompt that gets no tokens or too few blocks for them keeps its cache and waits.

    Flags of admission hold: seats, watermark, whole prompts reserved, whole answers reserved in engines that never
    evict (take who runs first there), prompts in one piece, which heed neither `prompt_tokens_max` nor `limit_ps`.
    """

    def __init__(self, view: BatchView, limit_ps: int = 0, prompt_tokens_max: int | None = None) -> None:
        profile, flags = view.profile, view.flags
        self.view = view
        self.blocks_left = view.free_blocks + sum(one.block_count for one in view.running)
        self.is_full = False
        self.pace = Pace(profile, limit_ps if flags.chunked_prefill else 0)
        budget = profile.max_batch_tokens - sum(one.decoding for one in view.running)
        is_cut = flags.chunked_prefill and prompt_tokens_max is not None
        self.prompt_budget = min(budget, prompt_tokens_max or 0) if is_cut else budget
        self._running = {one.request_id: one for one in view.running}
        self._seats_max = max(profile.max_seqs, len(view.running))
        self._decodes: list[str] = []
        self._chunks: list[ChunkPlan] = []
        self._admitted: list[str] = []
        self._kept: set[str] = set()

    def take_all(self, order: Iterable[SequenceView]) -> "Filling":
        """`take` in that order."""
        for sequence in order:
            self.take(sequence)
        return self

    def take(self, sequence: SequenceView, tokens_max: int | None = None, optional: bool = False) -> bool:
        """Give what the request needs of this iteration; False where it stays or goes out of the batch.

        `tokens_max` bounds its chunk. An `optional` decode waits where the iteration would last too long.
        """
        if sequence.request_id in self._running:
            return self._keep(sequence, tokens_max, optional)
        return not self.is_full and self._enter(sequence, tokens_max)

    @property
    def has_work(self) -> bool:
        """Whether anybody computes anything so far."""
        return bool(self._decodes or self._chunks)

    def plan(self, marks: Iterable[tuple[str, int]] = ()) -> BatchPlan:
        """What was handed out; who runs and got no place is evicted, the last in rank first."""
        victims = [one for name, one in self._running.items() if name not in self._kept]
        return BatchPlan(
            tuple(self._decodes),
            tuple(self._chunks),
            preempted=tuple(one.request_id for one in sorted(victims, key=RANK, reverse=True)),
            admitted=tuple(self._admitted),
            jumps_queue=True,
            marks=tuple(marks),
        )

    def _keep(self, sequence: SequenceView, tokens_max: int | None, optional: bool) -> bool:
        start, profile = sequence.cached_tokens, self.view.profile
        waits = sequence.decoding and optional and not self.pace.has_room(start)
        tokens = 0 if waits else self._tokens(sequence, start, tokens_max)
        if not sequence.decoding:
            tokens = min(tokens, self.blocks_left * profile.block_size - start)
        needed = max(self._blocks_kept(sequence, start + tokens), sequence.block_count)
        if needed > self.blocks_left or len(self._kept) >= self._seats_max:
            self.is_full = True
            return False
        self._grant(sequence, tokens, start, needed)
        return True

    def _enter(self, sequence: SequenceView, tokens_max: int | None) -> bool:
        start, flags = sequence.hit_tokens, self.view.flags
        tokens = self._tokens(sequence, start, tokens_max)
        is_whole = tokens == sequence.target_tokens - start
        has_seat = tokens > 0 and len(self._kept) < self.view.profile.max_seqs
        wanted = self._blocks_wanted(sequence, start + tokens) + flags.watermark_blocks
        if not (has_seat and (is_whole or flags.chunked_prefill) and wanted <= self.blocks_left):
            self.is_full = True
            return False
        self._admitted.append(sequence.request_id)
        if sequence.decoding:
            self.prompt_budget -= 1
        self._grant(sequence, tokens, start, self._blocks_kept(sequence, start + tokens))
        return True

    def _tokens(self, sequence: SequenceView, start: int, tokens_max: int | None) -> int:
        rest = sequence.target_tokens - start
        if sequence.request_id in self._running and sequence.decoding:
            return 1
        most = min(rest, self.prompt_budget)
        if tokens_max is not None and self.view.flags.chunked_prefill:
            most = min(most, tokens_max)
        return self.pace.tokens_within(start, most) if most > 0 else 0

    def _grant(self, sequence: SequenceView, tokens: int, start: int, blocks: int) -> None:
        self.blocks_left -= blocks
        self._kept.add(sequence.request_id)
        if tokens and sequence.decoding:
            self._decodes.append(sequence.request_id)
            self.pace.decode(start)
        elif tokens:
            self._chunks.append(ChunkPlan(sequence.request_id, tokens))
            self.pace.compute(tokens, start)
            self.prompt_budget -= tokens

    def _blocks_wanted(self, sequence: SequenceView, tokens: int) -> int:
        if self.view.flags.reserve_full_prompt and not self.view.flags.no_evict:
            return self.view.profile.blocks(sequence.target_tokens)
        return self._blocks_kept(sequence, tokens)

    def _blocks_kept(self, sequence: SequenceView, tokens: int) -> int:
        return self.view.profile.blocks(sequence.tokens_max if self.view.flags.no_evict else tokens)


def ranked(view: BatchView, key: Callable[[SequenceView], tuple[int, ...]]) -> Filling:
    """Everybody by `key`, the smallest first; who runs comes first in engines that never evict."""
    if view.flags.no_evict:
        return Filling(view).take_all([*view.running, *sorted(view.waiting, key=key)])
    return Filling(view).take_all(sorted([*view.running, *view.waiting], key=key))
