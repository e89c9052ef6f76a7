"""Profiles by name: from the catalog, and from files that say what they rest on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebay.core.errors import ConfigError
from forebay.core.instance import EngineProfile, compute_profile
from forebay.simulator.profiles import load, profile_of, save

PROFILE = EngineProfile(
    name="measured",
    status="checked",
    iteration_ps=tuple(range(0, 65 * 1_000, 1_000)),
    decode_ps=3,
    context_token_ps=2,
    prefill_ps=50,
    half_pair_fixed=5,
    prefill_token_fixed=7,
    kv_tokens=640,
    max_seqs=8,
    block_size=4,
    mixed_context_token_ps=9,
    mixed_pair_ps=1,
)
EVIDENCE = {"runs": ["a.jsonl"], "check": [{"run": "b.jsonl", "e2e_request": 1.5}]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "measured.json"
    save(path, PROFILE, EVIDENCE)
    return path


def edited(file: Path, **changes: Any) -> Path:
    document = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    return file


def test_a_file_gives_back_every_integer_and_the_evidence(file: Path) -> None:
    assert load(file) == (PROFILE, EVIDENCE)


def test_a_name_of_the_catalog_is_computed() -> None:
    expected = compute_profile("H100", "Llama-3-8B", max_seqs=64, max_batch_tokens=512, kv_tokens=4_096)
    assert profile_of("H100/Llama-3-8B/tp1", max_seqs=64, max_batch_tokens=512, kv_tokens=4_096) == expected


def test_limits_of_a_file_can_only_be_narrowed(file: Path) -> None:
    assert profile_of(str(file), max_seqs=256, max_batch_tokens=2_048) == PROFILE
    small = profile_of(str(file), max_seqs=4, max_batch_tokens=16, kv_tokens=320)
    assert (small.max_seqs, small.max_batch_tokens, small.kv_tokens, small.block_size) == (4, 16, 320, 4)


def test_without_a_check_on_other_runs_a_profile_is_uncalibrated(file: Path) -> None:
    assert load(edited(file, evidence={"runs": ["a.jsonl"]}))[0] == replace(PROFILE, status="uncalibrated")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema": "other"}, "schema must be"),
        ({"decode_ps": 1.5}, "decode_ps must be a whole number"),
        ({"decode_ps": None}, "decode_ps is missing"),
        ({"decode_us": 1}, "unknown key 'decode_us'"),
        ({"iteration_ps": [0, "x"]}, "iteration_ps must be a list"),
        ({"iteration_ps": [0, 5, 4]}, "iteration_ps must be positive and must not fall"),
        ({"status": "good"}, "status must be one of"),
        ({"evidence": []}, "evidence must be an object"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_key(file: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"{file}: .*{complaint}"):
        load(edited(file, **changes))


def test_broken_json_is_refused_by_line(file: Path) -> None:
    file.write_text('{\n"schema": oops}')
    with pytest.raises(ConfigError, match=f"{file}:2: not JSON"):
        profile_of(str(file))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="forebay calibrate"):
        profile_of(str(tmp_path / "none.json"))
