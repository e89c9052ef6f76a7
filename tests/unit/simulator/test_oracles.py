"""Oracles know the truth, and nothing the simulator does is better than the bound from below."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forebay.autoscaler.policy.autoscaler.base import PoolView
from forebay.core.errors import ConfigError
from forebay.core.instance import EngineRequest, InstanceModel
from forebay.core.values import InferenceRequest, LengthQuantiles, ModelLoad, SloClass
from forebay.predictor.policy.forecaster import WorkloadHistory
from forebay.simulator.arms import check_arm
from forebay.simulator.config import ClientConfig, EngineConfig, Fault, Knob, PolicyConfig, StartConfig, StudentConfig
from forebay.simulator.oracles import ClairvoyantForecast, ClairvoyantLength, NoisyLength, ScheduledFleet
from forebay.simulator.oracles.bound import engine_profile, last_end_us, lower_hours, may_miss
from forebay.simulator.oracles.cheapest import cheapest
from forebay.simulator.oracles.fleet import Step
from forebay.simulator.oracles.fluid import Demand, FluidEngine, demand_of
from forebay.simulator.oracles.planned import fill, planned
from forebay.simulator.oracles.search import autoscaler_table, lowest_share, oracle_hours
from forebay.simulator.profiles import profile_of
from forebay.simulator.summary import met
from forebay.simulator.usage import fleet_usage
from forebay.simulator.workload import Workload, make_workload
from tests.unit.simulator.shell.worlds import KERNEL, PROFILE, S, group, run, workload, world

SMALL = profile_of(PROFILE, max_seqs=8, max_batch_tokens=64, kv_tokens=2_048)
LIMITS = EngineConfig(max_seqs=8, max_batch_tokens=64, kv_tokens=2_048)


def query(row: int, tokens_max: int = 0) -> InferenceRequest:
    return InferenceRequest(f"r{row}", "model", 10, tokens_max=tokens_max)


# Lengths


def test_the_clairvoyant_length_is_the_true_one_cut_at_the_limit() -> None:
    oracle = ClairvoyantLength(workload([0, 0], output_tokens=[70, 900]))
    cut, whole = oracle.predict([query(1, 100), query(0)])
    assert cut.quantiles == LengthQuantiles(100, 100, 100, 100)
    assert whole.quantiles == LengthQuantiles(70, 70, 70, 70)


def test_an_error_belongs_to_its_row_whatever_is_asked_in_which_order() -> None:
    truth = workload([0] * 20, output_tokens=[50] * 20)
    forwards = NoisyLength(truth, 0.8, seed=3).predict([query(row) for row in range(20)])
    backwards = [NoisyLength(truth, 0.8, seed=3).predict([query(row)])[0] for row in reversed(range(20))]
    assert list(forwards) == backwards[::-1]
    assert len({one.quantiles.p50 for one in forwards}) > 10
    assert NoisyLength(truth, 0.8, seed=4).predict([query(0)])[0] != forwards[0]


def test_without_an_error_it_is_the_truth() -> None:
    truth = workload([0, 0], output_tokens=[50, 7])
    assert NoisyLength(truth, 0.0).predict([query(1)])[0].quantiles == LengthQuantiles(7, 7, 7, 7)


def test_the_truth_lies_below_each_quantile_as_often_as_its_level_says() -> None:
    lengths = np.random.default_rng(1).integers(50, 2_000, 4_000).tolist()
    found = NoisyLength(workload([0] * 4_000, output_tokens=lengths), 0.7, seed=5).predict(
        [query(row) for row in range(4_000)]
    )
    for name, level in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9), ("p97", 0.97)):
        below = sum(truth <= getattr(one.quantiles, name) for truth, one in zip(lengths, found, strict=True))
        # Four standard deviations of 4,000 throws.
        assert below / 4_000 == pytest.approx(level, abs=4 * (level * (1 - level) / 4_000) ** 0.5)


def test_an_impossible_error_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma"):
        NoisyLength(workload([0]), -1.0)


def test_a_run_can_have_a_clairvoyant_predictor() -> None:
    result = run(
        workload([0, 0, 0], output_tokens=[20, 33, 4], output_tokens_max=[0, 30, 0]),
        world(),
        policy={"predictor": {"length": "clairvoyant"}},
    )
    assert result.requests.predicted_p50.tolist() == [20, 30, 4]


def test_a_run_can_have_a_noisy_predictor_with_its_parameters() -> None:
    table = {"length": "noisy", "parameters": {"noisy": {"sigma": 0.0}}}
    result = run(workload([0], output_tokens=[33]), world(), policy={"predictor": table})
    assert result.requests.predicted_p50.tolist() == [33]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"predictor": {"length": "noisy", "parameters": {"noisy": {"sigmas": 1.0}}}}, "did you mean 'sigma'"),
        ({"predictor": {"length": "noisy", "parameters": {"noisy": {"sigma": -1.0}}}}, "sigma must be"),
        ({"autoscaler": {"policy": "clairvoyant", "parameters": {"leads_s": 1.0}}}, "did you mean 'lead_s'"),
    ],
)
def test_an_arm_with_an_oracle_is_checked_as_strictly_as_any_other(table: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check_arm(PolicyConfig("arm", **table), "policies[0]")


def test_an_arm_may_name_every_oracle() -> None:
    check_arm(
        PolicyConfig(
            "arm",
            autoscaler={"policy": "clairvoyant", "parameters": {"steps": [{"model": "m", "instances": 2}]}},
            predictor={"length": "noisy", "forecaster": "clairvoyant", "parameters": {"noisy": {"sigma": 0.3}}},
        ),
        "policies[0]",
    )


# Traffic


def two_models() -> Workload:
    return make_workload(
        [1 * S, 5 * S, 61 * S, 62 * S, 200 * S],
        [10, 20, 30, 40, 50],
        [1, 2, 3, 400, 5],
        model=[0, 1, 0, 0, 1],
        output_tokens_max=[0, 0, 0, 4, 0],
        names={"models": ("m", "n")},
    )


def windows(model: str, **wrong: float) -> list[tuple[int, float, float, float]]:
    history = WorkloadHistory((), 60 * S, 60 * S, 3)
    return [
        (one.start_us // S, one.requests.p50, one.prompt_tokens.p10, one.response_tokens.p97)
        for one in ClairvoyantForecast(two_models(), model, **wrong).forecast(history)  # type: ignore[arg-type]
    ]


def test_the_clairvoyant_forecast_is_what_will_arrive() -> None:
    assert windows("m") == [(60, 2, 70, 7), (120, 0, 0, 0), (180, 0, 0, 0)]
    assert windows("n") == [(60, 0, 0, 0), (120, 0, 0, 0), (180, 1, 50, 5)]
    assert windows("") == [(60, 2, 70, 7), (120, 0, 0, 0), (180, 1, 50, 5)]
    assert windows("unknown") == [(60, 0, 0, 0), (120, 0, 0, 0), (180, 0, 0, 0)]


def test_a_forecaster_that_knows_can_be_told_to_be_wrong() -> None:
    assert windows("m", factor=1.5) == [(60, 3, 105, 10.5), (120, 0, 0, 0), (180, 0, 0, 0)]
    assert windows("m", late_s=60.0) == [(60, 1, 10, 1), (120, 2, 70, 7), (180, 0, 0, 0)]
    with pytest.raises(ValueError, match="must not be negative"):
        windows("m", factor=-1.0)
    wrong = {"forecaster": "clairvoyant", "length": "none", "parameters": {"clairvoyant": {"factor": 0.7}}}
    assert len(run(workload([0] * 3), world(), policy={"predictor": wrong}).requests.status) == 3


def test_a_run_can_have_a_clairvoyant_forecaster() -> None:
    result = run(workload([0] * 3), world(), policy={"predictor": {"forecaster": "clairvoyant", "length": "none"}})
    assert len(result.requests.status) == 3


# Fleets


def view(now_s: float, model: str = "m") -> PoolView:
    return PoolView(model, round(now_s * S), 1, 0, 0, 1, 0, 9, 2, 32.0, ModelLoad(model), ((0, 0.0),))


def test_the_scheduled_fleet_wants_what_will_be_needed_within_its_lead() -> None:
    steps = (Step("m", 0, 1), Step("m", 100, 5), Step("m", 200, 2), Step("n", 0, 7))
    fleet = ScheduledFleet(steps, lead_s=30.0)
    at = {now_s: fleet.choose(view(now_s)).instances_wanted for now_s in (0, 69, 70, 100, 180, 200, 999)}
    assert at == {0: 1, 69: 1, 70: 5, 100: 5, 180: 5, 200: 2, 999: 2}
    assert fleet.choose(view(50, "n")).instances_wanted == 7
    assert fleet.choose(view(50, "other")).instances_wanted == 2


def test_a_pool_has_steps_of_its_own() -> None:
    fleet = ScheduledFleet((Step("m", 0, 3, "east"), Step("m", 0, 2)))
    assert fleet.choose(view(0)).instances_wanted == 2
    assert fleet.choose(replace(view(0), pool="east")).instances_wanted == 3


def test_a_schedule_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="by pool and time"):
        ScheduledFleet((Step("m", 100, 1), Step("m", 0, 5)))


def test_scheduled_instances_are_ready_in_time() -> None:
    steps = [{"model": "model", "at_s": at_s, "instances": count} for at_s, count in ((0, 1), (60, 3), (120, 1))]
    start = StartConfig(provisioning_s=20.0, weights_gb_per_s=0.0, warm_s=5.0)
    table = {"policy": "clairvoyant", "parameters": {"steps": steps, "lead_s": 30.0}, "tick_s": 1.0}
    result = run(
        workload([number * S for number in range(0, 160, 4)]),
        world(group(1, instances_max=3), start=start),
        policy={"autoscaler": table, "predictor": {"length": "none"}},
    )
    ready_us = [one.at_us for one in result.changes if one.state == "READY" and one.at_us]
    assert len(ready_us) == 2
    assert all(50 * S <= at_us <= 60 * S for at_us in ready_us)
    gone_us = [one.at_us for one in result.changes if one.state == "DRAINING"]
    assert len(gone_us) == 2
    assert all(120 * S <= at_us <= 125 * S for at_us in gone_us)


# The bound from below

LENGTHS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 120)), min_size=1, max_size=25)


def demand(lengths: list[tuple[int, int]]) -> Demand:
    prompts, answers = zip(*lengths, strict=True)
    return demand_of(workload([0] * len(lengths), prompts, answers), False)


def total(each: Demand) -> Demand:
    return each.summed(np.zeros(len(each.decodes), dtype=np.int64), 1)


@settings(max_examples=60, deadline=None)
@example([(64, 1)])
@given(LENGTHS)
def test_inv_bound_no_instance_is_faster_than_the_fluid_bound(lengths: list[tuple[int, int]]) -> None:
    instance = InstanceModel(SMALL)
    for number, (prompt, answer) in enumerate(lengths):
        instance.arrive(EngineRequest(f"r{number}", prompt, answer), 0)
    busy_s = max(event.at_ps for event in instance.advance(10**15)) / 1e12
    assert FluidEngine(SMALL).busy_s(total(demand(lengths)))[0] <= busy_s


def test_the_bound_is_close_where_the_engine_is_kept_full() -> None:
    lengths = [(8, 200)] * 80
    instance = InstanceModel(SMALL)
    for number, (prompt, answer) in enumerate(lengths):
        instance.arrive(EngineRequest(f"r{number}", prompt, answer), 0)
    busy_s = max(event.at_ps for event in instance.advance(10**15)) / 1e12
    assert FluidEngine(SMALL).busy_s(total(demand(lengths)))[0] > 0.95 * busy_s


@given(LENGTHS, LENGTHS, st.floats(0.1, 20))
def test_the_bound_is_subadditive_and_homogeneous(
    some: list[tuple[int, int]], others: list[tuple[int, int]], factor: float
) -> None:
    engine = FluidEngine(SMALL)
    a, b, both = total(demand(some)), total(demand(others)), total(demand(some + others))
    assert engine.busy_s(both)[0] <= (engine.busy_s(a)[0] + engine.busy_s(b)[0]) * (1 + 1e-9)
    scaled = Demand(*(factor * column for column in (a.prompt_tokens, a.double_pairs, a.decodes, a.context_tokens)))
    assert engine.busy_s(scaled)[0] == pytest.approx(factor * engine.busy_s(a)[0])


def test_a_full_cache_and_few_seats_both_raise_the_bound() -> None:
    lengths = [(100, 200)] * 10
    plain = FluidEngine(SMALL).busy_s(total(demand(lengths)))[0]
    few_seats = FluidEngine(replace(SMALL, max_seqs=2)).busy_s(total(demand(lengths)))[0]
    little_cache = FluidEngine(replace(SMALL, kv_tokens=512)).busy_s(total(demand(lengths)))[0]
    assert few_seats > 2 * plain
    assert little_cache > 1.5 * plain


def test_text_that_came_before_may_be_remembered() -> None:
    rows = make_workload([0, 0, 0], [96, 96, 32], [5, 5, 5], block_tokens=32, blocks=[[1, 2, 3], [1, 2, 9], [1]])
    assert demand_of(rows, False).prompt_tokens.tolist() == [96, 96, 32]
    assert demand_of(rows, True).prompt_tokens.tolist() == [96, 32, 1]


def test_a_request_must_end_by_what_its_class_is_promised_and_by_its_own_deadline() -> None:
    rows = workload(
        [0, 0, 0, 0, 7],
        output_tokens=[1, 11, 11, 11, 11],
        slo_class=[1, 1, 1, 3, 3],
        deadline_us=[0, 0, 1_500_000, 0, 20],
        parents=[[], [], [], [], [3]],
    )
    ends = last_end_us(rows, world().slo).tolist()
    assert ends[:3] == [1_000_000, 3_000_000, 1_500_000]
    assert min(ends[3:]) > 10**15


@pytest.mark.parametrize(
    ("count", "attainment", "misses"), [(10, 0.9, 1), (100, 0.95, 5), (99, 0.95, 4), (7, 1.0, 0), (0, 0.5, 0)]
)
def test_a_share_allows_so_many_misses(count: int, attainment: float, misses: int) -> None:
    assert may_miss(count, attainment) == misses


def test_the_fewest_instances_stand_all_the_time_unless_they_may_be_lost() -> None:
    calm = workload([0, 3_600 * S])
    assert lower_hours(calm, world(group(2))).hours == pytest.approx(2.0, abs=1e-4)
    crashes = world(group(2), faults=(Fault(at_s=1.0, model="model"),))
    assert lower_hours(calm, crashes).hours < 0.01


def test_nobody_knows_how_long_a_run_of_closed_loops_lasts() -> None:
    late_child = workload([0, 3_600 * S], parents=[[], [0]])
    assert lower_hours(late_child, world(group(2))).hours < 0.01


def test_a_peak_pays_for_the_starts_that_it_needs() -> None:
    rush = workload([0] * 2_000, 200, 60, slo_class=[int(SloClass.INTERACTIVE_FAST)] * 2_000)
    at_once, slow = (
        lower_hours(rush, world(group(1, instances_max=99), start=StartConfig(provisioning_s=start_s)))
        for start_s in (0.0, 1_000.0)
    )
    started = (slow.hours - at_once.hours) * 3.6
    assert started == pytest.approx(round(started))
    assert started >= 1
    assert slow.busy_hours == at_once.busy_hours


def test_a_lower_share_never_needs_more() -> None:
    rows = workload([number * S for number in range(200)], output_tokens=[1 + number for number in range(200)])
    hours = [lower_hours(rows, world(group(0, instances_max=9)), share).hours for share in (1.0, 0.99, 0.9, 0.5, 0.0)]
    assert hours == sorted(hours, reverse=True)
    assert hours[-1] == 0


def test_a_faster_clock_lowers_the_bound() -> None:
    rows = workload([0] * 50)
    plain, fast = (lower_hours(rows, world(group(0), knobs=knobs)).busy_hours for knobs in ((), (Knob(frequency=2.0),)))
    assert fast == pytest.approx(plain / 2, rel=1e-3)


def test_a_world_in_which_a_student_answers_is_refused() -> None:
    with pytest.raises(ConfigError, match="student"):
        lower_hours(workload([0]), world(student=StudentConfig(share=0.1)))


def test_groups_that_are_alike_are_bound_as_one() -> None:
    rows = workload([number * S // 10 for number in range(300)], 60, 120)
    one = lower_hours(rows, world(group(3, instances_min=2)))
    two = lower_hours(rows, world(group(2, instances_min=1), group(1, instances_min=1, pool="far", region="far")))
    assert two == one


def test_a_group_that_nobody_scales_stands_with_all_that_it_has_at_first() -> None:
    calm = workload([0, 3_600 * S])
    fixed, moved = (
        lower_hours(calm, world(group(1, instances_min=0), group(3, instances_min=0, pool=pool))).hours
        for pool in ("", "far")
    )
    assert fixed == pytest.approx(3.0, abs=1e-4)
    assert moved < 0.01


def test_the_cheapest_engine_is_never_slower_than_a_share_of_each() -> None:
    """Whatever goes to which of two engines, the bound of both together is below the sum of theirs."""
    slow = replace(SMALL.slowed(3.0), max_seqs=16, kv_tokens=4_096)
    both = FluidEngine(cheapest([SMALL, slow], [2, 1]))
    lengths = [(30 + 7 * number % 200, 1 + 31 * number % 90) for number in range(40)]
    for share in (0, 10, 20, 40):
        parts = 2 * FluidEngine(SMALL).busy_s(total(demand(lengths[:share])))[0] if share else 0.0
        parts += FluidEngine(slow).busy_s(total(demand(lengths[share:])))[0] if share < 40 else 0.0
        assert both.busy_s(total(demand(lengths)))[0] <= parts * (1 + 1e-9)


def test_the_cheapest_of_equal_engines_is_that_engine() -> None:
    assert cheapest([SMALL, SMALL], [1, 1]) == SMALL


# What is achieved


def wave() -> Workload:
    """20 s of calm, 40 s of rush, 20 s of calm."""
    times = [*range(0, 20, 4), *np.arange(20, 60, 0.1).tolist(), *range(60, 80, 4)]
    count = len(times)
    return workload([round(at_s * S) for at_s in times], 60, 120, slo_class=[int(SloClass.INTERACTIVE_FAST)] * count)


def test_the_search_finds_a_schedule_between_the_bound_and_the_best_constant_fleet() -> None:
    start = StartConfig(provisioning_s=2.0, weights_gb_per_s=0.0, warm_s=0.0)
    given = world(group(1, instances_max=8), start=start)
    found = oracle_hours(wave(), given, attainment=0.95, window_s=20.0, run_count_max=16, kernel=KERNEL)
    assert found.achieved_hours is not None
    constant = found.static_counts["model"] * 80 / 3_600
    assert 0 < found.lower_hours <= found.achieved_hours < constant
    calm, *rush, after = found.schedule["model"]
    assert calm < max(rush) > after
    assert found.attainment >= 0.95
    assert found.run_count <= 16
    table = autoscaler_table(found.schedule, found.window_s, given)
    arm = {"autoscaler": table, "predictor": {"length": "clairvoyant"}, "scheduler": {"router": "join_shortest_tokens"}}
    check_arm(PolicyConfig("arm", **arm), "policies[0]")  # type: ignore[arg-type]
    usage = fleet_usage(run(wave(), given, policy=arm, check=False), given)
    assert usage.instance_hours == found.achieved_hours


def test_the_search_moves_pools_of_two_regions_apart() -> None:
    """All requests come from afar: the pool there is the one that keeps its instances."""
    rows = wave()
    far = make_workload(
        rows.arrival_us.tolist(),
        rows.prompt_tokens.tolist(),
        rows.output_tokens.tolist(),
        slo_class=rows.slo_class.tolist(),
        region=[0] * len(rows),
        names={"regions": ("far",)},
    )
    start = StartConfig(provisioning_s=2.0, weights_gb_per_s=0.0, warm_s=0.0)
    groups = (group(1, instances_min=0, instances_max=4), group(1, instances_max=8, region="far", pool="far"))
    given = world(*groups, start=start)
    found = oracle_hours(far, given, attainment=0.95, window_s=20.0, run_count_max=16, kernel=KERNEL)
    assert found.achieved_hours is not None
    assert set(found.schedule) == {"model", "far"}
    assert sum(found.schedule["far"]) > sum(found.schedule["model"])
    assert found.lower_hours <= found.achieved_hours
    steps = autoscaler_table(found.schedule, found.window_s, given)["parameters"]["steps"]  # type: ignore[index]
    assert {step.get("pool", "") for step in steps} == {"", "far"}


def test_many_pools_are_searched_from_a_plan() -> None:
    """Two models in two regions: at the plan's own scale or the next the promises hold, and no run is left over."""
    times = np.arange(0, 80, 0.2)
    rows = make_workload(
        (times * S).astype(np.int64).tolist(),
        [60] * 400,
        [120] * 400,
        slo_class=[int(SloClass.INTERACTIVE_FAST)] * 400,
        model=[number % 2 for number in range(400)],
        region=[number // 2 % 2 for number in range(400)],
        names={"models": ("m", "n"), "regions": ("local", "far")},
    )
    start = StartConfig(provisioning_s=2.0, weights_gb_per_s=0.0, warm_s=0.0)
    groups = [
        replace(group(1, instances_max=6), model=model, region=region, pool=f"{model}-{region}")
        for model in ("m", "n")
        for region in ("local", "far")
    ]
    given = world(*groups, start=start)
    plan = planned(rows, given, 20.0, 0.95)
    assert set(plan) == {"m-local", "m-far", "n-local", "n-far"}
    assert all(len(counts) == 4 and min(counts) >= 1 for counts in plan.values())
    found = oracle_hours(rows, given, attainment=0.95, window_s=20.0, run_count_max=3, kernel=KERNEL)
    assert found.achieved_hours is not None
    assert found.attainment >= 0.95
    assert found.lower_hours <= found.achieved_hours
    assert (found.run_count <= 3, found.static_counts) == (True, {})


def filled(counts: list[int], free: list[float], come: list[float], due: list[float], most: int = 9) -> list[int]:
    pair = (np.array(come), np.array(due))
    found: list[int] = fill(np.array(counts), np.array(free), pair, 100.0, most).tolist()
    return found


def test_deferred_work_that_fits_into_what_is_free_adds_nothing() -> None:
    assert filled([2, 2, 2], [50.0, 50.0, 50.0], [120.0, 0.0, 0.0], [0.0, 0.0, 120.0]) == [2, 2, 2]


def test_deferred_work_that_does_not_fit_takes_the_latest_of_the_lowest_windows_before_it_is_due() -> None:
    assert filled([3, 1, 1, 1], [0.0] * 4, [90.0, 0.0, 0.0, 0.0], [0.0, 0.0, 90.0, 0.0]) == [3, 1, 2, 1]
    assert filled([3, 1, 1, 1], [0.0] * 4, [190.0, 0.0, 0.0, 0.0], [0.0, 0.0, 190.0, 0.0]) == [3, 2, 2, 1]


def test_no_window_gets_more_than_its_most_and_what_cannot_be_done_in_time_is_left() -> None:
    assert filled([1, 1], [0.0, 0.0], [900.0, 0.0], [0.0, 900.0], most=2) == [2, 2]


def test_work_cannot_be_done_before_it_comes() -> None:
    assert filled([1, 1, 1], [100.0, 0.0, 0.0], [0.0, 80.0, 0.0], [0.0, 0.0, 80.0]) == [1, 1, 2]


def test_the_lowest_share_is_of_the_class_that_fares_worst() -> None:
    rows = make_workload(
        [0] * 6, [1] * 6, [1] * 6, model=[0, 0, 1, 1, 1, 1], slo_class=[1, 2, 1, 1, 3, 3], names={"models": ("m", "n")}
    )
    assert lowest_share(rows, np.array([True, True, True, False, True, True])) == 0.5
    assert lowest_share(rows, np.ones(6, dtype=np.bool_)) == 1.0


def test_a_promise_that_no_fleet_keeps_is_told() -> None:
    found = oracle_hours(wave(), world(group(1)), attainment=0.95, window_s=60.0, kernel=KERNEL)
    assert found.achieved_hours is None
    assert 0 < found.attainment < 0.95
    assert found.run_count == 1


def test_the_profile_of_the_bound_is_that_of_the_run() -> None:
    assert engine_profile(world(), group()) == SMALL
    assert engine_profile(world(), group(concurrency_max=4)).max_seqs == 4
    assert world(clients=ClientConfig()).engine == LIMITS


@pytest.mark.parametrize("seed", range(12))
def test_inv_bound_no_run_keeps_its_promises_with_fewer_hours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.choice([5, 40, 150]))
    prompts = rng.integers(1, 300, count).tolist()
    rows = workload(
        np.sort(rng.integers(0, int(rng.choice([5, 60, 300])) * S, count)).tolist(),
        prompts,
        rng.integers(1, 150, count).tolist(),
        slo_class=rng.integers(1, 4, count),
        blocks=[rng.integers(0, 7, -(-prompt // 32)).tolist() for prompt in prompts],
        block_tokens=32,
        parents=[[row - 2] if row > 2 and seed % 4 == 0 and rng.random() < 0.5 else [] for row in range(count)],
    )
    most = int(rng.integers(1, 6))
    batcher = "static" if seed % 5 == 0 else "chunked_prefill"
    given = world(
        group(int(rng.integers(1, most + 1)), instances_min=int(rng.integers(0, 2)), instances_max=most),
        engine={"prefix_cache_tokens": int(rng.choice([0, 4_096])), "batcher": batcher},
        start=StartConfig(provisioning_s=float(rng.choice([0.0, 20.0])), weights_gb_per_s=0.0, warm_s=1.0),
        faults=(Fault(at_s=3.0, model="model"),) if seed % 3 == 0 else (),
    )
    scaling = ["static", "kpa", "hpa_ratio"][seed % 3]
    policy = {"autoscaler": {"policy": scaling}, "predictor": {"length": "clairvoyant"}}
    result = run(rows, given, policy=policy, check=False)
    share = float(met(result.requests, given.slo).mean())
    assert lower_hours(rows, given, share).hours <= fleet_usage(result, given).instance_hours
