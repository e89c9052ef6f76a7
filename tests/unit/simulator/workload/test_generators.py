"""Generators make the traffic that they promise, the same from one seed."""

from dataclasses import replace

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.workload.arrivals import Diurnal, Gamma, Poisson, Spikes
from forebay.simulator.workload.base import COLUMNS, Workload, make_workload
from forebay.simulator.workload.generators import GENERATORS, make_generator
from forebay.simulator.workload.lengths import FixedLengths, LognormalLengths, SampledLengths


def same(one: Workload, other: Workload) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in (*COLUMNS, "blocks", "parents"))


def rate_per_s(workload: Workload, start_s: float, end_s: float) -> float:
    times = workload.arrival_us / 1e6
    return float(((times >= start_s) & (times < end_s)).sum()) / (end_s - start_s)


@pytest.mark.parametrize("name", GENERATORS)
def test_equal_seeds_give_equal_workloads_and_others_do_not(name: str) -> None:
    generator = make_generator(name, {"duration_s": 600.0})
    assert same(generator.generate(3), generator.generate(3))
    assert not same(generator.generate(3), generator.generate(4))


def test_poisson_arrivals_have_their_rate_and_a_variation_of_one() -> None:
    workload = Poisson(rate_per_s=20.0, duration_s=5_000.0).generate(1)
    gaps = np.diff(workload.arrival_us)
    assert rate_per_s(workload, 0, 5_000) == pytest.approx(20.0, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("cv", [0.0, 0.5, 3.0])
def test_gamma_gaps_have_their_rate_and_variation(cv: float) -> None:
    workload = Gamma(rate_per_s=50.0, duration_s=10_000.0, cv=cv).generate(1)
    gaps = np.diff(workload.arrival_us)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.05)
    assert rate_per_s(workload, 0, 10_000) == pytest.approx(50.0, rel=0.02)


def test_a_short_window_of_bursty_gaps_has_the_rate_on_average() -> None:
    generator = Gamma(rate_per_s=1.0, duration_s=5.0, cv=3.0)
    counts = []
    for seed in range(2_000):
        try:
            counts.append(len(generator.generate(seed)))
        except ValueError:
            counts.append(0)
    assert np.mean(counts) == pytest.approx(5.0, rel=0.08)


def test_a_day_is_high_half_a_period_after_its_trough() -> None:
    day = Diurnal(rate_per_s=2.0, duration_s=86_400.0, amplitude=0.5, trough_s=0.0, noise=0.0).generate(1)
    assert rate_per_s(day, 0, 3_600) == pytest.approx(1.0, rel=0.1)
    assert rate_per_s(day, 41_400, 45_000) == pytest.approx(3.0, rel=0.1)
    assert rate_per_s(day, 0, 86_400) == pytest.approx(2.0, rel=0.02)
    assert day.arrival_us[-1] < 86_400_000_000


def test_noise_leaves_the_mean_rate_and_moves_the_minutes() -> None:
    still = Diurnal(rate_per_s=5.0, duration_s=200_000.0, amplitude=0.0, noise=0.0)
    counts = [np.bincount(one.generate(1).arrival_us // 60_000_000) for one in (still, replace(still, noise=0.4))]
    assert counts[1].mean() == pytest.approx(counts[0].mean(), rel=0.05)
    assert counts[1].std() > 4 * counts[0].std()


def test_spikes_come_when_they_are_due() -> None:
    workload = Spikes(
        rate_per_s=10.0, duration_s=1_000.0, factor=4.0, first_s=100.0, spike_s=50.0, every_s=400.0
    ).generate(1)
    assert rate_per_s(workload, 0, 100) == pytest.approx(10.0, rel=0.15)
    assert rate_per_s(workload, 100, 150) == pytest.approx(40.0, rel=0.1)
    assert rate_per_s(workload, 500, 550) == pytest.approx(40.0, rel=0.1)
    assert rate_per_s(workload, 550, 900) == pytest.approx(10.0, rel=0.1)


def test_other_lengths_leave_the_arrivals_as_they_were() -> None:
    one, other = (Poisson(lengths=lengths).generate(1) for lengths in (FixedLengths(), LognormalLengths()))
    assert np.array_equal(one.arrival_us, other.arrival_us)


def test_lognormal_lengths_have_their_quantiles_and_stay_below_their_maxima() -> None:
    model = LognormalLengths(prompt_p50=500, prompt_p90=2_000, prompt_max=4_000)
    prompts, outputs = model.draw(200_000, np.random.default_rng(1))
    assert np.quantile(prompts, [0.5, 0.9]) == pytest.approx([500, 2_000], rel=0.03)
    assert prompts.max() == 4_000
    assert min(prompts.min(), outputs.min()) >= 1


def test_sampled_lengths_keep_prompt_and_answer_together() -> None:
    source = make_workload([0, 1, 2], [10, 20, 30], [1, 2, 3])
    prompts, outputs = SampledLengths(source).draw(100, np.random.default_rng(1))
    assert np.array_equal(prompts, outputs * 10)
    assert set(outputs) == {1, 2, 3}


def test_a_table_names_the_lengths() -> None:
    made = make_generator("poisson", {"rate_per_s": 2, "lengths": {"kind": "fixed", "prompt_tokens": 7}})
    assert set(made.generate(1).prompt_tokens) == {7}
    source = make_workload([0], [10], [4])
    sampled = make_generator("gamma", {"lengths": {"kind": "sampled"}}, source)
    assert set(sampled.generate(1).output_tokens) == {4}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("poison", {}),
        ("poisson", {"rate": 1.0}),
        ("poisson", {"rate_per_s": -1.0}),
        ("poisson", {"rate_per_s": float("nan")}),
        ("gamma", {"cv": float("inf")}),
        ("poisson", {"lengths": {"kind": "long"}}),
        ("poisson", {"lengths": "fixed"}),
        ("poisson", {"lengths": {"kind": "fixed", "prompt": 1}}),
        ("poisson", {"lengths": {"kind": "sampled"}}),
    ],
)
def test_what_cannot_be_is_a_config_error(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        make_generator(name, options)
