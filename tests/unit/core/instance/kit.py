"""A small engine, generated traces, and what comes out when one is played on the other."""

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from forebay.core.instance import Batch, EngineFlags, EngineProfile, EngineRequest, InstanceModel, TokenEvent
from forebay.core.instance.batcher import BATCHERS
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.core.instance.sequence import ORDERS, PREEMPTIONS

PROFILE = EngineProfile(
    name="small",
    status="uncalibrated",
    iteration_ps=(0, *(1000 + 10 * tokens for tokens in range(1, 25))),
    decode_ps=3,
    context_token_ps=2,
    prefill_ps=50,
    half_pair_fixed=1024,
    prefill_token_fixed=300,
    kv_tokens=96,
    max_seqs=6,
    block_size=4,
)
AMPLE = replace(PROFILE, kv_tokens=1_000_000)
FOREVER = 10**15
few = settings(max_examples=30, deadline=None)

Arrival = tuple[int, EngineRequest]
HINTS = (
    NO_HINTS,
    Hints(predicted_tokens=5, predicted_tokens_p90=9),
    Hints(predicted_tokens=30, predicted_tokens_p90=60, ttft_slo_us=1, session_tokens=400),
    Hints(predicted_tokens=12, ttft_slo_us=1, tpot_slo_us=1, session_tokens=1_000),
)
QUEUE_ORDER = ("chunked_prefill", "static")
"""Batchers that admit from the head of the queue and evict the last in rank."""


@st.composite
def traces(draw: st.DrawFn) -> list[Arrival]:
    """Arrivals with gaps that make bursts, queues and idle times."""
    arrivals: list[Arrival] = []
    now_ps = 0
    for number in range(draw(st.integers(1, 14))):
        now_ps += draw(st.sampled_from([0, 0, 1, 700, 5_000, 60_000]))
        prompt, output = draw(st.integers(1, 50)), draw(st.integers(1, 40))
        hit, limit = draw(st.integers(0, prompt)), draw(st.sampled_from([0, output, output + 20]))
        priority = draw(st.integers(0, 2))
        batch = Batch(*draw(st.sampled_from([("", 1), ("b1", 2), ("b1", 3), ("b2", 4)])))
        hints = draw(st.sampled_from(HINTS))
        arrivals.append((now_ps, EngineRequest(f"r{number}", prompt, output, hit, limit, priority, batch, hints)))
    return arrivals


profiles = st.builds(
    lambda kv_tokens, max_seqs: replace(PROFILE, kv_tokens=kv_tokens, max_seqs=max_seqs),
    st.sampled_from([40, 64, 96, 4_000]),
    st.integers(1, 8),
)


@st.composite
def flag_sets(draw: st.DrawFn) -> EngineFlags:
    """Any way to configure an engine."""
    order = draw(st.sampled_from(ORDERS))
    return EngineFlags(
        reserve_full_prompt=draw(st.booleans()),
        watermark_blocks=draw(st.sampled_from([0, 0, 2])),
        no_evict=order != "preemptive" and draw(st.booleans()),
        chunked_prefill=draw(st.booleans()),
        order=order,
        preemption=draw(st.sampled_from(PREEMPTIONS)),
        swap_block_ps=draw(st.sampled_from([0, 400])),
        swap_overlaps=draw(st.booleans()),
        batch_padding=draw(st.booleans()),
        batch_answers_wait=draw(st.booleans()),
        batch_delay_ps=(delay_ps := draw(st.sampled_from([0, 1, 3_000]))),
        batch_given=delay_ps > 0 and draw(st.booleans()),
        admits_ahead=order == "fcfs" and draw(st.booleans()),
    )


@dataclass(frozen=True)
class Kind:
    """A kind of engine, of which one can be made."""

    profile: EngineProfile
    flags: EngineFlags
    batcher: str

    def make(self, **flags: Any) -> InstanceModel:
        """A new instance of it, with some flags set otherwise."""
        return InstanceModel(self.profile, replace(self.flags, **flags), BATCHERS[self.batcher]())


kinds = st.builds(Kind, profiles, flag_sets(), st.sampled_from(sorted(BATCHERS)))


@dataclass
class Run:
    """What came out of one trace, checked at every boundary on the way."""

    accepted: list[EngineRequest] = field(default_factory=list)
    events: list[TokenEvent] = field(default_factory=list)
    boundary_count: int = 0


def play(instance: InstanceModel, trace: list[Arrival], cancelled: frozenset[str] = frozenset()) -> Run:
    """Plays the arrivals to the end; those named leave right after they arrived."""
    run = Run()
    for now_ps, request in trace:
        step_to(instance, now_ps, run)
        if instance.arrive(request, now_ps):
            run.accepted.append(request)
        check_memory(instance)
        if request.request_id in cancelled:
            instance.cancel(request.request_id, now_ps)
    step_to(instance, FOREVER, run)
    return run


def step_to(instance: InstanceModel, now_ps: int, run: Run) -> None:
    """Boundary by boundary to a time."""
    while (next_ps := instance.next_ps) is not None and next_ps <= now_ps:
        run.events += instance.advance(next_ps)
        run.boundary_count += 1
        check_memory(instance)
    instance.advance(now_ps)


def check_memory(instance: InstanceModel) -> None:
    """The blocks that are taken hold what lies in the cache, and the seats suffice."""
    view = instance.view()
    assert 0 <= view.free_block_count <= view.block_count
    assert view.context_tokens <= (view.block_count - view.free_block_count) * view.block_size
    assert view.running_count <= view.max_seqs


SMALL = EngineProfile(
    name="small",
    status="uncalibrated",
    iteration_ps=tuple(range(17)),
    decode_ps=0,
    context_token_ps=0,
    prefill_ps=0,
    half_pair_fixed=0,
    prefill_token_fixed=0,
    kv_tokens=40,
    max_seqs=4,
    block_size=4,
)
"""Ten blocks of four tokens, four seats, sixteen tokens an iteration of as many picoseconds."""
