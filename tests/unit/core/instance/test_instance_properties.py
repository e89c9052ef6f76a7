"""Named invariants of the instance model over generated traces, limits and flags."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import (
    EngineFlags,
    EngineProfile,
    EngineRequest,
    InstanceModel,
    PrefillChunk,
    TokenEvent,
)

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
FOREVER = 10**15

Arrival = tuple[int, EngineRequest]


@st.composite
def traces(draw: st.DrawFn) -> list[Arrival]:
    """Arrivals with gaps that make bursts, queues and idle times."""
    arrivals: list[Arrival] = []
    now_ps = 0
    for number in range(draw(st.integers(1, 14))):
        now_ps += draw(st.sampled_from([0, 0, 1, 700, 5_000, 60_000]))
        prompt, output = draw(st.integers(1, 50)), draw(st.integers(1, 40))
        hit, limit = draw(st.integers(0, prompt)), draw(st.sampled_from([0, output, output + 20]))
        arrivals.append((now_ps, EngineRequest(f"r{number}", prompt, output, hit, limit)))
    return arrivals


profiles = st.builds(
    lambda kv_tokens, max_seqs: replace(PROFILE, kv_tokens=kv_tokens, max_seqs=max_seqs),
    st.sampled_from([40, 64, 96, 4_000]),
    st.integers(1, 8),
)
flag_sets = st.builds(
    EngineFlags,
    reserve_full_prompt=st.booleans(),
    watermark_blocks=st.sampled_from([0, 0, 2]),
    no_evict=st.booleans(),
    chunked_prefill=st.booleans(),
)


@dataclass
class Run:
    """What came out of one trace, checked at every boundary on the way."""

    accepted: list[EngineRequest] = field(default_factory=list)
    events: list[TokenEvent] = field(default_factory=list)
    boundary_count: int = 0


def play(instance: InstanceModel, trace: list[Arrival], cancelled: frozenset[str] = frozenset()) -> Run:
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
    while (next_ps := instance.next_ps) is not None and next_ps <= now_ps:
        run.events += instance.advance(next_ps)
        run.boundary_count += 1
        check_memory(instance)
    instance.advance(now_ps)


def check_memory(instance: InstanceModel) -> None:
    view = instance.view()
    assert 0 <= view.free_block_count <= view.block_count
    assert view.context_tokens <= (view.block_count - view.free_block_count) * view.block_size
    assert view.running_count <= view.max_seqs


@given(traces(), profiles, flag_sets)
def test_every_accepted_request_gets_each_of_its_tokens_once_in_order(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags
) -> None:
    run = play(InstanceModel(profile, flags), trace)
    counts: dict[str, list[int]] = {}
    for event in run.events:
        counts.setdefault(event.request_id, []).append(event.token_count)
    assert counts == {r.request_id: list(range(1, r.output_tokens + 1)) for r in run.accepted}
    assert [e.finished for e in run.events].count(True) == len(run.accepted)


@given(traces(), profiles, flag_sets, st.frozensets(st.sampled_from([f"r{n}" for n in range(14)])))
def test_all_blocks_and_requests_are_accounted_for_in_the_end(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags, cancelled: frozenset[str]
) -> None:
    instance = InstanceModel(profile, flags)
    run = play(instance, trace, cancelled)
    view = instance.view()
    assert view.free_block_count == view.block_count
    assert view.running_count == view.waiting_count == view.context_tokens == 0
    assert view.arrived_count == len(run.accepted) == view.finished_count + view.cancelled_count
    assert view.generated_tokens == len(run.events)
    assert view.next_ps is None


@given(traces(), profiles, flag_sets)
def test_the_clock_never_goes_back(trace: list[Arrival], profile: EngineProfile, flags: EngineFlags) -> None:
    run = play(InstanceModel(profile, flags), trace)
    times = [event.at_ps for event in run.events]
    assert times == sorted(times)
    first_ps = {event.request_id: event.at_ps for event in run.events if event.token_count == 1}
    assert all(first_ps[request.request_id] > now_ps for now_ps, request in trace if request in run.accepted)


@given(traces(), profiles, flag_sets)
def test_the_same_trace_gives_the_same_run(trace: list[Arrival], profile: EngineProfile, flags: EngineFlags) -> None:
    assert play(InstanceModel(profile, flags), trace) == play(InstanceModel(profile, flags), trace)


@given(traces(), profiles, flag_sets)
def test_how_often_the_caller_looks_does_not_matter(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags
) -> None:
    lazy = InstanceModel(profile, flags)
    events: list[TokenEvent] = []
    for now_ps, request in trace:
        events += lazy.advance(now_ps)
        lazy.arrive(request, now_ps)
    events += lazy.advance(FOREVER)
    assert events == play(InstanceModel(profile, flags), trace).events


@given(st.integers(1, 90), st.integers(1, 40))
def test_one_request_alone_is_the_closed_form(prompt: int, output: int) -> None:
    profile = replace(PROFILE, kv_tokens=4_000)
    instance = InstanceModel(profile)
    instance.arrive(EngineRequest("a", prompt, output), 0)
    budget = profile.max_batch_tokens
    starts = range(0, prompt, budget)
    prefill_ps = sum(profile.duration_ps(0, 0, [PrefillChunk(min(budget, prompt - k), k)]) for k in starts)
    n = output - 1
    decode_ps = n * profile.duration_ps(1, 0) + profile.context_token_ps * (n * prompt + n * (n - 1) // 2)
    events = instance.advance(FOREVER)
    assert (events[0].at_ps, events[-1].at_ps) == (prefill_ps, prefill_ps + decode_ps)


@given(traces(), flag_sets)
def test_unlimited_memory_means_no_eviction(trace: list[Arrival], flags: EngineFlags) -> None:
    instance = InstanceModel(replace(PROFILE, kv_tokens=1_000_000), flags)
    play(instance, trace)
    assert instance.view().preemption_count == 0


@given(traces(), profiles, flag_sets)
def test_an_engine_that_never_evicts_never_evicts(
    trace: list[Arrival], profile: EngineProfile, flags: EngineFlags
) -> None:
    instance = InstanceModel(profile, replace(flags, no_evict=True))
    play(instance, trace)
    assert instance.view().preemption_count == 0


@given(traces())
def test_cut_prompts_change_nothing_when_no_prompt_exceeds_the_budget_left(trace: list[Arrival]) -> None:
    roomy = replace(PROFILE, iteration_ps=(0, *(1000 + 10 * n for n in range(1, 2000))), kv_tokens=100_000)
    chunked = play(InstanceModel(roomy), trace)
    whole = play(InstanceModel(roomy, EngineFlags(chunked_prefill=False)), trace)
    assert chunked == whole
