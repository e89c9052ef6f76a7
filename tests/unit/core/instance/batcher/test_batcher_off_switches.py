"""Where what a batcher heeds is switched off, its advantage vanishes: the off-switch tests of its features."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import EngineFlags, EngineProfile, EngineRequest, InstanceModel, TokenEvent
from forebay.core.instance.batcher import BATCHERS, Batcher, BatchPlan, BatchView, make_batcher
from forebay.core.instance.hints import Hints
from tests.unit.core.instance.kit import AMPLE, PROFILE, Arrival, few, flag_sets, play, profiles, traces

ROOMY = replace(AMPLE, max_seqs=64, iteration_ps=(0, *(1000 + 10 * n for n in range(1, 2000))))
OTHERS = [
    "accelgen",
    "alise",
    "autellix",
    "fastserve",
    "preemptive",
    "sarathi:chunk_tokens=1999",
    "slos_serve",
    "tempo",
]


def unpromised(trace: list[Arrival]) -> list[Arrival]:
    """The same requests without promises."""
    return [(now_ps, replace(one, hints=replace(one.hints, ttft_slo_us=0, tpot_slo_us=0))) for now_ps, one in trace]


def times(
    profile: EngineProfile, name: str, trace: list[Arrival], flags: EngineFlags | None = None
) -> list[TokenEvent]:
    events = play(InstanceModel(profile, flags or EngineFlags(), make_batcher(name)), trace).events
    return sorted(events, key=lambda event: (event.at_ps, event.request_id))


@pytest.mark.parametrize("name", OTHERS)
@few
@given(trace=traces())
def test_with_room_for_all_the_order_changes_no_time(name: str, trace: list[Arrival]) -> None:
    free = unpromised(trace)
    assert times(ROOMY, name, free) == times(ROOMY, "chunked_prefill", free)


@few
@given(trace=traces())
def test_a_chunk_as_large_as_the_budget_is_plain_chunked_prefill(trace: list[Arrival]) -> None:
    budget = AMPLE.max_batch_tokens
    assert times(AMPLE, f"sarathi:chunk_tokens={budget}", trace) == times(AMPLE, "chunked_prefill", trace)


@few
@given(trace=traces(), limit_us=st.integers(1, 50))
def test_where_every_iteration_takes_the_same_time_a_limit_above_it_changes_nothing(
    trace: list[Arrival], limit_us: int
) -> None:
    constant = replace(
        AMPLE,
        iteration_ps=(0, *(1000 for _ in range(1, 25))),
        decode_ps=0,
        context_token_ps=0,
        prefill_ps=0,
        half_pair_fixed=0,
        prefill_token_fixed=0,
    )
    far = 10**9
    promised = [(at_ps, replace(one, hints=Hints(9, 9, far, limit_us))) for at_ps, one in trace]
    loose = [(at_ps, replace(one, hints=Hints(9, 9, far, far))) for at_ps, one in trace]
    assert times(constant, "accelgen", promised) == times(constant, "accelgen", loose)


@dataclass
class Journal:
    """A batcher whose chunks are written down."""

    batcher: Batcher
    computed: list[int] = field(default_factory=list)

    def plan(self, view: BatchView) -> BatchPlan:
        planned = self.batcher.plan(view)
        self.computed += [chunk.tokens for chunk in planned.chunks]
        return planned


@few
@given(traces(), profiles, flag_sets(), st.sampled_from(sorted(BATCHERS)))
def test_where_victims_swap_no_prompt_token_is_computed_twice(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags, name: str
) -> None:
    journal = Journal(make_batcher(name))
    flags = replace(flags, preemption="swap", batch_padding=False, batch_answers_wait=False, batch_given=False)
    run = play(InstanceModel(profile, flags, journal), trace)
    size = profile.block_size
    hits = sum(min(r.hit_tokens, r.prompt_tokens - 1) // size * size for r in run.accepted)
    assert sum(journal.computed) == sum(request.prompt_tokens for request in run.accepted) - hits


def test_free_swaps_pay_and_dear_ones_do_not() -> None:
    short = [(700 * k, EngineRequest(f"s{k}", 20, 3, hints=Hints(predicted_tokens=3))) for k in range(1, 30)]
    long = [(0, EngineRequest(f"l{k}", 20, 40, hints=Hints(predicted_tokens=40))) for k in range(3)]

    def mean_ps(batcher: str, swap_block_ps: int) -> float:
        flags = EngineFlags(preemption="swap", swap_block_ps=swap_block_ps)
        run = play(InstanceModel(replace(PROFILE, kv_tokens=120), flags, make_batcher(batcher)), [*long, *short])
        came_ps = {request.request_id: at_ps for at_ps, request in [*long, *short]}
        ended = [event.at_ps - came_ps[event.request_id] for event in run.events if event.finished]
        return sum(ended) / len(ended)

    assert mean_ps("preemptive", 0) < 0.8 * mean_ps("chunked_prefill", 0)
    assert mean_ps("preemptive", 20_000) > mean_ps("preemptive", 0)
