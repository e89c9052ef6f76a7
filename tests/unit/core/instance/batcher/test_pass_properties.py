"""Named invariants of every pass, over generated traces: what a plan may spend, whom it may evict and admit."""

from dataclasses import dataclass

from hypothesis import given

from forebay.core.instance import InstanceModel
from forebay.core.instance.batcher import BATCHERS, BatchPlan, BatchView, SequenceView
from tests.unit.core.instance.kit import QUEUE_ORDER, Arrival, Kind, kinds, play, traces


@dataclass
class Checked:
    """A batcher whose plans are checked one by one."""

    name: str

    def plan(self, view: BatchView) -> BatchPlan:
        planned = BATCHERS[self.name]().plan(view)
        if planned.halved:
            assert (planned.decodes, planned.chunks, planned.admitted) == ((), (), ())
            return planned
        check_everybody_has_a_place(view, planned)
        check_budget_and_seats(view, planned)
        if self.name in QUEUE_ORDER:
            check_the_order_of_the_queue(view, planned)
            check_who_was_evicted(view, planned)
        if self.name == "static":
            check_the_batch_is_closed(view, planned)
        elif self.name == "chunked_prefill":
            check_the_head_that_waits(view, planned)
        else:
            check_nobody_is_evicted_for_nothing(view, planned)
        return planned


def by_name(view: BatchView) -> dict[str, SequenceView]:
    return {sequence.request_id: sequence for sequence in (*view.running, *view.waiting)}


def work(planned: BatchPlan) -> dict[str, int]:
    return {**dict.fromkeys(planned.decodes, 1), **{chunk.request_id: chunk.tokens for chunk in planned.chunks}}


def start(sequence: SequenceView) -> int:
    return max(sequence.cached_tokens, sequence.hit_tokens)


def check_everybody_has_a_place(view: BatchView, planned: BatchPlan) -> None:
    """INV: who ran runs or was evicted; who enters was in the queue."""
    running = [sequence.request_id for sequence in view.running]
    stay = [name for name in running if name not in planned.preempted]
    assert set(planned.admitted) <= {sequence.request_id for sequence in view.waiting}
    assert len(set(planned.admitted)) == len(planned.admitted)
    assert set(planned.preempted) <= set(running)
    assert set(work(planned)) <= {*stay, *planned.admitted}


def check_budget_and_seats(view: BatchView, planned: BatchPlan) -> None:
    """INV: tokens within the budget, requests within the seats, blocks within the pool."""
    tokens, known = work(planned), by_name(view)
    assert 0 < sum(tokens.values()) <= view.profile.max_batch_tokens
    seated = len(view.running) - len(planned.preempted) + len(planned.admitted)
    assert seated <= view.profile.max_seqs
    assert free_blocks_after(view, planned) >= 0
    assert all(
        start(known[name]) + count <= max(known[name].target_tokens, planned.padded_tokens)
        for name, count in tokens.items()
    )


def check_the_order_of_the_queue(view: BatchView, planned: BatchPlan) -> None:
    """INV: who enters was at the head of the queue; one partial prompt at most, and it comes last."""
    tokens, known = work(planned), by_name(view)
    assert list(planned.admitted) == [s.request_id for s in view.waiting][: len(planned.admitted)]
    lengths = {name: max(known[name].target_tokens, planned.padded_tokens) for name in tokens}
    partial = [c.request_id for c in planned.chunks if start(known[c.request_id]) + c.tokens < lengths[c.request_id]]
    assert partial in ([], [planned.chunks[-1].request_id] if planned.chunks else [])


def free_blocks_after(view: BatchView, planned: BatchPlan) -> int:
    known, blocks = by_name(view), view.profile.blocks
    free = view.free_blocks + sum(blocks(known[name].cached_tokens) for name in planned.preempted)
    for name, tokens in work(planned).items():
        free -= blocks(start(known[name]) + tokens) - blocks(known[name].cached_tokens)
    return free


def check_who_was_evicted(view: BatchView, planned: BatchPlan) -> None:
    """INV: victims rank behind all who stay, and without a preemptive order nobody enters in their place."""
    known = by_name(view)
    victims = [known[name].rank for name in planned.preempted]
    stay = [sequence.rank for sequence in view.running if sequence.request_id not in planned.preempted]
    assert not victims or not stay or min(victims) > max(stay)
    assert not (victims and view.flags.no_evict)
    if view.flags.order != "preemptive":
        assert not (victims and planned.admitted)
    assert all(known[name].rank < min(victims, default=(9, 0)) for name in planned.admitted)


def check_the_head_that_waits(view: BatchView, planned: BatchPlan) -> None:
    """INV: all who are here have work, and a head of the queue waits for a reason: a seat, budget, or blocks."""
    assert len(work(planned)) == len(view.running) - len(planned.preempted) + len(planned.admitted)
    left = [sequence for sequence in view.waiting if sequence.request_id not in planned.admitted]
    if planned.preempted or not left or view.flags.no_evict:
        return
    head, budget = left[0], view.profile.max_batch_tokens - sum(work(planned).values())
    rest = head.target_tokens - head.hit_tokens
    first = head.target_tokens if view.flags.reserve_full_prompt else head.hit_tokens + min(rest, budget)
    wanted = view.profile.blocks(first) + view.flags.watermark_blocks
    full = len(view.running) + len(planned.admitted) == view.profile.max_seqs
    cut = rest > budget and not view.flags.chunked_prefill
    assert full or budget == 0 or cut or wanted > free_blocks_after(view, planned)


def check_nobody_is_evicted_for_nothing(view: BatchView, planned: BatchPlan) -> None:
    """INV: whoever was evicted could not have stayed beside all who compute, in blocks or seats."""
    known = by_name(view)
    free, seated = free_blocks_after(view, planned), len(view.running) - len(planned.preempted) + len(planned.admitted)
    assert not (planned.preempted and view.flags.no_evict)
    for name in planned.preempted:
        held = view.profile.blocks(known[name].cached_tokens + known[name].decoding)
        assert held > free or seated >= view.profile.max_seqs


def check_the_batch_is_closed(view: BatchView, planned: BatchPlan) -> None:
    """INV: nobody joins a batch, and nobody decodes before all its prompts are computed."""
    assert not (view.running and planned.admitted)
    assert bool(planned.decodes) == all(s.decoding for s in view.running) * bool(view.running)
    assert not (planned.decodes and planned.chunks)


@given(traces(), kinds)
def test_every_pass_keeps_the_invariants(trace: list[Arrival], kind: Kind) -> None:
    play(InstanceModel(kind.profile, kind.flags, Checked(kind.batcher)), trace)
