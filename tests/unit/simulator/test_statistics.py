"""Intervals, paired differences and verdicts say no more than the seeds do."""

import dataclasses

import pytest

from forebay.core.promises import Promises
from forebay.simulator.statistics import MEASURES, Runs, Verdict, interval, paired, verdicts
from forebay.simulator.summary import ALL, Summary, summarize
from tests.unit.simulator.made import WORLD, drawn

BY_KEY = {measure.key: measure for measure in MEASURES}


def summary(name: str, seed: int, load: float = 1.0, attainment: float = 0.9, gpu_hours: float = 1.0) -> Summary:
    made = summarize(drawn(name, seed, load, count=20), Promises(), WORLD)
    first = dataclasses.replace(made.classes[0], attainment=attainment)
    fleet = dataclasses.replace(made.fleet, gpu_hours=gpu_hours)
    return dataclasses.replace(made, classes=(first,), fleet=fleet)


def verdict(runs: Runs, key: str = "attainment", **given: tuple[str, ...]) -> Verdict:
    [found] = [one for one in verdicts(runs, [BY_KEY[key]], **given) if one.slo_class == ALL]
    return found


def test_the_interval_is_students_over_the_seeds() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found is not None
    assert (found.mean, found.count) == (2.0, 3)
    assert found.half == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_one_seed_has_no_interval_and_none_has_no_mean() -> None:
    one = interval([1.0])
    assert one is not None
    assert one.half is None
    assert interval([]) is None


def test_differences_are_taken_seed_by_seed() -> None:
    found = paired({1: 10.0, 2: 20.0, 3: 5.0}, {1: 9.0, 2: 19.0, 4: 0.0})
    assert found is not None
    assert (found.mean, found.half, found.count) == (1.0, 0.0, 2)


def test_the_better_policy_wins_where_every_seed_agrees() -> None:
    runs = Runs([summary("a", seed, attainment=0.9 + seed / 100) for seed in (1, 2, 3)]
                + [summary("b", seed, attainment=0.8 + seed / 100) for seed in (1, 2, 3)])  # fmt: skip
    found = verdict(runs)
    assert found.winners == ("a",)
    assert found.margin == pytest.approx(0.92 / 0.82 - 1)
    assert found.decided


def test_policies_tie_where_the_interval_of_their_difference_includes_zero() -> None:
    noisy = {1: 0.95, 2: 0.80, 3: 0.99}
    runs = Runs([summary("a", seed, attainment=value) for seed, value in noisy.items()]
                + [summary("b", seed, attainment=0.9) for seed in noisy])  # fmt: skip
    assert set(verdict(runs).winners) == {"a", "b"}
    assert verdict(runs).margin is None


def test_less_is_better_for_gpu_hours() -> None:
    runs = Runs([summary("a", 1, gpu_hours=2.0), summary("b", 1, gpu_hours=1.0)])
    found = verdict(runs, "gpu_hours")
    assert found.winners == ("b",)
    assert not found.decided


def test_equal_runs_tie() -> None:
    runs = Runs([summary(name, seed) for name in "ab" for seed in (1, 2)])
    assert verdict(runs).winners == ("a", "b")


def test_oracles_do_not_compete() -> None:
    runs = Runs([summary(name, 1, attainment=value) for name, value in (("a", 0.8), ("b", 0.7), ("oracle", 1.0))])
    assert verdict(runs, leave_out=("oracle",)).winners == ("a",)


def test_fleet_measures_are_judged_once_a_load() -> None:
    made = [summarize(drawn(name, 1, load), Promises(), WORLD) for name in "ab" for load in (1.0, 2.0)]
    found = [one for one in verdicts(Runs(made)) if one.measure.key == "gpu_hours"]
    assert [(one.load, one.slo_class) for one in found] == [(1.0, ALL), (2.0, ALL)]


def test_a_policy_without_a_run_at_a_load_is_not_judged_there() -> None:
    runs = Runs([summary("a", 1), summary("b", 1), summary("a", 1, load=2.0)])
    assert [one.load for one in verdicts(runs, [BY_KEY["attainment"]])] == [1.0]
