"""What gives an advantage around the engines vanishes where it is switched off, and tells where it is on.

Whole runs with the live engines. What is off is compared exactly, all columns of all requests; what is on, by its
direction alone.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.core.promises import Promises
from forebay.scheduler.policy.router import ROUTERS
from forebay.simulator.config import Knob, NetworkConfig, ObservationConfig, Prefill, StartConfig, StudentConfig
from forebay.simulator.results import RunResult
from forebay.simulator.shell.journal import Journal
from forebay.simulator.summary import summarize
from forebay.simulator.workload import Workload, make_workload
from forebay.simulator.workload.base import change, ragged
from tests.unit.simulator.switches import (
    AMPLE,
    EARLY,
    PROFILE,
    Arm,
    S,
    assert_same,
    bursty,
    e2e_s,
    even,
    gap_s,
    group,
    p99,
    serve,
    tpot_s,
    ttft_s,
    with_long_prompts,
    world,
)

# Stale metrics


def watched(
    router: str, delay_s: float, scrape_s: float = 1.0, journal: Journal | None = None, **parameters: Any
) -> RunResult:
    where = world(group(4), observation=ObservationConfig(scrape_s, delay_s))
    arm: Arm = {"router": router, "router_parameters": parameters, "watch_interval_s": 0.1}
    return serve(bursty(400, 30.0), where, journal=journal, **arm, **EARLY)


@pytest.mark.parametrize("delay_s", [0.0, 2.0])
def test_without_staleness_the_scheduler_sees_the_snapshot_of_now(delay_s: float) -> None:
    journal = Journal()
    watched("llm_d", delay_s, journal=journal)
    snapshots = {one.now_us: one.answer.instances for one in journal.entries if one.event == "snapshot"}
    seen = [(one.now_us, one.arguments[0]) for one in journal.entries if one.event == "on_loads"]
    assert len(seen) > 100
    assert all(loads == snapshots[at_us - round(delay_s * S)] for at_us, loads in seen)


def test_staleness_harms_those_who_look_and_nobody_else() -> None:
    assert_same(watched("least_requests", 0.0), watched("least_requests", 2.0, 5.0))
    fresh, late, stale = (
        ttft_s(watched("llm_d", delay_s, scrape_s, count_unseen=False)).mean()
        for delay_s, scrape_s in ((0.0, 0.05), (0.0, 1.0), (2.0, 1.0))
    )
    assert fresh < 0.5 * late < 0.25 * stale
    # Who counts what was placed since loses much less.
    assert ttft_s(watched("llm_d", 2.0)).mean() < 0.2 * stale


# Programs


def programs(**columns: Any) -> Workload:
    """Thirty programs of four calls, each of which waits for the one before and for a tool."""
    rng = np.random.default_rng(2)
    arrival_us = np.repeat(np.sort(rng.integers(0, 4 * S, 30)), 4)
    parents = ragged([[] if row % 4 == 0 else [row - 1] for row in range(120)])
    lengths = rng.integers(20, 300, 120), rng.integers(20, 200, 120)
    owners = {"program": np.arange(120) // 4, "think_us": rng.integers(0, S, 120), **columns}
    return make_workload(arrival_us, *lengths, parents=parents, **owners)


LOOK_AT_PROGRAMS = ("autellix", "session_affinity")


@pytest.mark.parametrize("router", [name for name in ROUTERS if name not in LOOK_AT_PROGRAMS])
def test_hiding_the_programs_changes_nothing_where_no_policy_looks(router: str) -> None:
    hidden = programs(program=np.full(120, -1))
    runs = [serve(load, world(group(2)), router=router, **EARLY) for load in (programs(), hidden)]
    assert_same(*runs, but=("program",))


def test_a_closed_loop_is_the_open_one_of_its_own_arrivals(tmp_path: Path) -> None:
    # Times of whole microseconds, so that a trace can hold them.
    where = world(group(profile=even(tmp_path, 10 * 10**9, 20 * 10**6)))
    closed = serve(programs(), where, **EARLY)
    order = np.argsort(closed.requests.arrival_us, kind="stable")
    open_load = make_workload(
        closed.requests.arrival_us[order], programs().prompt_tokens[order], programs().output_tokens[order]
    )
    opened = serve(open_load, where, **EARLY)
    assert opened.requests.first_us.tolist() == closed.requests.first_us[order].tolist()
    assert opened.requests.finish_us.tolist() == closed.requests.finish_us[order].tolist()


def test_a_closed_loop_waits_for_slow_instances_and_an_open_one_does_not() -> None:
    slow = world(engine={"max_seqs": 4})
    closed = serve(programs(), slow, **EARLY)
    opened = serve(change(programs(), parents_of=ragged([[]] * 120)), slow, **EARLY)
    assert ttft_s(closed).mean() < ttft_s(opened).mean()
    spent = [summarize(serve(programs(), where, **EARLY), Promises(), where).programs for where in (world(), slow)]
    assert spent[0].finished_count == spent[1].finished_count == 30
    assert (spent[0].s_per_token.mean or 0) < 0.8 * (spent[1].s_per_token.mean or 0)


# Prefix caches


def test_without_a_cache_shared_prefixes_are_not_seen_and_with_one_they_save_time() -> None:
    rng = np.random.default_rng(8)
    owner, count = rng.integers(0, 12, 200), 200
    shared = ragged([[2 * int(one), 2 * int(one) + 1] for one in owner])
    lengths = 1_024 + rng.integers(1, 100, count), rng.integers(20, 60, count)
    load, blind = (make_workload(np.arange(count) * S // 8, *lengths, blocks=blocks) for blocks in (shared, None))

    def cached(load: Workload, tokens: int) -> RunResult:
        return serve(load, world(group(2), engine={**AMPLE, "prefix_cache_tokens": tokens}), **EARLY)

    assert_same(cached(load, 0), cached(blind, 0))
    assert_same(cached(blind, 0), cached(blind, 100_000))
    ttfts = [ttft_s(cached(load, tokens)).mean() for tokens in (0, 2_048, 100_000)]
    assert ttfts[2] < 0.5 * ttfts[0]
    assert ttfts[2] < ttfts[1] <= ttfts[0]


# Models


def test_a_second_model_that_nobody_asks_for_changes_nothing() -> None:
    names = {"models": ("model", "other")}
    alone = serve(bursty(), world(group(2)))
    assert_same(alone, serve(bursty(names=names), world(group(2), group(2, model="other"))))


def test_two_models_cannot_lend_each_other_their_instances() -> None:
    load = bursty(300, 16.0)
    parted = change(load, model=np.arange(300) % 2, models=("model", "other"))
    pooled = serve(load, world(group(2)), **EARLY)
    split = serve(parted, world(group(1), group(1, model="other")), **EARLY)
    assert ttft_s(pooled).mean() < 0.9 * ttft_s(split).mean()


# Cold starts


def scaled(start_s: float) -> RunResult:
    start = StartConfig(provisioning_s=start_s, weights_gb_per_s=0.0, warm_s=0.0)
    where = world(group(1, instances_max=6, concurrency_target=8.0), start=start, engine={"max_seqs": 16})
    load = bursty(400, 14.0, 1.0)
    return serve(change(load, arrival_us=load.arrival_us + 10 * S), where, autoscaler="kpa")


def test_a_cold_start_of_nothing_is_none_and_a_long_one_is_felt() -> None:
    at_once = scaled(0.0)
    steps = [(one.at_us, one.instance_id, one.state) for one in at_once.changes]
    asked = {(at_us, name) for at_us, name, state in steps if state == "PROVISIONING"}
    assert asked
    assert asked <= {(at_us, name) for at_us, name, state in steps if state == "READY"}
    ttfts = [ttft_s(one).mean() for one in (at_once, scaled(5.0), scaled(40.0))]
    assert ttfts[0] < 0.2 * ttfts[1] < 0.05 * ttfts[2]


# Knobs


def test_knobs_at_their_stops_change_nothing_and_turned_down_they_trade_time_for_energy() -> None:
    def clocked(*knobs: Knob) -> tuple[RunResult, float]:
        where = world(group(busy_watts=400.0, idle_watts=60.0), engine=AMPLE, knobs=knobs)
        result = serve(bursty(per_s=3.0), where, **EARLY)
        return result, summarize(result, Promises(), where).fleet.energy_kwh

    (fixed, kwh), (full, same_kwh), (half, less_kwh) = (
        clocked(),
        clocked(Knob(frequency=1.0)),
        clocked(Knob(frequency=0.5)),
    )
    assert_same(fixed, full)
    assert kwh == pytest.approx(same_kwh)
    assert less_kwh < 0.5 * kwh
    assert tpot_s(half).mean() > 1.9 * tpot_s(full).mean()


# Time of decisions


def test_decisions_that_take_no_time_delay_nobody_and_slow_ones_are_a_bottleneck() -> None:
    free, tiny, some, many = (
        serve(bursty(), world(engine=AMPLE, network=NetworkConfig(decision_ms=decision_ms)), **EARLY)
        for decision_ms in (0.0, 1e-9, 20.0, 200.0)
    )
    assert_same(free, tiny)
    assert 0.01 < ttft_s(some).mean() - ttft_s(free).mean() < 0.1
    # Eight arrivals a second, but five decisions.
    assert ttft_s(many).mean() > 100 * ttft_s(free).mean()


# Quality


def test_a_student_that_answers_nobody_changes_nothing_and_one_that_answers_costs_quality() -> None:
    def taught(**given: float) -> tuple[RunResult, float]:
        where = world(student=StudentConfig(**given))
        result = serve(bursty(), where, **EARLY)
        return result, summarize(result, Promises(), where).classes[0].quality_mean or 0.0

    (none, best), (idle, still_best), (some, worse) = (
        taught(share=0.0),
        taught(share=1e-9, quality=0.0),
        taught(share=0.3),
    )
    assert_same(none, idle)
    assert best == still_best == 1.0
    assert worse == pytest.approx(1 - 0.3 * 0.2, abs=0.03)
    early = some.requests.instance < 0
    # At equal served load nothing is gained: the others alone take as long.
    others = np.flatnonzero(~early)
    load = bursty()
    alone = serve(
        make_workload(load.arrival_us[others], load.prompt_tokens[others], load.output_tokens[others]), world(), **EARLY
    )
    assert e2e_s(some)[others].tolist() == e2e_s(alone).tolist()
    assert e2e_s(some).mean() < 0.5 * e2e_s(none).mean()


# Prefill and decode apart


def apart(load: Workload, *prefill: Prefill, count: int = 1) -> RunResult:
    return serve(load, world(group(count), engine=AMPLE, prefill=prefill), **EARLY)


def test_an_idle_pair_with_a_free_link_is_as_fast_to_the_first_token_as_one_instance() -> None:
    lone = change(bursty(20), arrival_us=np.arange(20) * 20 * S)
    together, free, slow = (
        apart(lone),
        apart(lone, Prefill("model", PROFILE, 1, 0.0)),
        apart(lone, Prefill("model", PROFILE, 1, 0.1)),
    )
    assert ttft_s(free).tolist() == ttft_s(slow).tolist() == ttft_s(together).tolist()
    assert (e2e_s(free) - e2e_s(together)).max() < 0.02
    assert (e2e_s(slow) - e2e_s(free)).min() > 0.02
    short = change(lone, output_tokens=np.ones(20))
    assert_same(apart(short), apart(short, Prefill("model", PROFILE, 1, 0.1)))


def test_prompts_computed_elsewhere_do_not_hold_up_those_who_decode() -> None:
    load, is_long = with_long_prompts()
    mixed, split = apart(load, count=2), apart(load, Prefill("model", PROFILE, 1, 25.0))
    assert p99(tpot_s(split)[~is_long]) < 0.8 * p99(tpot_s(mixed)[~is_long])
    assert p99(gap_s(split)[~is_long]) < 0.5 * p99(gap_s(mixed)[~is_long])
