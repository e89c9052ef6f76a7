"""The measured lengths that ship are enough, honest about what was cut, and join the prompts that they belong to."""

from pathlib import Path

import pandas as pd
import pytest

from forebay.core.errors import ConfigError
from forebay.core.prompts import group_of
from forebay.simulator.traces.prompts import read_prompts
from forebay.train import data, measured
from forebay.train.data import SOURCES
from forebay.train.measurements import Answer, Ask, Key, Question, Setting, Table, row_of
from forebay.train.questions import SAMPLES, SAMPLES_FILE, public

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "open" / "prompts"
KEY = list(Key.__dataclass_fields__)
SAMPLE = Question(read_prompts(SAMPLES_FILE)[0].text, SAMPLES.name, SAMPLES.licence, "translation")
STRANGER = Question("Who is there?", SAMPLES.name, SAMPLES.licence)


def packed(folder: Path, *questions: Question) -> Path:
    """A table with three answers to each question, the last one cut."""
    with Table(folder / "lengths.csv") as table:
        for question in questions:
            for number, temperature in enumerate((0.7, 0.3, 0.0)):
                ask = Ask(question, Setting("m", temperature, 30, "Be brief."), 0, 5)
                table.append(row_of(ask, Answer(7, 10 * (number + 1), "length" if number == 2 else "stop")))
    measured.pack([folder / "lengths.csv"], {"model": "m"}, folder / "lengths.parquet")
    return folder / "lengths.parquet"


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    return pd.read_parquet(measured.TABLE)


def test_a_table_is_packed_in_order_with_what_it_says_of_itself(tmp_path: Path) -> None:
    path = packed(tmp_path, SAMPLE)
    rows = pd.read_parquet(path)
    assert rows.temperature.tolist() == [0.0, 0.3, 0.7]
    assert rows.response_tokens.tolist() == [30, 20, 10]
    assert rows.censored.tolist() == [True, False, False]
    assert "prompt" not in rows.columns
    assert measured.description(path) == {"model": "m"}


def test_a_file_that_says_nothing_of_itself_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="does not say"):
        measured.description(tmp_path / "a.parquet")


def test_rows_become_examples_with_their_prompt_and_setting(tmp_path: Path) -> None:
    examples = measured.examples(measured.read(None, packed(tmp_path, SAMPLE)))
    query = examples.queries[0]
    assert (query.prompt_head, query.application, query.model) == (SAMPLE.text, "translation", "m")
    assert (query.temperature, query.tokens_max, query.prompt_tokens) == (0.0, 30, 7)
    assert len(query.system_digest) == 16
    assert examples.complete.tolist() == [False, True, True]
    assert set(examples.groups.tolist()) == {group_of(SAMPLE.text)}
    assert set(examples.sources.tolist()) == {"measured:samples"}


def test_rows_are_split_together_with_those_of_the_sets(tmp_path: Path) -> None:
    text = "Translate from en to de: The heron stands."
    row = {"prompt_tokens_llama2": 9, "response_tokens_llama2": 8, "model": "davinci"}
    sets = pd.DataFrame([{**row, "prompt_id": "ab12cd34ef01", "set": "translation_gpt_mt", "prompt": text}])
    rows = pd.concat([sets, measured.as_set(measured.read(None, packed(tmp_path, SAMPLE)))])
    both = data.split(rows)
    examples = both.train.joined(both.calibration).joined(both.test)
    known = {query.model: query for query in examples.queries}
    assert (known["davinci"].application, known["davinci"].temperature, known["davinci"].tokens_max) == ("", 0.0, 0)
    assert (known["m"].application, known["m"].tokens_max, known["m"].prompt_tokens) == ("translation", 30, 7)
    assert {query.temperature for query in examples.queries if query.model == "m"} == {0.0, 0.3, 0.7}
    assert examples.complete.sum() == 3
    assert len(examples) == 4


def test_a_prompt_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=STRANGER.prompt_id):
        measured.read(None, packed(tmp_path, SAMPLE, STRANGER))


def test_without_the_open_sets_only_the_samples_are_read(shipped: pd.DataFrame) -> None:
    rows = measured.read(None)
    assert len(rows) == (shipped.source == SAMPLES.name).sum() > 0
    assert rows.prompt.str.len().min() > 0


def test_an_absent_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prompts\.parquet is not in"):
        measured.read(tmp_path)


def test_two_thousand_answers_ship_and_none_comes_twice(shipped: pd.DataFrame) -> None:
    assert len(shipped) >= 2_000
    assert not shipped.duplicated(KEY).any()
    assert shipped.equals(shipped.sort_values(measured.ORDER, ignore_index=True))
    assert measured.TABLE.stat().st_size < 200_000


def test_most_answers_end_by_themselves_and_cut_ones_are_as_long_as_allowed(shipped: pd.DataFrame) -> None:
    assert set(shipped.finish) == {"stop", "length"}
    assert 0.6 < (shipped.finish == "stop").mean() < 0.98
    assert (shipped.censored == (shipped.finish == "length")).all()
    assert (shipped.response_tokens[shipped.censored] == shipped.tokens_max[shipped.censored]).all()
    assert shipped.response_tokens.between(1, shipped.tokens_max).all()


def test_prompts_ship_by_id_alone_with_a_licence_that_allows_it(shipped: pd.DataFrame) -> None:
    licences = {one.name: one.licence for one in (*SOURCES, SAMPLES)}
    assert "prompt" not in shipped.columns
    assert set(shipped.source) == set(licences)
    assert (shipped.licence == shipped.source.map(licences)).all()
    assert set(licences.values()) <= {"MIT", "Apache-2.0"}


def test_every_setting_has_its_part(shipped: pd.DataFrame) -> None:
    assert set(shipped.temperature) == {0.0, 0.3, 0.7}
    assert shipped.groupby("temperature").size().min() > 400
    assert shipped.system_digest.nunique() == 2


@pytest.mark.skipif(not DATA.is_dir(), reason="the open sets are not here; put them at ../shared/data")
def test_rows_join_the_open_sets_and_keep_their_test_prompts(shipped: pd.DataFrame) -> None:
    rows = measured.read(DATA)
    assert len(rows) == len(shipped)
    known = {question.prompt_id: question for question in public(DATA, tokens_max=300)}
    assert all(known[row.prompt_id].text == row.prompt for row in rows.itertuples())
    assert rows.is_test.equals(rows.prompt_id.map(lambda name: int(name[-4:], 16) % 5 == 0))
    assert 0.1 < rows.is_test.mean() < 0.3
