"""The knee of one instance is where the simulator says that promises break."""

from dataclasses import replace

import numpy as np
import pytest

from forebay.core.capacity import ServiceLevel
from forebay.core.instance import EngineFlags, EngineProfile
from forebay.simulator.knee import Traffic, Trial, find_knee, try_rate

MS = 10**9
FLAT = EngineProfile(
    name="flat",
    status="checked",
    iteration_ps=(0, *(10 * MS for _ in range(1_000))),
    decode_ps=0,
    context_token_ps=0,
    prefill_ps=0,
    half_pair_fixed=0,
    prefill_token_fixed=0,
    kv_tokens=1_000_000,
    max_seqs=8,
)
EVEN = Traffic(np.full(2_000, 10), np.full(2_000, 100), np.ones(2_000))


def test_even_arrivals_hold_up_to_seats_over_the_time_of_a_request() -> None:
    """8 seats, 100 iterations of 10 ms each: 8 requests a second, and queues grow above."""
    knee = find_knee(FLAT, EngineFlags(), [EVEN], ServiceLevel(ttft_s=0.5), start_per_s=1.0)
    assert knee.requests_per_s == pytest.approx(8.0, rel=0.03)
    assert knee.prompt_tokens_per_s == pytest.approx(10 * knee.requests_per_s)
    assert knee.tokens_per_s == pytest.approx(110 * knee.requests_per_s)


def test_a_trial_tells_what_a_lone_request_takes() -> None:
    """The prompt's iteration and 99 more of 10 ms: 1 s each, one at a time."""
    trial = try_rate(FLAT, EngineFlags(), EVEN, ServiceLevel(ttft_s=0.5), 0.1)
    assert trial.attainment == 1.0
    assert trial.ttft_mean_s == pytest.approx(0.01)
    assert trial.itl_mean_s == pytest.approx(0.01)
    assert trial.batch_mean == pytest.approx(0.099, rel=0.01)


def test_a_promise_that_nobody_can_keep_has_no_rate() -> None:
    knee = find_knee(FLAT, EngineFlags(), [EVEN], ServiceLevel(ttft_s=0.001))
    assert (knee.requests_per_s, knee.tokens_per_s) == (0.0, 0.0)


def test_requests_that_never_fit_are_misses() -> None:
    small = replace(FLAT, kv_tokens=64)
    assert try_rate(small, EngineFlags(), EVEN, ServiceLevel(ttft_s=10.0), 1.0).attainment == 0.0


def test_every_trial_is_heard() -> None:
    heard: list[Trial] = []
    knee = find_knee(FLAT, EngineFlags(), [EVEN], ServiceLevel(ttft_s=0.5), heard=heard.append)
    assert tuple(heard) == knee.trials


def test_without_a_promise_there_is_no_knee() -> None:
    with pytest.raises(ValueError, match="promise"):
        find_knee(FLAT, EngineFlags(), [EVEN], ServiceLevel())


def test_recorded_gaps_keep_their_shape_at_any_rate() -> None:
    traffic = Traffic.recorded(np.array([5.0, 5.0, 6.0, 8.0]), np.full(4, 10), np.full(4, 2))
    assert traffic.gap.sum() == pytest.approx(4.0)
    assert traffic.gap[3] == 2 * traffic.gap[2]
