"""A run says how far it is from the fewest GPU-hours that its promises could be kept with."""

import dataclasses
from dataclasses import replace

import pytest

from forebay.core.promises import Promise, Promises
from forebay.core.values import SloClass
from forebay.simulator.config import Group, PolicyConfig, Prefill, StudentConfig, World
from forebay.simulator.distance import Distance, distance_of
from forebay.simulator.oracles.bound import lower_hours
from forebay.simulator.parts import Scenario
from forebay.simulator.run import simulate
from forebay.simulator.summary import Summary, summarize
from forebay.simulator.workload import Workload, make_workload

S = 1_000_000
STATIC = PolicyConfig("arm", autoscaler={"policy": "static"})
TWO_GPUS = Group(model="b", profile="A100-80G/Llama-3-8B/tp2", instances_min=0)


def burst(count: int = 30, models: tuple[str, ...] = ("m",)) -> Workload:
    """Requests at once and nobody afterwards, dealt to the models in turn."""
    return make_workload(
        [row // 10 * S for row in range(count)],
        [200] * count,
        [60] * count,
        model=[row % len(models) for row in range(count)],
        names={"models": models},
        slo_class=[int(SloClass.INTERACTIVE_FAST)] * count,
    )


def world(*groups: Group, **given: object) -> World:
    fleet = groups or (Group(model="m", profile="A100-80G/Llama-3-8B/tp1", instances_min=0),)
    return World(groups=fleet, **given)  # type: ignore[arg-type]


def summary(workload: Workload, of: World) -> Summary:
    return summarize(simulate(Scenario(workload, of, STATIC), kernel="reference"), of.slo, of, workload)


def test_the_ratio_is_the_runs_gpu_hours_over_the_bound() -> None:
    found = summary(burst(), world())
    assert found.distance.lower_gpu_hours == pytest.approx(lower_hours(burst(), world()).hours)
    assert found.distance.ratio == pytest.approx(found.fleet.gpu_hours / (found.distance.lower_gpu_hours or 0))
    assert found.fleet.gpu_hours > (found.distance.lower_gpu_hours or 0) > 0
    assert found.distance.refusal == ""


def test_the_bound_is_for_the_promises_that_the_run_kept() -> None:
    strict = world(slo=Promises(interactive_fast=Promise(ttft_s=0.05, tpot_ms=100.0)))
    found = summary(burst(), strict)
    share = found.classes[0].attainment
    assert share is not None
    assert 0 < share < 1
    assert found.distance.lower_gpu_hours == pytest.approx(lower_hours(burst(), strict, share).gpu_hours)
    assert (found.distance.lower_gpu_hours or 0) < lower_hours(burst(), strict).gpu_hours


def test_the_promises_are_those_that_the_summary_is_made_for() -> None:
    result = simulate(Scenario(burst(), world(), STATIC), kernel="reference")
    impossible = Promises(interactive_fast=Promise(ttft_s=1e-6, tpot_ms=1.0))
    assert summarize(result, impossible, world(), burst()).distance == Distance(0.0, 0.0, None)


def test_gpus_count_and_each_model_has_its_own_share() -> None:
    both = world(Group(model="a", profile="A100-80G/Llama-3-8B/tp1", instances_min=0), TWO_GPUS)
    rows = burst(models=("a", "b"))
    plain = lower_hours(rows, both)
    only_b = distance_of(rows, both, {"a": 0.0, "b": 1.0}, 1.0)
    assert only_b.lower_gpu_hours == pytest.approx(2 * lower_hours(rows, both, {"a": 0.0}).hours)
    assert plain.hours < plain.gpu_hours < 2 * plain.hours


def test_the_bound_for_a_target_is_the_same_for_all_policies() -> None:
    strict = world(slo=Promises(interactive_fast=Promise(ttft_s=0.05, tpot_ms=100.0)))
    result = simulate(Scenario(burst(), strict, STATIC), kernel="reference")
    found = summarize(result, strict.slo, strict, burst(), target=0.9).distance
    assert found.target_share == 0.9
    assert found.target_gpu_hours == pytest.approx(lower_hours(burst(), strict, 0.9).gpu_hours)
    assert not found.relaxed


def test_where_a_model_has_several_groups_the_bound_is_a_relaxation() -> None:
    pools = (
        Group(model="m", profile="A100-80G/Llama-3-8B/tp1", instances_min=0),
        replace(TWO_GPUS, model="m", pool="big"),
    )
    found = distance_of(burst(), world(*pools), {}, 1.0)
    assert found.relaxed
    assert 0 < (found.lower_gpu_hours or 0) <= lower_hours(burst(), world(pools[0])).gpu_hours * (1 + 1e-9)


def test_no_ratio_is_made_up_where_nothing_is_needed() -> None:
    assert distance_of(burst(), world(), {"m": 0.0}, 1.0) == Distance(0.0, 0.0, None)


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (world(student=StudentConfig(share=0.1)), "student"),
        (world(prefill=(Prefill("m", "A100-80G/Llama-3-8B/tp1"),)), "prefill"),
    ],
    ids=("student", "prefill"),
)
def test_where_nothing_is_proven_the_reason_stands_instead(refused: World, words: str) -> None:
    found = distance_of(burst(), refused, {}, 1.0)
    assert words in found.refusal
    assert dataclasses.replace(found, refusal="") == Distance()


def test_without_the_workload_there_is_no_distance() -> None:
    result = simulate(Scenario(burst(), world(), STATIC), kernel="reference")
    assert summarize(result, Promises(), world()).distance == Distance()
