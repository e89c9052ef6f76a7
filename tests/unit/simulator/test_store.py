"""A run is read back as it was written."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.core.promises import Promises
from forebay.simulator import store
from forebay.simulator.results import RequestColumns
from forebay.simulator.summary import summarize
from tests.unit.simulator.made import WORLD, columns, drawn, result

pytest.importorskip("pyarrow", reason="keeping runs needs pyarrow")


def test_reading_back_gives_the_run_and_its_summary(tmp_path: Path) -> None:
    run = drawn("arm", 3)
    summary = summarize(run, Promises(), WORLD)
    store.write(run, summary, tmp_path)
    again, summary_again = store.read(tmp_path)
    assert summary_again == summary
    for field in dataclasses.fields(RequestColumns):
        column = getattr(again.requests, field.name)
        assert column.dtype == np.int64
        assert np.array_equal(column, getattr(run.requests, field.name)), field.name
    for field in dataclasses.fields(run):
        if field.name != "requests":
            assert getattr(again, field.name) == getattr(run, field.name), field.name


def test_a_run_of_nothing_is_kept_too(tmp_path: Path) -> None:
    run = result(columns([], [], []))
    summary = summarize(run, Promises(), WORLD)
    store.write(run, summary, tmp_path)
    again, summary_again = store.read(tmp_path)
    assert (len(again.requests.status), again.changes, summary_again) == (0, (), summary)


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run = drawn("arm", 3)
        store.write(run, summarize(run, Promises(), WORLD), tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", [store.REQUESTS, store.FLEET, store.RUN, store.SUMMARY])
def test_a_broken_file_is_named(tmp_path: Path, name: str) -> None:
    run = drawn("arm", 1)
    store.write(run, summarize(run, Promises(), WORLD), tmp_path)
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(ConfigError, match=name):
        store.read(tmp_path)


def test_a_folder_with_tables_of_others_is_not_claimed(tmp_path: Path) -> None:
    store.claim(tmp_path)
    (tmp_path / "requests.parquet").write_text("not ours")
    with pytest.raises(ConfigError, match="name another folder"):
        store.claim(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    store.claim(tmp_path)
