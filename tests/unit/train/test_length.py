import hashlib
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")
pytest.importorskip("pandas")

from click.testing import CliRunner

from forebay.predictor.lengths.features import FEATURES_VERSION
from forebay.predictor.store_files import PACKAGED, FolderModelStore
from forebay.train.data import digest, digest_of
from forebay.train.fast import sized
from forebay.train.length import train_length
from forebay.train.model import Settings

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("FOREBAY_DATA", str(ROOT.parent / "shared" / "data"))) / "open" / "prompts"
BARS = {
    "bbh_cot_code-davinci-002 code-davinci-002": 56.3,
    "gpteacher_gpt4 gpt-4": 25.5,
    "translation_gpt_mt text-davinci-003": 13.3,
}
"""Mean absolute errors of the prompt's length alone."""


def test_the_command_says_what_data_is_missing(tmp_path: Path) -> None:
    found = CliRunner().invoke(train_length, ["--data", str(tmp_path), "--out", str(tmp_path)])
    assert found.exit_code != 0
    assert "translation_gpt_mt.prompts.parquet is not in" in str(found.exception)


@pytest.mark.parametrize(("count", "trees"), [(300, (100, 50)), (8_000, (150, 80)), (32_000, (220, 110))])
def test_more_examples_get_more_trees(count: int, trees: tuple[int, int]) -> None:
    found = sized(Settings(), count)
    assert (found.tree_count, found.tail_tree_count) == trees


def test_the_shipped_model_is_what_its_description_says() -> None:
    store = FolderModelStore(PACKAGED)
    (model,) = (model for model in store.list() if model.name == "onnx_quantile")
    assert hashlib.sha256(store.read(model)).hexdigest() == model.digest_sha256
    assert model.metadata["features_version"] == FEATURES_VERSION


def test_the_shipped_model_saw_only_permissive_data() -> None:
    described = json.loads((PACKAGED / "length_fast.json").read_text())
    licences = {part.split(")")[0] for part in described["trained_on"].split("(")[1:]}
    assert licences <= {"MIT", "Apache-2.0"}


def test_the_shipped_model_beats_the_length_of_the_prompt_alone() -> None:
    scores = {one["name"]: one for one in json.loads((PACKAGED / "length_fast.json").read_text())["scores"]}
    for name, bar in BARS.items():
        assert scores[name]["mae_tokens"] < 0.7 * bar
        assert scores[name]["coverage_p90"] == pytest.approx(0.9, abs=0.05)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the prompt tables are not in {DATA}; set FOREBAY_DATA")
def test_the_shipped_model_names_the_data_that_is_here() -> None:
    described = json.loads((PACKAGED / "length_fast.json").read_text())
    assert described["data_sha256"] == digest_of(digest(DATA))
