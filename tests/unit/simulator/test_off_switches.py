"""What engines, orders and queues give an advantage by vanishes where it is switched off, and tells where it is on.

Whole runs with the live engines. What is off is compared exactly, all columns of all requests; what is on, by its
direction alone.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.core.instance import EngineFlags
from forebay.core.promises import Promise, Promises
from forebay.simulator.config import NetworkConfig
from forebay.simulator.kernel import make_kernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.results import RunResult
from forebay.simulator.shell.agenda import Agenda
from forebay.simulator.shell.machines import Machine
from forebay.simulator.shell.migrating import Migration, MigrationConfig, Migrations
from forebay.simulator.shell.migrating_kernel import MovableKernel
from forebay.simulator.summary import summarize
from tests.unit.simulator.switches import (
    AMPLE,
    EARLY,
    HOURS,
    PROFILE,
    SHORTEST,
    Arm,
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

# Finite memory


def test_with_unlimited_memory_every_order_is_the_same() -> None:
    load, where = bursty(), world(engine=AMPLE)
    plain = serve(load, where)
    assert_same(plain, serve(load, where, **SHORTEST))
    noisy = serve(load, where, "noisy", {"sigma": 0.8}, **SHORTEST)
    assert_same(plain, noisy, but=("predicted_p50", "predicted_p90"))
    assert plain.requests.preemption_count.sum() == plain.requests.lost_tokens.sum() == 0


def test_with_little_memory_short_answers_first_halve_the_mean_and_lengthen_the_tail() -> None:
    capped: Arm = {"puller_parameters": {"count": 12}}
    load = bursty()
    fcfs, shortest = serve(load, world(), **capped), serve(load, world(), **SHORTEST, **capped)
    noisy = serve(load, world(), "noisy", {"sigma": 0.8}, **SHORTEST, **capped)
    assert e2e_s(shortest).mean() < 0.7 * e2e_s(fcfs).mean()
    assert e2e_s(shortest).mean() < e2e_s(noisy).mean() < e2e_s(fcfs).mean()
    assert p99(e2e_s(shortest)) > 1.3 * p99(e2e_s(fcfs))
    # The guard against starvation gives some of the tail back.
    guarded = serve(load, world(), "noisy", {"sigma": 0.8}, orderer="shortest_predicted", **capped)
    assert p99(e2e_s(guarded)) < p99(e2e_s(noisy))


@pytest.mark.parametrize("order", ["priority", "preemptive"])
def test_an_engines_order_matters_only_where_memory_is_short(order: str) -> None:
    load = bursty(slo_class=np.where(np.arange(240) % 10 == 0, 1, 3))
    fast = load.slo_class == 1
    ample = [serve(load, world(engine={**AMPLE, "order": one}), **EARLY) for one in ("fcfs", order)]
    assert_same(*ample)
    tight = [serve(load, world(engine={"order": one}), **EARLY) for one in ("fcfs", order)]
    assert ttft_s(tight[1])[fast].mean() < 0.2 * ttft_s(tight[0])[fast].mean()
    assert ttft_s(tight[1])[~fast].mean() > ttft_s(tight[0])[~fast].mean()


# Step time


def test_with_constant_steps_company_slows_nobody(tmp_path: Path) -> None:
    constant = group(profile=even(tmp_path, 10 * 10**9))
    for per_s in (1.0, 16.0):
        spaced = tpot_s(serve(bursty(per_s=per_s), world(constant, engine=AMPLE), **EARLY))
        assert np.unique(spaced[bursty().output_tokens > 1]).tolist() == [0.01]
    real = [tpot_s(serve(bursty(per_s=per_s), world(engine=AMPLE), **EARLY)).mean() for per_s in (1.0, 16.0)]
    assert real[1] > 1.1 * real[0]


# Chunked prefill, token budget


def test_with_an_unlimited_budget_chunked_prefill_is_unchunked() -> None:
    load, _ = with_long_prompts()
    endless = {**AMPLE, "max_batch_tokens": 40_000}
    runs = [serve(load, world(engine={**endless, "chunked_prefill": chunked}), **EARLY) for chunked in (True, False)]
    assert_same(*runs)


def test_small_chunks_spare_those_who_decode_and_delay_long_prompts() -> None:
    load, is_long = with_long_prompts()
    small, large = (serve(load, world(engine={**AMPLE, "max_batch_tokens": most}), **EARLY) for most in (257, 8_192))
    assert p99(tpot_s(small)[~is_long]) < 0.9 * p99(tpot_s(large)[~is_long])
    assert p99(gap_s(small)[~is_long]) < 0.2 * p99(gap_s(large)[~is_long])
    assert ttft_s(small)[is_long].mean() > 1.2 * ttft_s(large)[is_long].mean()


# Preemption


def evicting(**engine: Any) -> RunResult:
    load = bursty(slo_class=np.where(np.arange(240) % 10 == 0, 1, 3))
    return serve(load, world(engine={"order": "preemptive", **engine}), **EARLY)


def test_free_swapping_loses_nothing_and_hides_nothing() -> None:
    free = [evicting(preemption="swap", swap_gb_per_s=0.0, swap_overlaps=overlaps) for overlaps in (False, True)]
    assert_same(*free)
    assert free[0].requests.preemption_count.sum() > 50
    assert free[0].requests.lost_tokens.sum() == 0


def test_where_nobody_is_evicted_swapping_is_recomputing() -> None:
    assert_same(*(evicting(**AMPLE, preemption=kind) for kind in ("swap", "recompute")))


def test_what_eviction_costs_decides_what_it_is_worth() -> None:
    recomputed = evicting()
    assert recomputed.requests.lost_tokens.sum() > 10_000
    free, fast, slow = (evicting(preemption="swap", swap_gb_per_s=speed) for speed in (0.0, 16.0, 1.0))
    hidden = evicting(preemption="swap", swap_gb_per_s=1.0, swap_overlaps=True)
    means = [e2e_s(result).mean() for result in (free, fast, recomputed, hidden, slow)]
    assert means == sorted(means)
    assert means[0] < 0.95 * means[2] < means[2] < 0.8 * means[4]


# Migration


def moved_ps(config: MigrationConfig | None, crowd: int = 0) -> int:
    """When a request ends that is moved to an empty instance after a second, from one with so many others."""
    profile = profile_of(PROFILE, max_seqs=64, max_batch_tokens=512, kv_tokens=100_000)
    kernel, agenda, ended = MovableKernel(make_kernel(100, "reference")), Agenda(), list[Migration]()
    machines = [Machine(kernel.add(profile, EngineFlags()), name, group(), profile) for name in "ab"]
    for row in range(crowd + 1):
        kernel.arrive(0, row, 400, 300 if row == 0 else 1_000, 0, 0, 0)
    if config is not None:
        moves = Migrations(agenda, kernel, config, ended.append)

        def move() -> None:
            assert moves.start(0, *machines)

        agenda.at(10**12, move)
    while kernel.finish_ps(0) < 0:
        due_ps = agenda.next_ps
        if not kernel.advance(due_ps) and kernel.finish_ps(0) < 0:
            agenda.pop()()
    assert [one.outcome for one in ended] == ([] if config is None else ["moved"])
    return kernel.finish_ps(0)


def test_a_free_move_costs_an_iteration_and_downtime_costs_itself() -> None:
    ms = 10**9
    stayed = moved_ps(None)
    free = moved_ps(MigrationConfig(bandwidth_gb_per_s=0.0, downtime_ms=0.0))
    down = moved_ps(MigrationConfig(bandwidth_gb_per_s=0.0, downtime_ms=3_000.0))
    assert 0 <= free - stayed < 30 * ms
    assert down - free == pytest.approx(3_000 * ms, abs=30 * ms)


def test_a_move_out_of_a_crowd_pays_unless_it_takes_too_long() -> None:
    stayed = moved_ps(None, crowd=60)
    assert moved_ps(MigrationConfig(downtime_ms=30.0), crowd=60) < stayed
    assert moved_ps(MigrationConfig(downtime_ms=3_000.0), crowd=60) > stayed


# Hidden lengths


def test_a_noisy_oracle_without_noise_is_clairvoyant() -> None:
    capped: Arm = {**SHORTEST, "puller_parameters": {"count": 12}}
    exact, noiseless, noisy = (
        serve(bursty(), world(), length, parameters, **capped)
        for length, parameters in (("clairvoyant", {}), ("noisy", {"sigma": 0.0}), ("noisy", {"sigma": 1.5}))
    )
    assert_same(exact, noiseless)
    assert e2e_s(noisy).mean() > e2e_s(exact).mean()


def test_a_prediction_that_takes_no_time_delays_nobody() -> None:
    lone, quick, slow = (
        serve(bursty(20, 0.2), world(network=NetworkConfig(prediction_ms=delay_ms))) for delay_ms in (0.0, 0.0004, 80.0)
    )
    assert_same(lone, quick)
    np.testing.assert_allclose(ttft_s(slow) - ttft_s(lone), 0.08, atol=0.02)


# Classes


@pytest.mark.parametrize("order", ["priority", "preemptive"])
@pytest.mark.parametrize("slo_class", [1, 3])
def test_one_class_alone_has_nobody_to_pass(order: str, slo_class: int) -> None:
    load = bursty(slo_class=np.full(240, slo_class))
    assert_same(*(serve(load, world(engine={"order": one}), **EARLY) for one in ("fcfs", order)))


def test_what_is_refused_is_missed() -> None:
    def attained(hold_s: float) -> tuple[float, int]:
        promise = Promises(interactive_normal=Promise(ttft_s=1_000.0))
        result = serve(bursty(), world(), hold_timeout_interactive_normal_s=hold_s, puller_parameters={"count": 4})
        everyone = summarize(result, promise, world()).classes[0]
        return everyone.attainment or 0.0, everyone.rejected_count

    assert attained(HOURS) == (1.0, 0)
    attainment, rejected = attained(5.0)
    assert rejected > 24
    assert attainment == pytest.approx(1 - rejected / 240)


# Late binding


def test_with_an_unlimited_cap_late_binding_is_early_binding() -> None:
    endless: Arm = {"puller": "fixed_cap", "puller_parameters": {"count": 10**6}}
    early = serve(bursty(), world(group(2)), **EARLY)
    for order in (Arm(), SHORTEST):
        assert_same(early, serve(bursty(), world(group(2)), **{**endless, **order}))


def test_an_order_works_the_more_the_tighter_the_cap() -> None:
    def gain(cap: int) -> float:
        fcfs, shortest = (
            e2e_s(serve(bursty(), world(), puller_parameters={"count": cap}, **order)).mean()
            for order in (Arm(), SHORTEST)
        )
        return float(shortest / fcfs)

    gains = [gain(cap) for cap in (8, 16, 32, 64, 240)]
    assert gains == sorted(gains)
    assert gains[0] < 0.5
    assert gains[-1] == 1.0
