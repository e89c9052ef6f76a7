import contextlib
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

import pyarrow
import pyarrow.parquet as parquet

from forebay.core.errors import ConfigError
from forebay.gateway.config import Config
from forebay.train.columns import COLUMNS, REQUIRED
from forebay.train.tables import HEAD_BYTES, read_tables

FULL = {
    "prompt": "Write a poem, please",
    "response_tokens": 120,
    "prompt_tokens": 7,
    "model": "llama-8b",
    "application": "poems",
    "tenant": "acme",
    "tokens_max": 512,
    "temperature": 0.7,
    "turn_number": 2,
    "system_digest": "0123456789abcdef",
    "censored": True,
    "prompt_id": "p1",
    "split": "test",
    "licence": "CC0",
}
SUFFIXES = [".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.name.endswith(".parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="") as lines:
        if ".csv" in path.name:
            writer = csv.DictWriter(lines, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            lines.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_column_arrives_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    table = read_tables([write(tmp_path / f"mine{suffix}", [FULL, {**FULL, "prompt": "Other"}])])
    query = table.examples.queries[0]
    assert set(FULL) == set(COLUMNS)
    given = {name: getattr(query, name) for name in FULL if hasattr(query, name)}
    assert given == {name: FULL[name] for name in given}
    assert len(given) == 8
    assert (query.prompt_head, query.request_id) == (FULL["prompt"], "p1")
    assert table.examples.tokens.tolist() == [120.0, 120.0]
    assert table.examples.censored is not None
    assert table.examples.censored.all()
    assert table.sides.tolist() == ["test", "test"]
    assert table.examples.sources.tolist() == ["mine", "mine"]
    assert list(table.digests) == [f"mine{suffix}"]
    assert table.licence == "CC0"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_columns_are_enough(tmp_path: Path, suffix: str) -> None:
    rows = [{name: FULL[name] for name in REQUIRED}]
    table = read_tables([write(tmp_path / f"mine{suffix}", rows)])
    query = table.examples.queries[0]
    assert (query.model, query.tenant, query.prompt_tokens) == ("model", "default", 5)
    assert "estimated" in table.notes[0]
    assert table.licence == ""


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("prompt", 3),
        ("response_tokens", -1),
        ("response_tokens", 1.5),
        ("response_tokens", "many"),
        ("response_tokens", True),
        ("response_tokens", 2**40),
        ("response_tokens", float("nan")),
        ("prompt_tokens", 0),
        ("model", ""),
        ("model", "m" * 201),
        ("application", "a" * 129),
        ("tokens_max", -1),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("turn_number", -1),
        ("system_digest", "xyz"),
        ("censored", "perhaps"),
        ("split", "valid"),
    ],
)
def test_a_bad_value_is_named_with_file_row_and_column(tmp_path: Path, column: str, value: Any) -> None:
    path = write(tmp_path / "mine.jsonl", [FULL, {**FULL, column: value}])
    with pytest.raises(ConfigError, match=rf"mine\.jsonl:2: {column} must be "):
        read_tables([path])


def test_rows_of_parquet_and_csv_are_named_too(tmp_path: Path) -> None:
    rows = [FULL, {**FULL, "response_tokens": -5}]
    with pytest.raises(ConfigError, match=r"mine\.parquet: row 2: response_tokens must be .*'-5'"):
        read_tables([write(tmp_path / "mine.parquet", rows)])
    with pytest.raises(ConfigError, match=r"mine\.csv:3: response_tokens must be .*'-5'"):
        read_tables([write(tmp_path / "mine.csv", rows)])


def test_a_bad_prompt_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_tables([write(tmp_path / "mine.jsonl", [{**FULL, "prompt": ["secret"]}])])
    assert "secret" not in caught.value.message


def test_a_missing_column_is_named_with_what_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [{"prompt": "a", "tokens": 3}])
    with pytest.raises(ConfigError, match=r"mine\.jsonl:1: response_tokens .* is missing; it has prompt, tokens"):
        read_tables([path])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_slip_of_the_pen_is_refused(tmp_path: Path, suffix: str) -> None:
    row = {"prompt": "a", "response_tokens": 3, "aplication": "chat"}
    with pytest.raises(ConfigError, match="unknown column 'aplication'; did you mean 'application'"):
        read_tables([write(tmp_path / f"mine{suffix}", [row])])


