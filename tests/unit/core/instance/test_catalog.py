"""Profiles computed from the catalog: test vectors, and every row of the fitted table where it is present."""

import csv
import os
from pathlib import Path

import pytest

from forebay.core.instance import (
    GPUS,
    MODELS,
    EngineProfile,
    PrefillChunk,
    compute_profile,
    parse_profile_name,
)

DATA = Path(os.getenv("FOREBAY_DATA", str(Path(__file__).resolve().parents[5] / "shared" / "data")))
PROFILES = DATA / "open" / "perf" / "engine_profiles.csv"
MS = 1e9


def pair_ps(profile: EngineProfile) -> float:
    return 2 * profile.half_pair_fixed / 1024


def test_llama_3_8b_on_an_a100_has_the_published_integers() -> None:
    profile = compute_profile("A100-80G", "Llama-3-8B")
    assert (profile.context_token_ps, profile.decode_ps, profile.prefill_ps) == (87_730, 517_067, 370_388_936)
    assert profile.iteration_ps[1] == 11_448_643_094
    assert pair_ps(profile) == pytest.approx(3001.709, abs=0.002)


def test_llama_3_8b_on_an_h100_has_the_published_integers() -> None:
    profile = compute_profile("H100", "Llama-3-8B")
    assert (profile.context_token_ps, profile.decode_ps, profile.prefill_ps) == (
        44_274,
        1_114_177,
        420_858_683,
    )
    assert profile.iteration_ps[1] == 6_708_878_424
    assert pair_ps(profile) == pytest.approx(780.796, abs=0.002)


@pytest.mark.parametrize(
    ("gpu", "model", "tp", "kv_tokens", "decode_ms", "prefill_ms"),
    [
        ("A100-80G", "Llama-3-8B", 1, 455_088, 14.7, 143),
        ("H100", "Llama-3-8B", 1, 455_088, 8.3, 49),
        ("H200", "Llama-3-8B", 1, 904_829, 5.9, 39),
        ("L4", "Llama-3-8B", 1, 31_152, 82, 512),
        ("A40", "Llama-2-7B", 1, 59_717, 70.5, 318),
        ("H100", "Llama-3-70B", 4, 486_245, 17.9, 154),
    ],
)
def test_capacity_and_speed_are_plausible(
    gpu: str, model: str, tp: int, kv_tokens: int, decode_ms: float, prefill_ms: float
) -> None:
    profile = compute_profile(gpu, model, tp)
    assert profile.kv_tokens == kv_tokens
    assert profile.duration_ps(32, 32 * 1024) / MS == pytest.approx(decode_ms, rel=0.01)
    assert profile.duration_ps(0, 0, [PrefillChunk(2048, 0)]) / MS == pytest.approx(prefill_ms, rel=0.02)


@pytest.mark.skipif(not PROFILES.exists(), reason="the table of fitted profiles is not on this machine")
def test_every_row_of_the_fitted_table_is_reproduced() -> None:
    with PROFILES.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 111
    for row in rows:
        profile = compute_profile(row["gpu"], row["model"], int(row["tp"]), max_batch_tokens=512)
        assert integers(profile) == expected_integers(row), profile.name
        assert pair_ps(profile) == pytest.approx(float(row["sim_gamma_ps_per_pair"]), abs=0.002)
        assert profile.duration_ps(1, 512) / MS == pytest.approx(float(row["decode_ms_b1_c512"]), rel=0.002)
        assert profile.duration_ps(128, 128 * 1024) / MS == pytest.approx(float(row["decode_ms_b128_c1024"]), rel=0.002)
        # One table for both phases charges the head for rows that are not sampled: a little slower.
        slower = profile.duration_ps(0, 0, [PrefillChunk(512, 0)]) / MS / float(row["prefill_ms_512"])
        assert 0.998 < slower < 1.08, profile.name


def integers(profile: EngineProfile) -> tuple[int, ...]:
    return (
        profile.kv_tokens,
        profile.weight_bytes_per_gpu,
        profile.context_token_ps,
        profile.decode_ps,
        profile.prefill_ps,
        profile.iteration_ps[1],
    )


def expected_integers(row: dict[str, str]) -> tuple[int, ...]:
    columns = (
        "kv_capacity_tokens",
        "weight_bytes_per_gpu",
        "sim_beta_ps_per_ctx_token",
        "sim_per_seq_ps",
        "sim_pre0_ps",
        "sim_F1_ps",
    )
    return tuple(int(row[column]) for column in columns)


def test_a_token_takes_the_cache_that_its_layers_and_heads_need() -> None:
    assert compute_profile("H100", "Llama-3-8B").kv_bytes_per_token_per_gpu == 2 * 32 * 8 * 128 * 2
    assert compute_profile("H100", "Llama-3-70B", 4).kv_bytes_per_token_per_gpu == 2 * 80 * 2 * 128 * 2


def test_every_gpu_states_how_far_it_can_be_trusted() -> None:
    assert {gpu.status for gpu in GPUS.values()} == {"checked", "kernel-level", "uncalibrated"}
    assert GPUS["L4"].status == GPUS["A10G"].status == "uncalibrated"


def test_a_name_is_gpu_model_and_parallelism() -> None:
    assert parse_profile_name("H100/Llama-3-70B/tp4") == ("H100", "Llama-3-70B", 4)
    assert parse_profile_name("L4/Llama-3-8B") == ("L4", "Llama-3-8B", 1)


@pytest.mark.parametrize("name", ["", "H100", "H100/Llama-3-8B/4", "H100/Llama-3-8B/tpx", "a/b/tp1/c"])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="GPU/MODEL"):
        parse_profile_name(name)


def test_an_unknown_gpu_or_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown GPU 'V100'; known: A100-80G"):
        compute_profile("V100", "Llama-3-8B")
    with pytest.raises(ValueError, match="unknown model 'GPT-5'; known: Llama-2-7B"):
        compute_profile("H100", "GPT-5")


def test_parallelism_without_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide the 28 heads"):
        compute_profile("H100", "Qwen2.5-7B", 8)
    with pytest.raises(ValueError, match="no all-reduce figure for RTX4090 at tp 2; known: 1"):
        compute_profile("RTX4090", "Llama-3-8B", 2)


def test_weights_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ValueError, match="kv_tokens must hold at least one block"):
        compute_profile("L4", "Llama-3-70B")


def test_the_engines_own_cache_size_and_step_time_win_over_the_rules() -> None:
    profile = compute_profile("H100", "Llama-3-8B", kv_tokens=10_000, step_s=0.00025)
    assert profile.kv_tokens == 10_000
    assert profile.iteration_ps[1] == 6_708_878_424 + 100_000_000


def test_all_models_have_heads_that_share_evenly() -> None:
    assert all(shape.query_heads % shape.kv_heads == 0 for shape in MODELS.values())
