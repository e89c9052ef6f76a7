"""The demonstration takes public data where it is at hand and says so; otherwise it takes the samples and says that."""

import hashlib
import json
from pathlib import Path

import pytest

from forebay.cli.datasets import PROMPT_SETS, data_dir, find_traffic, is_held_out, write_answers
from forebay.cli.demo import RATE_PER_S_MAX, make_plan
from forebay.cli.loaders import Prompt


def test_without_public_data_the_samples_are_taken_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_DATA", str(tmp_path))
    assert data_dir() is None
    traffic = find_traffic()
    assert len(traffic.prompts) == 200
    assert "samples that ship" in traffic.notes[0]


@pytest.mark.skipif(data_dir() is None, reason="no public data: set FOREBAY_DATA to a folder with open/")
def test_public_data_comes_with_measured_lengths_and_an_honest_note() -> None:
    pytest.importorskip("pyarrow")
    traffic = find_traffic(seed=3)
    assert len(traffic.arrivals) == 19_366
    assert len(traffic.prompts) == 1_200
    assert all(prompt.output_tokens and prompt.application for prompt in traffic.prompts)
    assert "no public data set has production arrivals and text" in traffic.notes[3]
    assert all(is_held_out(prompt) for prompt in traffic.prompts)
    assert traffic == find_traffic(seed=3)


@pytest.mark.skipif(data_dir() is None, reason="no public data: set FOREBAY_DATA to a folder with open/")
def test_the_prompts_held_out_are_those_of_the_data_sets_own_test_split() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = data_dir()
    assert folder is not None
    for name in PROMPT_SETS:
        rows = parquet.read_table(folder / "open" / "prompts" / f"{name}.prompts.parquet").to_pylist()
        for row in rows[:500]:
            assert is_held_out(Prompt(row["prompt"])) == (int(row["prompt_id"][-4:], 16) % 5 == 0)


def test_the_demonstration_never_sends_faster_than_two_cores_carry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_DATA", str(tmp_path))
    traffic = find_traffic()
    for real in (False, True):
        plan = make_plan(traffic, real, 60.0, seed=1)
        assert traffic.rate_per_s(60.0) * plan.rate_scale <= RATE_PER_S_MAX + 1e-9
        assert plan.rate_scale <= 1.0


def test_answers_are_named_by_the_sha1_of_their_prompts(tmp_path: Path) -> None:
    write_answers(tmp_path / "a.jsonl", [Prompt("Grüße", "", 7), Prompt("unknown")])
    (line,) = (tmp_path / "a.jsonl").read_text().splitlines()
    assert json.loads(line) == {"prompt_sha1": hashlib.sha1("Grüße".encode()).hexdigest(), "output_tokens": 7}