def test_other_columns_are_left_out_with_a_note(tmp_path: Path) -> None:
    table = read_tables([write(tmp_path / "mine.jsonl", [{**FULL, "answered_by": "x"}])])
    assert table.notes == ("mine.jsonl: not used: answered_by",)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("mine.jsonl", b"{", "mine.jsonl:1: not JSON"),
        ("mine.jsonl", b"[1]\n", "mine.jsonl:1: not a JSON object"),
        ("mine.jsonl", b"", "has no rows"),
        ("mine.jsonl", b"\xff\xfe", "not UTF-8"),
        ("mine.csv", b"prompt,response_tokens\na,1,2\n", "mine.csv:2: the row has not the 2 cells"),
        ("mine.csv", b"prompt,response_tokens\na\n", "mine.csv:2: the row has not the 2 cells"),
        ("mine.csv", b'prompt,response_tokens\n"a,1\n', "not CSV"),
        ("mine.csv", b"prompt,response_tokens\n", "has no rows"),
        ("mine.parquet", b"PAR1", "cannot read"),
        ("mine.jsonl.gz", b"plain", "cannot read"),
        ("mine.xlsx", b"", "must end in"),
        ("mine.pkl", b"", "must end in"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes, error: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=error):
        read_tables([tmp_path / name])


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.jsonl is not there"):
        read_tables([tmp_path / "none.jsonl"])
    with pytest.raises(ConfigError, match="none of the open sets"):
        read_tables([tmp_path])


def test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    paths = [write(tmp_path / "a" / "m.jsonl", [FULL]), write(tmp_path / "m.jsonl", [FULL])]
    with pytest.raises(ConfigError, match="same name"):
        read_tables(paths)


def test_no_prompt_is_on_both_sides_over_all_files(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {n}", "response_tokens": n} for n in range(300)]
    again = [{"prompt": f"question  {n} ", "response_tokens": n + 1, "model": "other"} for n in range(300)]
    table = read_tables([write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.csv", again)])
    train, test = table.split(seed=1)
    assert len(train) + len(test) == 600
    assert 60 < len(test) < 180
    assert not {int(n) for n in train.groups} & {int(n) for n in test.groups}
    other = table.split(seed=2)[1]
    assert set(other.groups.tolist()) != set(test.groups.tolist())


def test_a_given_split_is_kept_and_what_shares_a_prompt_is_left_out(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "response_tokens": 1, "split": "train"},
        {"prompt": "A ", "response_tokens": 2, "split": "test"},
        {"prompt": "b", "response_tokens": 3, "split": "train"},
    ]
    train, test = read_tables([write(tmp_path / "a.jsonl", rows)]).split(seed=1)
    assert train.tokens.tolist() == [3.0]
    assert test.tokens.tolist() == [2.0]


def test_what_is_read_of_prompts_is_what_gateways_send() -> None:
    assert Config().prompt_head_bytes == HEAD_BYTES


def test_a_prompt_of_a_megabyte_is_cut_to_what_is_sent(tmp_path: Path) -> None:
    text = "é" * 500_000
    table = read_tables([write(tmp_path / "a.jsonl", [{"prompt": text, "response_tokens": 1}])])
    query = table.examples.queries[0]
    assert query.prompt_head == "é" * (HEAD_BYTES // 2)
    assert query.prompt_tokens == 250_000
    (more,) = read_tables([tmp_path / "a.jsonl"], 8_192).examples.queries
    assert more.prompt_head == "é" * 4_096


def test_prompts_that_only_begin_alike_are_split_by_all_of_their_text(tmp_path: Path) -> None:
    rows = [{"prompt": "x" * 5_000 + str(n), "response_tokens": 1} for n in range(50)]
    groups = read_tables([write(tmp_path / "a.jsonl", rows)]).examples.groups
    assert len(set(groups.tolist())) == 50


@pytest.mark.parametrize("text", ["", "\0", "🦆🦆", "ꙮ العربية", "\ud800"])
def test_strange_prompts_are_taken(tmp_path: Path, text: str) -> None:
    table = read_tables([write(tmp_path / "a.jsonl", [{"prompt": text, "response_tokens": 1}])])
    assert table.examples.queries[0].prompt_tokens >= 1
    assert np.isfinite(table.examples.tokens).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_any_bytes_are_rows_or_a_clear_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") and content[:1] != b"\0" else content)
    with contextlib.suppress(ConfigError):
        assert len(read_tables([path]).examples) > 0


ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.lists(st.integers(), max_size=2)
)


@given(row=st.dictionaries(st.sampled_from([*COLUMNS, "other"]), ODD, max_size=len(COLUMNS)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_any_row_is_an_example_or_a_clear_error(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"prompt": "a", "response_tokens": 1, **row}) + "\n")
    error = ""
    try:
        (query,) = read_tables([path]).examples.queries
    except ConfigError as caught:
        error = caught.message
    assert "mine.jsonl:1" in error if error else (query.prompt_tokens >= 1 and 0 <= query.temperature <= 2)
