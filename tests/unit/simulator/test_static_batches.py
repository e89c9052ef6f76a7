"""Whole runs with static batches that the scheduler forms: what the family gains, and where that vanishes."""

from typing import Any

import numpy as np
import pytest

from forebay.simulator.config import World
from forebay.simulator.results import RunResult
from forebay.simulator.workload import Workload, make_workload
from tests.unit.simulator.switches import assert_same, bursty, e2e_s, group, serve, world

S = 1_000_000
STATIC = {
    "batcher": "static",
    "batch_given": True,
    "batch_padding": True,
    "batch_answers_wait": True,
    "batch_delay_us": 50_000,
    "kv_tokens": 8_192,
    "max_batch_tokens": 2_048,
}
BUSY = {"wma_max": 60_000.0}


def static(count: int = 1, context: int = 2_048, **engine: Any) -> World:
    return world(group(count), engine={**STATIC, "model_tokens_max": context, **engine})


def equal(count: int, prompt: int = 100, output: int = 60, apart_us: int = 0) -> Workload:
    """Requests of equal lengths, all at once unless they come one after the other."""
    ones = np.ones(count, dtype=np.int64)
    return make_workload(np.arange(count, dtype=np.int64) * apart_us, ones * prompt, ones * output)


def makespan_s(result: RunResult) -> float:
    return float(result.requests.finish_us.max()) / S


def test_with_equal_lengths_vs_and_glp_coincide() -> None:
    load = equal(200, apart_us=20_000)
    assert_same(*(serve(load, static(), grouper=name) for name in ("vs", "glp")))


def test_with_equal_lengths_abp_and_magnus_coincide() -> None:
    # 51 requests of 160 tokens fill 8,192 tokens, so all batches are as large.
    load = equal(2 * 51 + 1)
    assert_same(*(serve(load, static(), grouper=name) for name in ("abp", "magnus")))


def test_with_a_constant_prediction_glp_is_vs() -> None:
    load, said = bursty(), {"tokens": (54, 129, 424, 509)}
    runs = [serve(load, static(), "constant", said, grouper=name) for name in ("vs", "glp")]
    assert_same(*runs)


def test_engines_that_batch_by_themselves_heed_no_grouper() -> None:
    load = bursty()
    assert_same(*(serve(load, world(), grouper=name) for name in ("vs", "magnus")))


def test_each_step_of_the_family_answers_sooner() -> None:
    load, mean_s = bursty(360, per_s=12.0), dict[str, float]()
    for name, parameters in {"vs": {}, "glp": {}, "abp": BUSY, "magnus": BUSY}.items():
        result = serve(load, static(), grouper=name, grouper_parameters=parameters)
        assert (result.requests.finish_us > 0).all()
        mean_s[name] = float(e2e_s(result).mean())
    assert mean_s["magnus"] < mean_s["abp"] < mean_s["glp"] < mean_s["vs"]


def test_magnus_finishes_more_requests_a_second_than_vs_and_fewer_than_continuous_batching() -> None:
    load = bursty(360, per_s=12.0)
    vanilla = makespan_s(serve(load, static(), grouper="vs"))
    magnus = makespan_s(serve(load, static(), grouper="magnus", grouper_parameters=BUSY))
    continuous = makespan_s(serve(load, world(engine={"kv_tokens": 8_192, "max_batch_tokens": 2_048})))
    assert continuous < magnus < 0.7 * vanilla


def test_conservative_continuous_batching_never_evicts_and_plain_continuous_batching_does() -> None:
    load = bursty(360, per_s=12.0)
    where = world(engine={"kv_tokens": 4_096, "model_tokens_max": 2_048, "max_batch_tokens": 2_048})
    careful, plain = serve(load, where, puller="ccb"), serve(load, where)
    assert careful.requests.preemption_count.sum() == 0 < plain.requests.preemption_count.sum()


def test_more_memory_makes_vanilla_batches_larger() -> None:
    load = bursty(200, per_s=12.0)
    plain = makespan_s(serve(load, static(), grouper="vs"))
    quantised = makespan_s(serve(load, static(kv_tokens=14_000), grouper="vsq"))
    assert quantised < plain


def test_a_batch_that_outgrows_its_memory_is_answered_all_the_same() -> None:
    # Everything is predicted to be short, so batches are far too large.
    load = bursty(120, per_s=20.0)
    result = serve(load, static(), "constant", {"tokens": (10, 10, 10, 10)}, grouper="magnus")
    assert result.requests.preemption_count.sum() > 0
    assert (result.requests.finish_us > 0).all()
    known = serve(load, static(), grouper="magnus")
    assert known.requests.preemption_count.sum() < result.requests.preemption_count.sum()


@pytest.mark.parametrize("count", [1, 3])
def test_batches_run_on_every_instance_that_is_free(count: int) -> None:
    result = serve(equal(60, apart_us=10_000), static(count), grouper="vs")
    assert len(set(result.requests.instance.tolist())) == count
