"""The phases of a start."""

from collections.abc import Callable

import numpy as np
import pytest

from forebay.core.instance import EngineProfile, compute_profile
from forebay.simulator.config import StartConfig
from forebay.simulator.shell.starting import Starts


@pytest.fixture(scope="module")
def profile() -> EngineProfile:
    return compute_profile("H100", "Llama-3-8B", 1, max_batch_tokens=512, max_seqs=64)


def streams(seed: int) -> Callable[[str], np.random.Generator]:
    return lambda name: np.random.default_rng([seed, *name.encode()])


def test_without_variation_a_start_takes_the_means_in_order(profile: EngineProfile) -> None:
    config = StartConfig(provisioning_s=30.0, image_s=10.0, runtime_s=5.0, weights_gb_per_s=2.0, warm_s=15.0)
    start = Starts(config, streams(0)).next(profile)
    weights_us = round(profile.weight_bytes_per_gpu / 2e9 * 1e6)
    assert start.phases_us == (30_000_000, 10_000_000, 5_000_000, weights_us, 15_000_000)
    assert start.live_us == 45_000_000
    assert start.ready_us == 60_000_000 + weights_us
    assert start.failed_us is None


def test_a_cold_start_of_nothing_takes_no_time(profile: EngineProfile) -> None:
    start = Starts(StartConfig(provisioning_s=0.0, weights_gb_per_s=0.0, warm_s=0.0), streams(0)).next(profile)
    assert start.ready_us == 0


def test_variation_keeps_the_mean_and_has_its_coefficient(profile: EngineProfile) -> None:
    starts = Starts(StartConfig(provisioning_s=40.0, variation=0.5), streams(3))
    drawn = np.array([starts.next(profile).phases_us[0] for _ in range(2_000)]) / 1e6
    assert drawn.mean() == pytest.approx(40.0, rel=0.04)
    assert drawn.std() / drawn.mean() == pytest.approx(0.5, rel=0.06)


def test_start_number_n_is_the_same_whatever_came_before(profile: EngineProfile) -> None:
    other = compute_profile("H100", "Llama-2-13B", 1, max_batch_tokens=512, max_seqs=64)
    config = StartConfig(variation=0.7, failure_share=0.3)
    one, two = Starts(config, streams(1)), Starts(config, streams(1))
    one.next(profile)
    two.next(other)
    assert one.next(profile) == two.next(profile)


def test_the_given_share_of_starts_fails_in_any_phase(profile: EngineProfile) -> None:
    starts = Starts(StartConfig(failure_share=0.2), streams(5))
    drawn = [starts.next(profile) for _ in range(2_000)]
    failing = [start for start in drawn if start.failing]
    assert len(failing) / len(drawn) == pytest.approx(0.2, abs=0.03)
    assert len({start.failing for start in failing}) == 5
    assert sum(start.refused for start in failing) / len(failing) == pytest.approx(0.2, abs=0.06)


def test_a_failing_start_fails_at_the_end_of_its_phase(profile: EngineProfile) -> None:
    starts = Starts(StartConfig(failure_share=1.0, provisioning_s=10.0, image_s=20.0), streams(2))
    start = next(start for start in (starts.next(profile) for _ in range(50)) if start.failing == "image")
    assert start.failed_us == 30_000_000
