"""The rates of one instance: hand-computed cases of one request's time, limits by name, and how it bends."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.capacity import Engine, Mix, ServiceLevel, engine_of
from forebay.core.instance import EngineProfile

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
"""Every iteration takes 10 ms whatever it holds: a prompt is free unless nothing decodes."""
STEEP = replace(FLAT, iteration_ps=tuple(MS * tokens for tokens in range(1_001)))
"""1 ms a token."""
CHAT = Mix.of_samples([1_000] * 10, [200] * 10)


def test_a_full_batch_ends_as_many_requests_as_its_seats_over_the_time_of_a_response() -> None:
    """8 seats, 101 tokens of which the prompt gives the first: 100 iterations of 10 ms, thus 8 requests a second."""
    load = Engine(FLAT).capacity(Mix.of_samples([1], [101]), ServiceLevel(utilisation_max=1.0))
    assert load.requests_per_s == pytest.approx(8.0, rel=1e-3)
    assert load.limit == "seats"
    assert load.itl_s == pytest.approx(0.01)
    assert load.response_tokens_per_s == pytest.approx(808.0, rel=1e-3)
    assert load.tokens_per_s == pytest.approx(816.0, rel=1e-3)


def test_prompts_alone_are_limited_by_the_time_of_full_iterations() -> None:
    """500 tokens take half a full iteration of 1 s."""
    load = Engine(STEEP).capacity(Mix.of_samples([500], [1]), ServiceLevel(utilisation_max=1.0))
    assert load.requests_per_s == pytest.approx(2.0, rel=1e-3)
    assert load.limit == "compute"


def test_a_share_of_the_most_is_what_may_be_used_where_nothing_is_promised() -> None:
    full, part = (
        Engine(FLAT).capacity(CHAT, ServiceLevel(utilisation_max=share)).requests_per_s for share in (1.0, 0.5)
    )
    assert part == pytest.approx(full / 2)


def test_the_mean_batch_is_littles_law() -> None:
    load = Engine(FLAT).load_at(Mix.of_samples([1], [101]), 2.0)
    assert load.batch_mean == pytest.approx(load.requests_per_s * 100 * load.itl_s, rel=1e-6)
    assert load.batch_mean == pytest.approx(2.0, rel=0.02)


def test_caches_that_fit_four_times_make_the_memory_the_limit() -> None:
    small = Engine(replace(FLAT, kv_tokens=4_800))
    load = small.capacity(CHAT, ServiceLevel(ttft_s=5.0, itl_s=0.1))
    assert load.limit == "kv"
    assert load.requests_per_s < Engine(FLAT).capacity(CHAT, ServiceLevel(ttft_s=5.0, itl_s=0.1)).requests_per_s


def test_a_request_that_never_fits_leaves_no_rate() -> None:
    load = Engine(replace(FLAT, kv_tokens=1_000)).capacity(CHAT, ServiceLevel(ttft_s=1.0))
    assert (load.requests_per_s, load.limit) == (0.0, "kv")


def test_a_few_requests_that_never_fit_are_misses_and_load_nobody() -> None:
    level = ServiceLevel(ttft_s=5.0, itl_s=0.1, share=0.9)
    small = Engine(replace(FLAT, kv_tokens=20_000))
    plain = small.capacity(Mix.of_samples([1_000] * 20, [200] * 20), replace(level, share=0.9 / 0.95))
    some = small.capacity(Mix.of_samples([1_000] * 19 + [30_000], [200] * 20), level)
    assert some.requests_per_s == pytest.approx(plain.requests_per_s / 0.95)
    assert some.attainment == pytest.approx(0.95 * plain.attainment)
    assert some.prompt_tokens_per_s == pytest.approx(plain.prompt_tokens_per_s)


@pytest.mark.parametrize(
    ("level", "limit"),
    [
        (ServiceLevel(ttft_s=0.005), "ttft"),
        (ServiceLevel(itl_s=0.005), "itl"),
        (ServiceLevel(e2e_s=1.0), "e2e"),
    ],
)
def test_a_promise_that_an_idle_instance_breaks_is_named(level: ServiceLevel, limit: str) -> None:
    load = Engine(FLAT).capacity(CHAT, level)
    assert (load.requests_per_s, load.limit) == (0.0, limit)


def test_at_its_capacity_an_instance_keeps_the_promised_share() -> None:
    level = ServiceLevel(ttft_s=1.0, itl_s=0.05, share=0.95)
    load = engine_of("A100-80G/Llama-3-8B/tp1").capacity(CHAT, level)
    assert load.attainment == pytest.approx(0.95, abs=0.01)
    assert load.limit == "itl"


@settings(max_examples=25, deadline=None)
@given(
    prompt=st.integers(1, 6_000), response=st.integers(2, 2_000), ttft=st.floats(0.5, 20.0), itl=st.floats(0.03, 0.5)
)
def test_a_looser_promise_never_takes_rate_away(prompt: int, response: int, ttft: float, itl: float) -> None:
    engine, mix = engine_of("H100/Llama-3-8B/tp1"), Mix.of_samples([prompt], [response])
    strict, loose = (engine.capacity(mix, ServiceLevel(ttft * by, itl * by)).requests_per_s for by in (1.0, 1.5))
    assert loose >= strict * 0.99


def test_points_keep_the_means_and_nearly_the_spread_of_samples() -> None:
    draws = np.random.default_rng(1)
    prompts, responses = draws.lognormal(6, 1, 5_000), draws.lognormal(5, 1, 5_000)
    mix = Mix.of_samples(prompts, responses)
    assert len(mix.shares) <= 64
    assert mix.prompt_mean == pytest.approx(prompts.mean())
    assert mix.response_mean == pytest.approx(responses.mean())
    square = mix.response_tokens**2 @ mix.shares
    assert square == pytest.approx((responses**2).mean(), rel=0.12)


def test_a_heavy_tail_takes_capacity_where_means_say_it_does_not() -> None:
    engine, level = engine_of("L4/Llama-3-8B/tp1"), ServiceLevel(ttft_s=5.0, itl_s=0.15)
    even = Mix.of_samples([600, 600], [300, 300])
    tailed = Mix.of_samples([600] * 20, [100] * 18 + [2_100] * 2)
    assert tailed.response_mean == pytest.approx(even.response_mean)
    assert engine.capacity(tailed, level).requests_per_s < 0.9 * engine.capacity(even, level).requests_per_s


def test_quantiles_make_the_mix_that_forecasts_speak_of() -> None:
    mix = Mix.of_quantiles((100, 500, 2_000, 4_000), (20, 150, 400, 700))
    assert mix.shares.sum() == pytest.approx(1.0)
    assert mix.prompt_mean == pytest.approx(850, rel=0.15)


def test_a_mix_needs_as_many_prompts_as_responses() -> None:
    with pytest.raises(ValueError, match="as many prompts"):
        Mix.of_samples([1, 2], [1])
