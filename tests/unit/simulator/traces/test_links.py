"""Rows of a trace may wait for others: turns of sessions, and agents' calls that name what they wait for."""

import itertools
import json
from pathlib import Path

import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.traces import guess, read
from forebay.simulator.workload.base import Workload
from tests.unit.simulator.traces.kit import written

MS = 1_000


def row(timestamp: float | None = None, **fields: object) -> dict[str, object]:
    plain = {"input_length": 512, "output_length": 5, "hash_ids": [1]}
    return ({} if timestamp is None else {"timestamp": timestamp}) | plain | fields


def trace(folder: Path, *rows: dict[str, object]) -> Path:
    return written(folder, "".join(json.dumps(one) + "\n" for one in rows), "trace.jsonl")


def parents(workload: Workload) -> list[list[int]]:
    starts = workload.parent_start.tolist()
    return [workload.parents[low:high].tolist() for low, high in itertools.pairwise(starts)]


def test_turns_of_a_session_wait_for_the_turn_before(tmp_path: Path) -> None:
    path = trace(
        tmp_path,
        row(0, session_id="a", output_length=1),
        row(None, session_id="a", delay=2_000, output_length=2),
        row(500, session_id="b", output_length=3),
        row(1_500, session_id="b", output_length=4),
    )
    assert guess(path) == "mooncake"
    workload = read("mooncake", path)
    assert workload.output_tokens.tolist() == [1, 3, 4, 2]
    assert workload.arrival_us.tolist() == [0, 500 * MS, 1_500 * MS, 2_000 * MS]
    assert parents(workload) == [[], [], [1], [0]]
    assert workload.think_us.tolist() == [0, 0, 1_000 * MS, 2_000 * MS]
    assert workload.program.tolist() == [0, 1, 1, 0]


def test_calls_of_agents_wait_for_those_that_they_name(tmp_path: Path) -> None:
    workload = read(
        "mooncake",
        trace(
            tmp_path,
            row(0, request_id="root"),
            row(None, request_id="left", wait_for=["root"], delay=10, tool_wait_ms=5),
            row(None, request_id="right", wait_for=["root"], delay=40),
            row(None, request_id="join", wait_for=["right", "left", "left"]),
            row(20, request_id="other"),
        ),
    )
    assert workload.arrival_us.tolist() == [0, 15 * MS, 20 * MS, 40 * MS, 40 * MS]
    assert parents(workload) == [[], [0], [], [0], [1, 3]]
    assert workload.program.tolist() == [0, 0, 1, 0, 0]


def test_a_file_without_such_rows_is_an_open_loop(tmp_path: Path) -> None:
    workload = read("mooncake", trace(tmp_path, row(0), row(0), row(3_000)))
    assert (len(workload.parents), set(workload.program.tolist())) == (0, {-1})


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([row(0), row()], ":2: timestamp is missing"),
        ([row(0), row(0, wait_for=["x"])], ":2: wait_for must be"),
        ([row(0), row(0, wait_for="x")], ":2: wait_for must be a list of texts"),
        ([row(0, session_id=3)], ":1: session_id must be a text"),
        ([row(0, session_id="a"), row(None, session_id="a", delay=-1)], ":2: delay must be"),
        ([row(9, session_id="a"), row(3, session_id="a")], ":2: timestamp must be no earlier"),
        ([row(9, session_id="a"), row(None, session_id="a"), row(3)], ":3: time goes back"),
    ],
)
def test_a_row_that_cannot_wait_is_an_error_with_its_line(
    rows: list[dict[str, object]], what: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=what):
        read("mooncake", trace(tmp_path, *rows))


def test_rows_that_others_wait_for_are_not_left_out(tmp_path: Path) -> None:
    path = trace(tmp_path, row(0, session_id="a", output_length=0), row(None, session_id="a", delay=1))
    with pytest.raises(ConfigError, match="cannot be left out"):
        read("mooncake", path, zero_output="drop")
    assert read("mooncake", path).output_tokens.tolist() == [1, 5]
