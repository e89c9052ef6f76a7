"""A profile from tables of layers adds them up as an engine runs them."""

import itertools
from pathlib import Path

import pytest

from forebay.core.errors import ConfigError
from forebay.core.instance import PrefillChunk
from forebay.core.units import PS_PER_US
from forebay.simulator.calibration.layers import Layers, profile_from_layers

LAYERS = Layers("made", layer_count=10, kv_tokens=10_000, max_seqs=16, max_batch_tokens=256)
TOKENS = (1, 16, 64, 256)
EXPERTS = (4, 8, 16)


def attention_us(chunk: int, before: int, decodes: int, each: int) -> float:
    """A made-up kernel that has the form of the model exactly."""
    decode = (2 + 0.5 * decodes + 0.01 * decodes * each) if decodes else 0.0
    prefill = (3 + 0.02 * chunk + 0.001 * chunk * (before + (chunk + 1) / 2)) if chunk else 0.0
    shared = 0.004 * decodes * each + 0.003 * decodes * chunk if decodes and chunk else 0.0
    return decode + prefill + shared


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    dense = {"embedding": 5.0, "layernorm": 2.0, "qkv_proj": 20.0, "final_layernorm": 1.0}
    lines = [f"{name},{t},{base + 0.1 * t}" for name, base in dense.items() for t in TOKENS]
    (tmp_path / "m_dense.csv").write_text("\n".join(["layer,tokens,time_us", *lines]))
    heads = [f"{name},{n},{base + n}" for name, base in (("lm_head", 30.0), ("sampler", 4.0)) for n in (1, 16)]
    (tmp_path / "m_per_sequence.csv").write_text("\n".join(["layer,sequences,time_us", *heads]))
    grid = itertools.product((0, 16, 64, 256), (0, 128), (0, 2, 8, 16), (64, 512, 1024))
    cases = {(c, k if c else 0, n, e if n else 0) for c, k, n, e in grid} - {(0, 0, 0, 0)}
    rows = [",".join(map(str, (*case, attention_us(*case)))) for case in sorted(cases)]
    (tmp_path / "m_attention.csv").write_text("\n".join(["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", *rows]))
    moe = [f"{t},{e},{10.0 * e + 0.1 * t}" for t in TOKENS for e in EXPERTS]
    (tmp_path / "m_moe.csv").write_text("\n".join(["tokens,activated_experts,time_us", *moe]))
    return str(tmp_path / "m")


def dense_us(tokens: int) -> float:
    once = (5.0 + 1.0) + 2 * 0.1 * tokens
    return once + 10 * (2 * (2.0 + 0.1 * tokens) + 20.0 + 0.1 * tokens)


def head_us(rows: int) -> float:
    return 34.0 + 2 * rows


def test_a_decode_iteration_is_the_sum_of_its_layers(prefix: str) -> None:
    profile = profile_from_layers(prefix, LAYERS)
    expected_us = dense_us(16) + head_us(16) + 10 * attention_us(0, 0, 16, 500)
    assert profile.duration_ps(16, 16 * 500) / PS_PER_US == pytest.approx(expected_us, rel=0.002)


def test_a_mixed_iteration_pays_for_being_mixed(prefix: str) -> None:
    profile = profile_from_layers(prefix, LAYERS)
    expected_us = dense_us(108) + head_us(16) + 10 * attention_us(100, 128, 8, 500)
    found_us = profile.duration_ps(8, 8 * 500, [PrefillChunk(100, 128)]) / PS_PER_US
    assert found_us == pytest.approx(expected_us, rel=0.01)


def test_a_mixture_pays_for_the_experts_that_its_tokens_wake(prefix: str) -> None:
    mixture = Layers("made", 10, 10_000, 16, 256, experts=16, experts_each=4)
    extra_ps = (
        profile_from_layers(prefix, mixture).iteration_ps[1] - profile_from_layers(prefix, LAYERS).iteration_ps[1]
    )
    assert extra_ps / PS_PER_US == pytest.approx(10 * (10.0 * 4 + 0.1), rel=0.001)


def test_replicas_in_step_are_one_instance_of_all_their_seats(prefix: str) -> None:
    pair = Layers(
        "made",
        10,
        10_000,
        16,
        256,
        experts=16,
        experts_each=4,
        replicas=2,
        hidden=1_000,
        link_s=1e-5,
        link_bytes_per_s=2e10,
    )
    profile = profile_from_layers(prefix, pair)
    assert (profile.max_seqs, profile.max_batch_tokens, profile.kv_tokens, profile.gpu_count) == (32, 512, 20_000, 2)
    woken = 8 * (1 - (1 - 4 / 16) ** 32)
    exchange_us = 2 * (10 + 1e6 * 2 * 1_000 * 16 / pair.link_bytes_per_s)
    one_us = dense_us(16) + head_us(16) + 10 * (10.0 * woken + 0.1 * 16 + exchange_us + attention_us(0, 0, 16, 500))
    assert profile.duration_ps(32, 32 * 500) / PS_PER_US == pytest.approx(one_us, rel=0.002)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none_dense\.csv: no such file"):
        profile_from_layers(str(tmp_path / "none"), LAYERS)


def test_a_wrong_number_is_named_by_its_line(prefix: str) -> None:
    Path(f"{prefix}_dense.csv").write_text("layer,tokens,time_us\nembedding,1,fast\n")
    with pytest.raises(ConfigError, match=r"m_dense\.csv:2: time_us must be a number"):
        profile_from_layers(prefix, LAYERS)
