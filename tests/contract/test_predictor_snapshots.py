"""What every store of snapshots promises: memory, SQLite and PostgreSQL alike."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from forebay import sql
from forebay.predictor import store_sql
from forebay.predictor.lengths.snapshot_store import MemorySnapshotStore, SnapshotStore, packed, unpacked
from forebay.predictor.lengths.snapshots import Snapshot
from forebay.predictor.store_sql import SqlSnapshotStore
from tests.contract.stores import STORES, opened, postgres

__all__ = ["postgres"]

NOW = 1_700_000_000_000_000
ROWS = np.array([[1.5, 0.0], [-2.0, 1.0]])


def snapshot(number: int, **changes: object) -> Snapshot:
    made = Snapshot("onnx_quantile@3#0123", "bounds", ("m", f"app {number}"), ROWS + number)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def numbers(store: SnapshotStore) -> list[float]:
    return [one.rows[0, 0] - ROWS[0, 0] for one in store.read()]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SnapshotStore]:
    yield from opened(request, tmp_path, MemorySnapshotStore, SqlSnapshotStore)


def test_a_snapshot_comes_back_as_it_was_kept(store: SnapshotStore) -> None:
    full = snapshot(1, key=("modèle \0 \ud800 🦆", ""), rows=np.array([[np.pi, 1e300], [-0.0, 2**53]]))
    store.write([full], NOW)
    (kept,) = store.read()
    assert (kept.owner, kept.kind, kept.key) == (full.owner, full.kind, full.key)
    np.testing.assert_array_equal(kept.rows, full.rows)


def test_one_without_rows_or_key_comes_back_too(store: SnapshotStore) -> None:
    store.write([snapshot(1, key=(), rows=np.empty((0, 2)))], NOW)
    (kept,) = store.read()
    assert (kept.key, kept.rows.shape) == ((), (0, 2))


def test_nothing_is_kept_of_nothing(store: SnapshotStore) -> None:
    store.write([], NOW)
    assert store.read() == []
    assert store.prune(NOW, 10) == 0


def test_the_newest_of_a_name_takes_the_place_of_the_older(store: SnapshotStore) -> None:
    store.write([snapshot(1), snapshot(2)], NOW)
    store.write([snapshot(1, rows=ROWS + 5)], NOW + 1)
    assert numbers(store) == [2, 5]


def test_owner_kind_and_key_tell_snapshots_apart(store: SnapshotStore) -> None:
    others = [snapshot(1, owner="x"), snapshot(1, kind="policy"), snapshot(1, key=("m",)), snapshot(1, key=("m", ""))]
    store.write([snapshot(1), *others], NOW)
    assert len(store.read()) == 5


def test_the_old_go(store: SnapshotStore) -> None:
    for number in range(4):
        store.write([snapshot(number)], NOW + number)
    assert store.prune(NOW + 2, 100) == 2
    assert numbers(store) == [2, 3]


def test_the_oldest_of_too_many_go(store: SnapshotStore) -> None:
    for number in range(4):
        store.write([snapshot(number)], NOW + number)
    assert store.prune(NOW, 1) == 3
    assert numbers(store) == [3]


def test_one_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    engine = sql.open_engine(f"sqlite:///{tmp_path}/store.db")
    store = SqlSnapshotStore(engine)
    store.write([snapshot(1), snapshot(2), snapshot(3)], NOW)
    columns = store_sql.SNAPSHOTS.c
    with sql.writing(engine) as connection:
        for number, change in ((1, {"content": b"no rows"}), (2, {"parts": "no key"})):
            connection.execute(update(store_sql.SNAPSHOTS).where(columns.name == snapshot(number).name).values(change))
    assert numbers(store) == [3]
    engine.dispose()


@pytest.mark.parametrize("content", [b"", b"x", packed(ROWS)[:-3], packed(ROWS) + b"x", packed(np.empty((0, 0)))[:9]])
def test_what_is_no_packed_table_is_refused(content: bytes) -> None:
    if content == packed(ROWS) + b"x":
        np.testing.assert_array_equal(unpacked(content), ROWS)
        return
    with pytest.raises(ValueError, match="a snapshot that"):
        unpacked(content)
