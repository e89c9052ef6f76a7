"""What holds for every batcher on any engine: the past is forgotten, and where ageing is promised nobody starves."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import EngineFlags, EngineRequest, InstanceModel
from forebay.core.instance.batcher import BatchPlan, BatchView, make_batcher
from forebay.core.instance.hints import Hints
from tests.unit.core.instance.kit import FOREVER, PROFILE, Arrival, Kind, few, kinds, play, traces

SHIFT_PS = 10**9
AGEING = {
    "alise:queue_count=3,first_s=1e-8,promote_s=2e-8": 3 * 20_000,
    "fastserve:queue_count=3,quantum_s=1e-8,promote_s=2e-8": 3 * 20_000,
    "accelgen:patience_s=2e-8": 20_000,
}
"""Batchers with the time after which nobody who came later enters first, in picoseconds."""


def later(trace: list[Arrival]) -> list[Arrival]:
    return [(now_ps + SHIFT_PS, request) for now_ps, request in trace]


@few
@given(traces(), kinds, st.integers(0, 60_000))
def test_after_a_crash_an_engine_is_as_new(trace: list[Arrival], kind: Kind, crash_ps: int) -> None:
    instance = kind.make(batch_given=False)
    for now_ps, request in trace:
        if now_ps <= crash_ps:
            instance.advance(now_ps)
            instance.arrive(request, now_ps)
    instance.advance(crash_ps)
    instance.crash(crash_ps)
    fresh = [event._replace(at_ps=event.at_ps + SHIFT_PS) for event in play(kind.make(batch_given=False), trace).events]
    assert play(instance, later(trace)).events == fresh


@few
@given(traces(), kinds, st.frozensets(st.sampled_from([f"r{n}" for n in range(14)])))
def test_after_all_have_left_an_engine_is_as_new(trace: list[Arrival], kind: Kind, cancelled: frozenset[str]) -> None:
    instance = kind.make(batch_given=False)
    play(instance, trace, cancelled)
    again = [(now_ps + FOREVER, request) for now_ps, request in trace]
    events = []
    for now_ps, request in again:
        events += instance.advance(now_ps)
        instance.arrive(request, now_ps)
    events += instance.advance(2 * FOREVER)
    assert events == [
        event._replace(at_ps=event.at_ps + FOREVER) for event in play(kind.make(batch_given=False), trace).events
    ]


@dataclass
class Fair:
    """A batcher that is watched: whoever waits for longer than `bound_ps` is not passed by who came later."""

    name: str
    bound_ps: int
    passed: list[tuple[str, str]] = field(default_factory=list)

    def plan(self, view: BatchView) -> BatchPlan:
        planned = make_batcher(self.name).plan(view)
        left = [one for one in view.waiting if one.request_id not in planned.admitted]
        late = [one for one in left if one.waited_ps(view.now_ps) >= self.bound_ps]
        for one in view.waiting:
            if one.request_id in planned.admitted and one.waited_ps(view.now_ps) < self.bound_ps:
                self.passed += [(one.request_id, other.request_id) for other in late if other.rank < one.rank]
        return planned


@pytest.mark.parametrize("name", AGEING)
@few
@given(trace=traces(), preemption=st.sampled_from(["recompute", "swap"]))
def test_nobody_is_passed_for_ever_where_ageing_is_promised(name: str, preemption: str, trace: list[Arrival]) -> None:
    fair = Fair(name, AGEING[name])
    crowd = [(now_ps // 10, request) for now_ps, request in trace]
    profile = replace(PROFILE, kv_tokens=96, max_seqs=3)
    run = play(InstanceModel(profile, EngineFlags(preemption=preemption), fair), crowd)
    assert fair.passed == []
    assert sum(event.finished for event in run.events) == len(run.accepted)


def test_a_long_request_starves_without_ageing_and_not_with_it() -> None:
    ended_ps = {}
    for name in ("preemptive", "alise:first_s=1e-8,promote_s=1e-8"):
        instance = InstanceModel(replace(PROFILE, kv_tokens=48), EngineFlags(preemption="swap"), make_batcher(name))
        run = play(instance, [(0, predicted("long", 20)), *[(k * 2_500, predicted(f"s{k}", 4)) for k in range(40)]])
        ended_ps[name] = next(event.at_ps for event in run.events if event.finished and event.request_id == "long")
    plain, aged = ended_ps.values()
    assert aged < 0.7 * plain


def predicted(name: str, tokens: int) -> EngineRequest:
    return EngineRequest(name, 24, tokens, hints=Hints(predicted_tokens=tokens))
