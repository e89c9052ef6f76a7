"""Files of measured runs are read strictly: what is not right is named by file and line."""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.calibration.runs import Run, limits_of, make_run, read_runs
from forebay.simulator.calibration.steps import holds_steps, read_steps

ROW = {"arrival_s": 10.0, "first_s": 10.5, "last_s": 12.0, "prompt_tokens": 100, "output_tokens": 20, "hit_tokens": 16}
VLLM = {"queued_ts": 10.0, "first_token_ts": 10.5, "last_token_ts": 12.0, "input_toks": 100, "output_toks": 20}
STEP = {"decode_count": 4, "context_tokens": 900, "prompt_tokens": 0, "step_ms": 25.0}


def jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_tuple(run: Run) -> tuple[float, ...]:
    return tuple(float(getattr(run, name)[0]) for name in Run.__slots__ if name != "name")


def test_csv_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    jsonl(tmp_path / "a.jsonl", [ROW])
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerow(ROW)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    parquet.write_table(pyarrow.Table.from_pylist([ROW]), tmp_path / "a.parquet")
    found = [as_tuple(read_runs(tmp_path / name)[0]) for name in ("a.jsonl", "a.csv", "a.csv.gz", "a.parquet")]
    assert found == [(0.0, 0.5, 2.0, 100, 20, 16, -1)] * 4


def test_units_follow_the_names_of_the_columns() -> None:
    row = {"arrival_us": 5_000_000, "first_ms": 5_500, "finish_us": 7_000_000, "prompt_tokens": 1, "output_tokens": 1}
    assert as_tuple(make_run("made", [row | {"hit_tokens": 0}])) == (0.0, 0.5, 2.0, 1, 1, 0, -1)


def test_rows_are_sorted_by_arrival_and_clients_are_numbered(tmp_path: Path) -> None:
    rows = [{**ROW, "arrival_s": 10.0, "client": "b"}, {**ROW, "arrival_s": 9.0, "client": "a"}]
    run = read_runs(jsonl(tmp_path / "r.jsonl", rows))[0]
    assert run.arrival_s.tolist() == [0.0, 1.0]
    assert run.client.tolist() == [0, 1]


def test_requests_arrive_when_their_clients_sent_them_whatever_clock_those_have(tmp_path: Path) -> None:
    rows = [
        {**VLLM, "queued_ts": queued_s, "arrival_time": sent_s} for queued_s, sent_s in ((10.0, 900.0), (10.4, 900.1))
    ]
    run = read_runs(jsonl(tmp_path / "r.jsonl", rows), hits_known=False)[0]
    assert run.arrival_s.tolist() == pytest.approx([0.0, 0.1])
    assert run.first_s.tolist() == pytest.approx([0.5, 0.5])
    del rows[1]["arrival_time"]
    run = read_runs(jsonl(tmp_path / "r.jsonl", rows), hits_known=False)[0]
    assert run.arrival_s.tolist() == pytest.approx([0.0, 0.4]), "not all are known"


def test_every_instance_is_a_run_of_its_own(tmp_path: Path) -> None:
    rows = [{**ROW, "instance": name} for name in ("b", "a", "b")]
    runs = read_runs(jsonl(tmp_path / "r.jsonl", rows))
    assert [(run.name, len(run)) for run in runs] == [("r.jsonl:a", 1), ("r.jsonl:b", 2)]


def test_the_log_of_a_running_stack_is_read_as_its_engines_saw_it(tmp_path: Path) -> None:
    kept: dict[str, Any] = {"arrival_us": 1_000_000, "held_us": 200_000, "ttft_us": 500_000, "end_to_end_us": 2_000_000}
    kept |= {"status": "ok", "prompt_tokens": 100, "response_tokens": 20, "instance_id": "i0/m"}
    path = jsonl(tmp_path / "log.jsonl", [kept, {**kept, "status": "failed"}, {**kept, "ttft_us": None}])
    runs = read_runs(path, hits_known=False)
    assert [len(run) for run in runs] == [1]
    assert as_tuple(runs[0]) == pytest.approx((0.0, 0.3, 1.8, 100, 20, 0, -1))


def test_a_run_without_hits_is_refused_unless_there_was_no_prefix_cache(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "r.jsonl", [VLLM])
    with pytest.raises(ConfigError, match=r"no hit_tokens column; .* --no-prefix-cache"):
        read_runs(path)
    assert read_runs(path, hits_known=False)[0].hit_tokens.tolist() == [0]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"first_s": 9.0}, "times must not fall"),
        ({"last_s": None}, "no last_token_ts or last_s"),
        ({"arrival_s": "soon"}, "arrival_s must be a number, got 'soon'"),
        ({"arrival_s": float("nan")}, "arrival_s must be finite"),
        ({"prompt_tokens": 0}, "prompt_tokens must be a whole number of at least 1"),
        ({"output_tokens": 2.5}, "output_tokens must be a whole number"),
        ({"hit_tokens": 100}, "hit_tokens must be below the prompt's tokens"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    path = jsonl(tmp_path / "r.jsonl", [ROW, ROW | changes])
    with pytest.raises(ConfigError, match=f"{path}:2: .*{complaint}"):
        read_runs(path)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("r.jsonl", "\n{oops\n", "r.jsonl:2: not JSON"),
        ("r.jsonl", "[1]\n", "r.jsonl:1: a row must be an object"),
        ("r.jsonl", "", "no rows"),
        ("r.csv", "a,b\n1,2\n", "r.csv:2: no queued_ts or arrival_s"),
        ("r.txt", "", "runs are .csv, .jsonl"),
        ("r.csv.gz", "not gzip", "cannot be read"),
        ("r.parquet", "not parquet", "r.parquet: "),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_runs(path)


def test_limits_come_from_the_file_beside_the_requests(tmp_path: Path) -> None:
    said = {"engine_kwargs": {"max_num_seqs": 128, "max_num_batched_tokens": 2048, "data_parallel_size": 2}}
    (tmp_path / "bench_meta.json.gz").write_bytes(gzip.compress(json.dumps(said).encode()))
    found = limits_of(tmp_path / "bench_requests.jsonl.gz")
    assert found == {"max_seqs": 128, "max_batch_tokens": 2048, "replicas": 2}
    assert limits_of(tmp_path / "other_requests.jsonl") == {}


def test_iterations_are_told_from_requests_by_their_columns(tmp_path: Path) -> None:
    steps = jsonl(tmp_path / "s.jsonl", [STEP, {**STEP, "prompt_tokens": 3, "cached_tokens": 5}])
    assert holds_steps(steps)
    assert not holds_steps(jsonl(tmp_path / "r.jsonl", [ROW]))
    read = read_steps(steps)
    assert np.allclose(read.shape, [[4, 900, 0, 0], [4, 900, 3, 3 * 14]])
    assert np.allclose(read.duration_s, 0.025)


@pytest.mark.parametrize("changes", [{"step_ms": 0}, {"decode_count": 0}, {"context_tokens": -1}])
def test_an_iteration_that_cannot_be_is_named_by_its_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = jsonl(tmp_path / "s.jsonl", [STEP | changes])
    with pytest.raises(ConfigError, match=f"{path}:1: an iteration has"):
        read_steps(path)
