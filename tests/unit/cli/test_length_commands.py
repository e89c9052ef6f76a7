import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")
pytest.importorskip("pandas")

from forebay.cli.root import main
from forebay.predictor.store_files import FolderModelStore
from tests.unit.train.small import write_examples

# The converter hands numpy integers to protobuf, which deprecates them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], terminal_width=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples, and a registry with one model that was trained on them."""
    found = tmp_path_factory.mktemp("length")
    write_examples(found / "mine.jsonl", 400)
    write_examples(found / "other.jsonl", 200, scale=2.0)
    result = run("train", "length", found / "mine.jsonl", "--output", found / "models", "--licence", "CC0", "--json")
    assert result.exit_code == 0, result.output
    (found / "result.json").write_text(result.stdout)
    return found


def test_training_writes_the_next_version_with_its_report(folder: Path) -> None:
    told = json.loads((folder / "result.json").read_text())
    name, _, version = told["model"].partition("@")
    assert name == "onnx_quantile"
    assert int(version) > 1
    (model,) = FolderModelStore(folder / "models").list()
    assert model.version == version
    assert model.metadata["licence"] == "CC0"
    assert Path(told["report"]).read_text().startswith("<!DOCTYPE html>")
    assert {row["name"] for row in told["scores"]} >= {"model alone", "model, live", "constant", "length only"}


@pytest.mark.parametrize("name", ["onnx_quantile", "FILE", "histogram", "constant"])
def test_a_predictor_is_scored_beside_baselines(folder: Path, name: str) -> None:
    path = next((folder / "models").glob("*.onnx"))
    named = path if name == "FILE" else name
    found = run("evaluate", "length", "--model", named, "--models", folder / "models", folder / "other.jsonl", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    rows = {row["name"]: row for row in told["figures"]}
    assert set(rows) == {"live", "alone", "histogram", "constant", "length only"}
    assert rows["live"]["count"] == 157
    assert 0 <= rows["live"]["coverage_p90"] <= 1


def scored(folder: Path, file: str, *more: str) -> Result:
    """The figures of the model that was trained here."""
    registry = folder / "models"
    return run("evaluate", "length", "--model", "onnx_quantile", "--models", registry, folder / file, *more)


def test_outcomes_teach_the_model_that_answers_are_longer_here(folder: Path) -> None:
    found = run(
        "evaluate",
        "length",
        "--model",
        "onnx_quantile",
        "--models",
        folder / "models",
        folder / "other.jsonl",
        "--json",
    )
    rows = {row["name"]: row for row in json.loads(found.stdout)["figures"]}
    assert rows["live"]["mae_tokens"] < rows["alone"]["mae_tokens"]


def test_of_what_it_was_trained_on_only_the_rest_is_scored(folder: Path) -> None:
    found = scored(folder, "mine.jsonl", "--json")
    told = json.loads(found.stdout)
    assert any("was trained on these files" in note for note in told["notes"])
    assert told["figures"][0]["count"] < 150


def test_the_table_fits_a_terminal_and_has_its_parts(folder: Path) -> None:
    found = scored(folder, "other.jsonl", "--by", "application,model")
    assert found.exit_code == 0, found.output
    assert found.output.count("qwen-7b") == 4
    assert max(len(line) for line in found.output.splitlines()) <= 100


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["evaluate", "length", "--model", "constant"], "give a file of examples"),
        (["evaluate", "length", "--model", "oracle", "x.csv"], "there is no 'oracle'"),
        (["evaluate", "length", "--model", "none.onnx", "x.csv"], "no description"),
        (["evaluate", "length", "--model", "constant", "x.csv"], "x.csv is not there"),
        (["evaluate", "length", "--model", "constant", "--by", "colour", "x.csv"], "unknown column 'colour'"),
        (["train", "length", "x.csv"], "x.csv is not there"),
        (["train", "length", "x.csv", "--from-db"], "either on --data or on --from-db"),
        (["train", "length", "--from-db", "mysql://x"], "not supported"),
        (
            ["train", "length", "x.csv", "--start", "finetuned@9", "--output", "models"],
            "there is no model 'finetuned@9'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(arguments: list[str], error: str) -> None:
    runner = CliRunner()
    with runner.isolated_filesystem():
        found = runner.invoke(main, arguments)
    assert found.exit_code != 0
    assert error in " ".join(found.output.split())
    assert "Traceback" not in found.output


def test_a_family_that_starts_from_nothing_refuses_a_start(folder: Path) -> None:
    (model,) = FolderModelStore(folder / "models").list()
    found = run(
        "train", "length", folder / "mine.jsonl", "--start", f"onnx_quantile@{model.version}",
        "--output", folder / "models", "--no-report",
    )  # fmt: skip
    assert found.exit_code != 0
    assert "the family fast starts from nothing; take finetuned" in " ".join(found.output.split())


def test_a_database_without_outcomes_says_what_to_do(tmp_path: Path) -> None:
    found = run("train", "length", "--from-db", f"sqlite:///{tmp_path}/x.db", "--output", tmp_path / "models")
    assert found.exit_code != 0
    assert "send traffic first" in " ".join(found.output.split())


def test_nothing_is_written_when_training_fails(tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text('{"prompt": "a", "response_tokens": 1}\n')
    found = run("train", "length", tmp_path / "few.jsonl", "--output", tmp_path / "models")
    assert found.exit_code != 0
    assert list((tmp_path / "models").iterdir()) == []


def test_a_predictor_that_does_not_run_is_told_nothing_but_the_model_is_kept(folder: Path, tmp_path: Path) -> None:
    found = run(
        "train", "length", folder / "mine.jsonl", "--output", tmp_path / "models", "--no-report",
        "--predictor", "127.0.0.1:1", "--shadow", "--state-dir", tmp_path,
    )  # fmt: skip
    assert found.exit_code == 1
    assert "is it running?" in found.output
    assert len(list((tmp_path / "models").glob("*.onnx"))) == 1
