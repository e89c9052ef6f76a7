"""Traces and prompts are read strictly: a bad row is an error that names its line."""

import gzip
from pathlib import Path

import pytest

from forebay.cli.loaders import SAMPLES, Prompt, read_prompts, read_trace
from forebay.core.errors import ConfigError

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_trace_counts_seconds_from_its_first_row(tmp_path: Path) -> None:
    rows = "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
    first, second = read_trace(written(tmp_path, "trace.csv", HEADER + rows))
    assert (first.at_s, first.context_tokens, first.generated_tokens) == (0.0, 374, 44)
    assert second.at_s == pytest.approx(4.314579)


def test_a_compressed_trace_with_carriage_returns_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "2023-11-16 18:15:46.68,1,2\n").replace("\n", "\r\n").encode()))
    assert [one.generated_tokens for one in read_trace(path)] == [2]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("2023-11-16 18:15:47,1", "2 fields where 3"),
        ("yesterday,1,2", "not a time"),
        ("2023-11-16 18:15:47,-1,2", "not a count"),
        ("2023-11-16 18:15:47,1,2.5", "not a count"),
        ("2023-11-16 18:15:45,1,2", "sort the file"),
        ("", "0 fields where 3"),
    ],
)
def test_a_bad_row_is_an_error_with_its_line(tmp_path: Path, row: str, what: str) -> None:
    path = written(tmp_path, "trace.csv", f"{HEADER}2023-11-16 18:15:46,1,2\n{row}\n2023-11-16 18:15:48,1,2\n")
    with pytest.raises(ConfigError, match=what) as failure:
        read_trace(path)
    assert f"{path}:3" in failure.value.message


@pytest.mark.parametrize("text", ["", "time,in,out\n", HEADER])
def test_a_trace_without_header_or_rows_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read_trace(written(tmp_path, "trace.csv", text))


def test_a_trace_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.csv"):
        read_trace(tmp_path / "nowhere.csv")


def test_a_truncated_gz_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(HEADER.encode())[:-6])
    with pytest.raises(ConfigError, match="cannot read"):
        read_trace(path)


def test_prompts_come_with_what_is_known_of_them(tmp_path: Path) -> None:
    lines = '{"prompt": "a", "application": "chat", "output_tokens": 3}\n\n{"prompt": "b"}\n'
    assert read_prompts(written(tmp_path, "p.jsonl", lines)) == [Prompt("a", "chat", 3), Prompt("b")]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "{}",
        '{"prompt": ""}',
        '{"prompt": 1}',
        '{"prompt": "a", "application": 1}',
        '{"prompt": "a", "output_tokens": 0}',
        '{"prompt": "a", "output_tokens": true}',
        '{"prompt": "a", "output_tokens": "3"}',
    ],
)
def test_a_bad_prompt_is_an_error_with_its_line(tmp_path: Path, line: str) -> None:
    path = written(tmp_path, "p.jsonl", f'{{"prompt": "a"}}\n{line}\n')
    with pytest.raises(ConfigError) as failure:
        read_prompts(path)
    assert f"{path}:2" in failure.value.message


def test_a_parquet_pair_gives_each_prompt_the_answer_of_its_first_model(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    prompts = {"prompt_id": ["1", "2", "3"], "prompt": ["eins", "zwei", "drei"]}
    answers = {
        "prompt_id": ["2", "1", "1"],
        "model": ["b", "b", "a"],
        "task": ["t2", "t1", "t1"],
        "response_tokens_llama2": [20, 11, 10],
    }
    parquet.write_table(pyarrow.table(prompts), tmp_path / "x.prompts.parquet")
    parquet.write_table(pyarrow.table(answers), tmp_path / "x.answers.parquet")
    assert read_prompts(tmp_path / "x.prompts.parquet") == [Prompt("eins", "t1", 10), Prompt("zwei", "t2", 20)]


def test_a_parquet_file_without_its_answers_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ConfigError, match=r"x\.prompts\.parquet"):
        read_prompts(tmp_path / "x.prompts.parquet")
    with pytest.raises(ConfigError, match="must be named"):
        read_prompts(tmp_path / "x.parquet")


def test_the_samples_that_ship_read_without_an_error() -> None:
    prompts, arrivals = read_prompts(SAMPLES / "prompts.jsonl"), read_trace(SAMPLES / "trace.csv")
    assert len(prompts) == 200
    assert len({prompt.application for prompt in prompts}) == 8
    assert all(prompt.output_tokens for prompt in prompts)
    assert 230 < arrivals[-1].at_s < 240
