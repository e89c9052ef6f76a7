"""`forebay calibrate` from files to a profile file, and what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forebay.cli import main
from forebay.simulator.calibration.runs import Run
from forebay.simulator.profiles import load, profile_of
from tests.unit.simulator.calibration.kit import measured, traffic, with_secret

BASE = "A100-80G/Llama-3-8B/tp1"
LIMITS = ("--max-seqs", "32", "--max-batch-tokens", "512", "--kv-tokens", "200000")
STEP_S = 2.5e-3


def write(path: Path, run: Run) -> Path:
    names = ("arrival_s", "first_s", "last_s", "prompt_tokens", "output_tokens", "hit_tokens")
    columns = [getattr(run, name).tolist() for name in names]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def monday(tmp_path: Path) -> Path:
    return write(tmp_path / "monday.jsonl", measured(traffic(), with_secret(STEP_S)))


@pytest.fixture
def tuesday(tmp_path: Path) -> Path:
    return write(tmp_path / "tuesday.jsonl", measured(traffic(seed=5), with_secret(STEP_S)))


def calibrate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["calibrate", "--profile", BASE, *LIMITS, *map(str, arguments)])


def test_a_checked_profile_is_written_with_its_evidence(monday: Path, tuesday: Path, tmp_path: Path) -> None:
    output = tmp_path / "a100.json"
    result = calibrate("--runs", monday, "--check", tuesday, "--engine", "vLLM 0.19", "--output", output)
    assert result.exit_code == 0, result.output
    assert "Errors on runs that were kept apart" in result.output
    profile, evidence = load(output)
    assert (profile.name, profile.status) == ("a100", "checked")
    own = profile_of(BASE).iteration_ps[1] / 1e12
    assert profile.iteration_ps[1] / 1e12 - own == pytest.approx(STEP_S - 0.15e-3, rel=0.02)
    assert (evidence["runs"], evidence["engine"]) == (["monday.jsonl"], "vLLM 0.19")
    assert evidence["check"][0]["run"] == "tuesday.jsonl"
    assert evidence["check"][0]["e2e"]["request"] < 0.5


def test_without_a_check_the_profile_stays_uncalibrated(monday: Path, tmp_path: Path) -> None:
    result = calibrate("--runs", monday, "--output", tmp_path / "a100.json")
    assert "errors on fitted runs are no accuracy" in " ".join(result.output.split())
    assert load(tmp_path / "a100.json")[0].status == "uncalibrated"


def test_json_holds_constants_errors_and_warnings(monday: Path) -> None:
    found = json.loads(calibrate("--runs", monday, "--json", "--fit", "step_s,prefill_s").output)
    assert set(found["fitted"]) == {"step_s", "prefill_s"}
    assert found["fit"][0]["request_count"] == 60
    assert found["check"] == []
    assert found["warnings"]


def test_measured_iterations_are_fitted_too(tmp_path: Path) -> None:
    rows = [{"decode_count": n, "context_tokens": 100 * n, "prompt_tokens": 0, "step_ms": 20 + n} for n in range(1, 9)]
    path = tmp_path / "steps.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = calibrate("--runs", path)
    assert result.exit_code == 0, result.output
    assert "8 iterations" in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to fit"),
        (["--runs", "{monday}", "--fit", "speed"], "no constant is called 'speed'"),
        (["--runs", "{monday}", "--profile", "H100"], "is not GPU/MODEL"),
        (["--runs", "{monday}", "--profile", "none", "--kv-tokens", "0"], "--profile none needs --kv-tokens"),
        (["--runs", "{monday}", "--profile", "none.json"], "none.json: No such file"),
    ],
)
def test_wrong_input_is_one_sentence(monday: Path, arguments: list[str], complaint: str) -> None:
    result = calibrate(*(text.format(monday=monday) for text in arguments))
    assert result.exit_code == 2
    assert complaint in result.output
