"""An emulated model takes its timing from the catalog or from a profile file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from forebay.core.instance import compute_profile
from forebay.core.instance.document import to_document
from forebay.emulator.config import ModelSpec
from forebay.emulator.profiles import compute, effective

MEASURED = compute_profile("A100-80G", "Llama-3-8B", max_seqs=8, max_batch_tokens=64, kv_tokens=4_096)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(to_document(MEASURED, {"check": [{"run": "b"}]})))
    return str(path)


def test_a_catalog_name_is_computed_under_the_spec_s_limits() -> None:
    spec = ModelSpec("m", "H100/Llama-3-8B/tp1", max_seqs=16)
    assert compute(spec) == compute_profile("H100", "Llama-3-8B", max_seqs=16)
    assert effective(spec, compute(spec)) == spec


def test_a_file_brings_its_own_limits_and_tells_them(file: str) -> None:
    spec = ModelSpec("m", file)
    profile = compute(spec)
    assert profile == MEASURED
    shown = effective(spec, profile)
    assert (shown.max_seqs, shown.max_batch_tokens, shown.kv_tokens) == (8, 64, 4_096)
    assert compute(replace(spec, max_seqs=4)).max_seqs == 4


def test_a_wrong_file_is_named(file: str, tmp_path: Path) -> None:
    Path(file).write_text("{}")
    with pytest.raises(ValueError, match=r"measured\.json: schema must be"):
        compute(ModelSpec("m", file))
    with pytest.raises(ValueError, match=r"none\.json: No such file"):
        compute(ModelSpec("m", str(tmp_path / "none.json")))
