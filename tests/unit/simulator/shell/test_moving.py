"""Runs in which running requests move: most of what round robin loses, moves bring back."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.config import EngineConfig, Group, MigrationConfig, PolicyConfig, Prefill, World
from forebay.simulator.parts import Scenario
from forebay.simulator.results import RunResult
from forebay.simulator.run import simulate
from forebay.simulator.workload import Workload
from forebay.simulator.workload.generators import make_generator

LENGTHS = {"kind": "lognormal", "prompt_p50": 100.0, "prompt_p90": 300.0, "output_p50": 120.0, "output_p90": 600.0}
ENGINE = EngineConfig(kv_tokens=6_000, max_seqs=64)
GROUP = Group("model", "L40S/Llama-2-7B/tp1", instances_initial=3, instances_min=3, instances_max=3)


@cache
def workload() -> Workload:
    options = {"rate_per_s": 4.8, "duration_s": 80.0, "lengths": LENGTHS}
    return make_generator("poisson", options).generate(1)


@cache
def run(migration: MigrationConfig = MigrationConfig(), check: bool = False, **scheduler: Any) -> RunResult:
    world = World(groups=(GROUP,), engine=ENGINE, migration=migration)
    settings = {"puller": "unlimited", "hold_timeout_interactive_normal_s": 600.0, **scheduler}
    return simulate(Scenario(workload(), world, PolicyConfig("arm", settings), 1), check=check)


def p99_s_per_token(result: RunResult) -> float:
    columns = result.requests
    return float(np.quantile((columns.finish_us - columns.arrival_us) / columns.output_tokens, 0.99) / 1e6)


def test_moves_bring_back_most_of_what_round_robin_loses_against_the_freest_dispatch() -> None:
    blind, moved, best = (
        p99_s_per_token(run(router="round_robin")),
        p99_s_per_token(run(router="round_robin", rescheduler="llumnix")),
        p99_s_per_token(run(router="llumnix")),
    )
    assert best < moved < blind
    assert blind - moved > 0.5 * (blind - best)


def test_every_request_that_moves_is_answered_in_full_and_no_invariant_breaks() -> None:
    result = run(check=True, router="round_robin", rescheduler="llumnix")
    assert result.counters["moves"] > 5
    assert (result.requests.status == 0).all()
    assert set(result.requests.attempt_count.tolist()) == {1}


def test_without_a_rescheduler_nothing_moves_whatever_a_move_would_cost() -> None:
    free = run(MigrationConfig(bandwidth_gb_per_s=0.0, downtime_ms=0.0), router="round_robin")
    assert "moves" not in free.counters
    assert p99_s_per_token(free) == p99_s_per_token(run(router="round_robin"))


def test_who_moves_stands_still_for_as_long_as_a_move_takes() -> None:
    def stood_still(result: RunResult) -> int:
        columns = result.requests
        return int(((columns.gap_us >= 3_000_000) & (columns.preemption_count == 0)).sum())

    slow = run(MigrationConfig(downtime_ms=3_000.0), router="round_robin", rescheduler="llumnix")
    quick = run(router="round_robin", rescheduler="llumnix")
    assert stood_still(slow) > stood_still(quick)


def test_moves_do_not_go_with_instances_that_only_read_prompts() -> None:
    world = World(groups=(GROUP,), engine=ENGINE, prefill=(Prefill("model", GROUP.profile),))
    with pytest.raises(ConfigError, match="does not go with"):
        simulate(Scenario(workload(), world, PolicyConfig("arm", {"rescheduler": "llumnix"}), 1))
