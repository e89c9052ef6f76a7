import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")
pytest.importorskip("pandas")

from forebay.cli.train_length import FAMILIES as NAMED
from forebay.core.errors import ConfigError
from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.examples import MemoryExampleStore
from forebay.predictor.lengths.features import FEATURES_VERSION
from forebay.predictor.lengths.recorder import BATCH_COUNT, examples_of
from forebay.predictor.store_files import FolderModelStore
from forebay.train import candidate
from forebay.train.candidate import Candidate, Job
from forebay.train.data import Examples
from forebay.train.family import FAMILIES, OnStep, Trained, family
from forebay.train.outcomes import read_outcomes
from forebay.train.report import render
from forebay.train.tables import Table, read_tables
from tests.unit.train.small import VERBS, write_examples

# The converter hands numpy integers to protobuf, which deprecates them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def trained(table: Table, seed: int = 1) -> Candidate:
    steps: list[str] = []
    found = candidate.train(Job("fast", table, seed, "CC0", "forebay train length"), steps.append)
    assert len(steps) == candidate.step_count("fast")
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return read_tables([write_examples(tmp_path_factory.mktemp("data") / "mine.jsonl")])


@pytest.fixture(scope="module")
def found(table: Table) -> Candidate:
    return trained(table)


def test_a_model_of_anybodys_examples_beats_what_needs_no_model(found: Candidate) -> None:
    rows = {row.name: row for row in found.rows}
    assert rows["model alone"].mae_tokens < 0.5 * rows["constant"].mae_tokens
    assert rows["model, live"].mae_tokens < 0.5 * rows["length only"].mae_tokens
    assert rows["model alone"].tau > 0.5


def test_a_model_that_is_no_better_than_counting_is_doubted(found: Candidate) -> None:
    assert candidate.doubts(found.rows) == ()
    worse = [replace(row, pinball_tokens=1e9) if row.name == candidate.LIVE else row for row in found.rows]
    assert "no better than: constant, length only, histogram" in candidate.doubts(worse)[0]


def test_no_prompt_that_is_tested_was_trained_on(found: Candidate, table: Table) -> None:
    learnt, test = table.split(1)
    assert not set(learnt.groups.tolist()) & set(test.groups.tolist())
    assert len(found.test) == len(test)


def test_the_description_says_where_the_model_comes_from(found: Candidate, table: Table) -> None:
    described = found.description
    assert described["licence"] == "CC0"
    assert described["features_version"] == FEATURES_VERSION
    assert described["data_files_sha256"] == dict(table.digests)
    learnt, test = table.split(1)
    assert (described["train_count"], described["test_count"]) == (len(learnt), len(test))
    assert described["censored_count"] == 10
    json.dumps(described, allow_nan=False)


def test_the_model_can_be_kept_and_read(found: Candidate, tmp_path: Path) -> None:
    store = FolderModelStore(tmp_path)
    model = store.add(str(found.description["name"]), found.content, found.description)
    assert hashlib.sha256(store.read(model)).hexdigest() == model.digest_sha256
    assert model.metadata["made_by"] == "forebay train length"


def test_the_page_has_its_plots_and_asks_for_nothing(found: Candidate, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    store = FolderModelStore(tmp_path)
    page = render(found, store.add("onnx_quantile", found.content, found.description), ["a <note>"])
    for title in ("Predicted against actual", "Error by length", "Coverage by tertile", "By application", "By model"):
        assert title in page
    assert page.count("<svg") == 3
    assert "a &lt;note&gt;" in page
    assert "src=" not in page
    assert "@import" not in page


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    few = read_tables([write_examples(tmp_path / "few.jsonl", 60)])
    with pytest.raises(ConfigError, match=r"left to learn from and .* to test on"):
        trained(few)
    some = read_tables([write_examples(tmp_path / "some.jsonl", 150)])
    with pytest.raises(ConfigError, match="too few for a model"):
        trained(some)


def kept(count: int) -> MemoryExampleStore:
    generator = np.random.default_rng(1)
    verbs = [str(verb) for verb in generator.choice(list(VERBS), count)]
    outcomes = [
        LengthOutcome(InferenceRequest(f"q{n}", "m", 10, prompt_head=f"{verb} item {n}"), VERBS[verb] + n % 10)
        for n, verb in enumerate(verbs)
    ]
    store = MemoryExampleStore()
    timed = list(enumerate(outcomes))
    for start in range(0, count, BATCH_COUNT):
        store.add(examples_of(timed[start : start + BATCH_COUNT], store.salt()))
    return store


def test_what_the_predictor_kept_trains_a_model_without_any_text() -> None:
    table = read_outcomes(kept(500))
    assert {query.prompt_head for query in table.examples.queries} == {""}
    rows = {row.name: row for row in trained(table).rows}
    assert rows["model alone"].mae_tokens < 0.5 * rows["constant"].mae_tokens


def test_families_that_read_prompts_refuse_features() -> None:
    with pytest.raises(ConfigError, match="has only features; take fast"):
        candidate.train(Job("magnus", read_outcomes(kept(50)), 1, "", ""), lambda _: None)


def test_a_family_that_starts_from_nothing_refuses_a_model_to_start_from(table: Table) -> None:
    with pytest.raises(ConfigError, match="--start: the family fast starts from nothing; take finetuned"):
        candidate.train(Job("fast", table, 1, "", "", start=b"a model"), lambda _: None)


class FakeFamily:
    """A family that says of which content it starts and answers like the fast one."""

    def __init__(self) -> None:
        self.started_from: list[bytes] = []

    def step_count(self) -> int:
        return family("fast").step_count()

    def run(self, examples: Examples, seed: int, on_step: OnStep) -> Trained:
        return family("fast").run(examples, seed, on_step)

    def run_from(self, start: bytes, examples: Examples, seed: int, on_step: OnStep) -> Trained:
        self.started_from.append(start)
        return self.run(examples, seed, on_step)


def test_a_model_that_started_from_another_says_so(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeFamily()
    monkeypatch.setattr(candidate, "family", lambda name: fake)
    job = Job("finetuned", table, 1, "CC0", "", start=b"a model", start_note="finetuned@1: open.jsonl (MIT)")
    assert candidate.train(job, lambda _: None).description["started_from"] == "finetuned@1: open.jsonl (MIT)"
    assert fake.started_from == [b"a model"]


def test_an_empty_database_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="send traffic first"):
        read_outcomes(MemoryExampleStore())


def test_prompts_without_text_are_groups_of_their_own() -> None:
    store = MemoryExampleStore()
    outcomes = [LengthOutcome(InferenceRequest(f"q{n}", "m", 10), n) for n in range(5)]
    store.add(examples_of([(n, one) for n, one in enumerate(outcomes)], store.salt()))
    assert len(set(read_outcomes(store).examples.groups.tolist())) == 5


def test_the_command_knows_all_families() -> None:
    assert set(NAMED) == set(FAMILIES)


def test_an_unknown_family_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="no family 'oracle'; known: fast"):
        family("oracle")
