"""What is asked is balanced and repeatable, and the table of answers survives whatever happens to its writer."""

from pathlib import Path

import pytest

from forebay.core.errors import ConfigError
from forebay.train.measurements import COLUMNS, Answer, Ask, Question, Setting, Table, choose, plan, row_of
from forebay.train.tables import read_tables

GREEDY, WARM = Setting("m", 0.0, 64), Setting("m", 0.7, 64, "Be brief.")
ANSWER = Answer(5, 9, "stop")


def question(number: int, application: str = "chat", source: str = "mine") -> Question:
    return Question(f"Question {number} of {application}?", source, "MIT", application)


def ask(number: int = 0, setting: Setting = GREEDY, sample: int = 0) -> Ask:
    return Ask(question(number), setting, sample, 1)


def test_a_prompt_has_the_id_that_the_open_tables_give_it() -> None:
    assert Question("Hello", "s", "MIT").prompt_id == "f7ff9e8b7bb2"


def test_any_beginning_of_the_chosen_prompts_is_balanced_over_kinds() -> None:
    many = [question(number, f"translate_{number % 7}") for number in range(70)]
    few = [question(number, "code") for number in range(5)]
    kinds = [one.application.split("_")[0] for one in choose([*many, *few], 20, seed=3)]
    assert kinds[:10] == ["code", "translate"] * 5
    assert kinds[10:] == ["translate"] * 10


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_the_prompts() -> None:
    some = [question(number) for number in range(30)]
    assert choose(some, 10, seed=1) == choose(some[::-1], 10, seed=1)
    assert choose(some, 10, seed=1) != choose(some, 10, seed=2)


def test_a_prompt_that_comes_twice_is_asked_once() -> None:
    assert len(choose([question(1), question(2), question(1)], None, seed=0)) == 2


def test_temperature_0_is_asked_once_and_others_as_often_as_said_with_seeds_of_their_own() -> None:
    asks = list(plan([question(1), question(2)], [GREEDY, WARM], sample_count=3, seed=5))
    assert [(one.setting.temperature, one.sample) for one in asks[:4]] == [(0, 0), (0.7, 0), (0.7, 1), (0.7, 2)]
    assert len({one.seed for one in asks}) == len({one.key for one in asks}) == len(asks) == 8
    assert all(0 <= one.seed < 2**31 for one in asks)
    assert asks == list(plan([question(1), question(2)], [GREEDY, WARM], sample_count=3, seed=5))


def test_an_answer_that_its_limit_cut_is_censored() -> None:
    assert row_of(ask(), Answer(5, 64, "length")).censored == "true"
    assert row_of(ask(), ANSWER).censored == "false"


def test_a_table_knows_what_it_has_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lengths.csv"
    with Table(path) as table:
        table.append(row_of(ask(1), ANSWER))
        assert ask(1) in table
    with Table(path) as table:
        assert ask(1) in table
        others = (ask(2), ask(1, WARM), ask(1, GREEDY, sample=1), ask(1, Setting("m", 0.0, 64, "Be brief.")))
        assert not any(other in table for other in others)
    assert path.read_text().count("\n") == 2


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_was_cut_by_a_kill_is_mended_away(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "lengths.csv"
    with Table(path) as table:
        table.append(row_of(ask(1), ANSWER))
        whole = path.read_bytes()
        table.append(row_of(ask(2), ANSWER))
    path.write_bytes(path.read_bytes()[:-cut])
    with Table(path) as table:
        assert ask(1) in table
        assert ask(2) not in table
        assert path.read_bytes() == whole
        table.append(row_of(ask(2), ANSWER))
    with Table(path) as table:
        assert len(table.rows) == 2


def test_a_header_that_was_cut_by_a_kill_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text("prompt_id,sour")
    with Table(path):
        assert path.read_text() == ",".join(COLUMNS[:-1]) + "\n"


def test_two_processes_never_write_one_table(tmp_path: Path) -> None:
    with Table(tmp_path / "a.csv"), pytest.raises(ConfigError, match="another process writes"):
        Table(tmp_path / "a.csv")


@pytest.mark.parametrize("content", ["model,tokens\nm,3\n", "model,tokens\nm,3", "notes", "\x00\xff\n"])
def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(content)
    with pytest.raises(ConfigError, match="not a table of measured lengths"):
        Table(path)
    assert path.read_text() == content


def test_a_line_with_too_few_cells_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text(",".join(COLUMNS[:-1]) + "\n1,2\n")
    with pytest.raises(ConfigError, match=r"lengths\.csv:2: a line must have 14 cells"):
        Table(path)


def test_a_table_with_text_never_mixes_with_one_without(tmp_path: Path) -> None:
    with Table(tmp_path / "a.csv", has_text=True) as table:
        table.append(row_of(ask(1), ANSWER))
    with pytest.raises(ConfigError, match="--no-text"):
        Table(tmp_path / "a.csv")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        Table(tmp_path / "file" / "lengths.csv")


def test_what_is_written_is_what_training_reads(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    awkward = Question('Say "hi",\nthen stop. ✓', "mine", "MIT", "chat")
    with Table(path, has_text=True) as table:
        table.append(row_of(Ask(awkward, WARM, 0, 7), Answer(11, 64, "length")))
        table.append(row_of(ask(1), ANSWER))
    examples = read_tables([path]).examples
    first = examples.queries[0]
    assert (first.prompt_head, first.prompt_tokens, first.application) == (awkward.text, 11, "chat")
    assert (first.model, first.temperature, first.tokens_max) == ("m", 0.7, 64)
    assert first.system_digest == WARM.system_digest
    assert examples.tokens.tolist() == [64, 9]
    assert examples.complete.tolist() == [False, True]
