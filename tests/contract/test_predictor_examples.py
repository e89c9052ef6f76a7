"""What every store of examples promises: memory, SQLite and PostgreSQL alike."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from forebay import sql
from forebay.core.values import InferenceRequest
from forebay.predictor import store_sql
from forebay.predictor.lengths.examples import SALT_BYTES, Example, ExampleStore, MemoryExampleStore, packed, unpacked
from forebay.predictor.store_sql import SqlExampleStore
from tests.contract.stores import STORES, opened, postgres

__all__ = ["postgres"]

NOW = 1_700_000_000_000_000


def example(number: int, at_us: int = 0, **changes: object) -> Example:
    query = InferenceRequest(request_id="", model="m", prompt_tokens=10 + number)
    cells = packed(np.array([0, 1.5, 0, number], dtype=np.float32))
    made = Example(at_us or NOW + number, query, 100 + number, False, number, "2", cells)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExampleStore]:
    yield from opened(request, tmp_path, MemoryExampleStore, SqlExampleStore)


def test_an_example_comes_back_as_it_was_kept(store: ExampleStore) -> None:
    query = InferenceRequest(
        request_id="",
        model="llama-8b",
        prompt_tokens=1_048_576,
        tokens_max=1_048_576,
        tenant="acme",
        application="chat 🦆",
        temperature=0.7,
        turn_number=2**32 - 1,
        system_digest="0123456789abcdef",
    )
    full = Example(NOW, query, 1_048_576, True, 2**63 - 1, "2", packed(np.arange(5, dtype=np.float32)))
    store.add([full])
    assert store.read("2", 10) == [full]
    columns, values = unpacked(full.cells, 5)
    assert (columns.tolist(), values.tolist()) == ([1, 2, 3, 4], [1, 2, 3, 4])


def test_nothing_is_kept_of_nothing(store: ExampleStore) -> None:
    store.add([])
    assert store.read("2", 10) == []
    assert store.prune(NOW, 10) == 0


def test_the_newest_are_read_the_oldest_of_them_first(store: ExampleStore) -> None:
    store.add([example(2), example(1), example(3)])
    assert store.read("2", 10) == [example(1), example(2), example(3)]
    assert store.read("2", 2) == [example(2), example(3)]
    assert store.read("2", 0) == []


def test_only_features_of_the_wanted_version_are_read(store: ExampleStore) -> None:
    store.add([example(1), example(2, features_version="1")])
    assert store.read("2", 10) == [example(1)]


def test_the_old_go(store: ExampleStore) -> None:
    store.add([example(number) for number in range(5)])
    assert store.prune(NOW + 2, 100) == 2
    assert store.read("2", 10) == [example(2), example(3), example(4)]


def test_the_oldest_of_too_many_go(store: ExampleStore) -> None:
    store.add([example(number) for number in range(5)])
    assert store.prune(NOW, 2) == 3
    assert store.read("2", 10) == [example(3), example(4)]


def test_the_salt_is_drawn_once(store: ExampleStore) -> None:
    assert store.salt() == store.salt()
    assert len(store.salt()) == SALT_BYTES


def test_two_processes_share_a_salt(tmp_path: Path) -> None:
    engines = [sql.open_engine(f"sqlite:///{tmp_path}/store.db") for _ in range(2)]
    salts = {SqlExampleStore(engine).salt() for engine in engines}
    other = sql.open_engine(f"sqlite:///{tmp_path}/other.db")
    assert len(salts) == 1
    assert SqlExampleStore(other).salt() not in salts
    for engine in (*engines, other):
        engine.dispose()


def test_texts_that_a_database_cannot_keep_are_cleaned(store: ExampleStore) -> None:
    query = dataclasses.replace(example(1).query, application="a\0b")
    store.add([example(1, query=query)])
    (kept,) = store.read("2", 10)
    assert kept.query.application in ("a b", "a\0b")


def test_the_migrations_make_what_the_code_expects(tmp_path: Path) -> None:
    engine = sql.open_engine(f"sqlite:///{tmp_path}/store.db")
    SqlExampleStore(engine)
    with engine.connect() as connection:
        options = {"version_table": store_sql.VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, store_sql.METADATA) == []
    engine.dispose()
