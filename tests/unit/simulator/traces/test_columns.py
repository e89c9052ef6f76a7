"""A workload that is saved comes back as it was."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.core.errors import ConfigError
from forebay.core.values import SloClass
from forebay.simulator.traces import guess, read, save
from forebay.simulator.workload.base import Workload, make_workload
from forebay.simulator.workload.generators import make_generator
from tests.unit.simulator.traces.kit import TRACES, assert_same, needs_data

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FULL = make_workload(
    [0, 5, 5],
    [2_000, 3, 1],
    [1, 2, 3],
    names={"models": ("a", "b"), "tenants": ("t",), "regions": ("eu", "us"), "applications": ("", "é")},
    block_tokens=512,
    parents=[[], [0], [0, 1]],
    blocks=[[7, 8], [], [7]],
    texts=("hello\n", "wörld"),
    notes=("drawn",),
    model=[0, 1, 0],
    region=[1, 0, 1],
    application=[0, 1, 1],
    slo_class=[SloClass.DEFERRED, SloClass.INTERACTIVE_FAST, SloClass.INTERACTIVE_NORMAL],
    deadline_us=[9, 0, 0],
    program=[4, 4, 4],
    think_us=[0, 6, 7],
    output_tokens_max=[5, 0, 0],
    text=[1, -1, 0],
)


def round_trip(workload: Workload, folder: Path) -> Workload:
    path = folder / "saved.parquet"
    save(workload, path)
    assert guess(path) == "workload"
    return read("workload", path)


def test_every_column_and_table_comes_back(tmp_path: Path) -> None:
    back = round_trip(FULL, tmp_path)
    assert_same(FULL, back)
    assert back.notes == FULL.notes


@pytest.mark.parametrize("name", ["poisson", "sessions", "programs"])
def test_generated_workloads_come_back(name: str, tmp_path: Path) -> None:
    workload = make_generator(name, {"duration_s": 300.0}).generate(1)
    assert_same(workload, round_trip(workload, tmp_path))


@needs_data
def test_a_public_trace_comes_back(tmp_path: Path) -> None:
    workload = read("mooncake", TRACES / "mooncake_conversation_trace.jsonl.gz")
    assert_same(workload, round_trip(workload, tmp_path))


def test_equal_workloads_give_equal_bytes(tmp_path: Path) -> None:
    save(FULL, tmp_path / "a")
    save(round_trip(FULL, tmp_path), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def rewritten(path: Path, change: dict[str, object]) -> None:
    """The saved workload with other columns (a name with None goes) or, under "meta", other metadata."""
    table = parquet.read_table(path)
    kept = json.loads(table.schema.metadata[b"forebay.workload"])
    kept.update(change.pop("meta", {}))  # type: ignore[call-overload]
    for name, column in change.items():
        place = table.column_names.index(name)
        table = table.remove_column(place)
        if column is not None:
            table = table.add_column(place, name, pyarrow.array(column))
    parquet.write_table(table.replace_schema_metadata({b"forebay.workload": json.dumps(kept).encode()}), path)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": None},
        {"blocks": None},
        {"arrival_us": [0, 5, 4]},
        {"arrival_us": [0.0, 1.0, 2.0]},
        {"arrival_us": [0, None, 4]},
        {"arrival_us": ["a", "b", "c"]},
        {"parents": [[], [1], []]},
        {"parents": [1, 2, 3]},
        {"blocks": [[1] * 99, [], []]},
        {"blocks": [["x"], [], []]},
        {"prompt_tokens": [0, 1, 1]},
        {"model": [0, 1, 2]},
        {"slo_class": [0, 1, 1]},
        {"meta": {"version": 2}},
        {"meta": {"block_tokens": 0}},
        {"meta": {"block_tokens": "512"}},
        {"meta": {"models": None}},
        {"meta": {"texts": []}},
    ],
)
def test_a_file_that_is_not_a_sound_workload_is_an_error_with_its_path(
    change: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "saved.parquet"
    save(FULL, path)
    rewritten(path, dict(change))
    with pytest.raises(ConfigError, match=r"saved\.parquet"):
        read("workload", path)


def test_another_parquet_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    parquet.write_table(pyarrow.table({"a": [1]}), path)
    with pytest.raises(ConfigError, match="no workload of ours"):
        read("workload", path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_a_bug(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "saved.parquet"
    save(FULL, path)
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    try:
        workload = read("workload", path)
    except ConfigError:
        return
    assert np.all(workload.prompt_tokens >= 1)
