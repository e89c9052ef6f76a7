"""Keeps examples for training, and what outlives a restart, in SQLite or PostgreSQL."""

import json
import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from forebay import sql
from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.examples import SALT_BYTES, Example
from forebay.predictor.lengths.snapshot_store import packed, unpacked
from forebay.predictor.lengths.snapshots import Snapshot

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "predictor_version"
METADATA = MetaData()
_INSERTS: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def _text(name: str, length: int) -> Column[str]:
    return Column(name, String(length), nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


EXAMPLES = Table(
    "predictor_examples",
    METADATA,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    _number("at_us"),
    _text("features_version", 32),
    _number("prompt_group"),
    Column("cells", LargeBinary, nullable=False),
    _number("generated_tokens"),
    Column("censored", Boolean, nullable=False),
    _text("model", 200),
    _text("application", 128),
    _text("tenant", 128),
    _number("prompt_tokens"),
    _number("tokens_max"),
    Column("temperature", Double, nullable=False),
    _number("turn_number"),
    _text("system_digest", 16),
    Index("predictor_examples_by_time", "at_us", "id"),
)
SALT = Table(
    "predictor_salt",
    METADATA,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("salt", LargeBinary, nullable=False),
)
SNAPSHOTS = Table(
    "predictor_snapshots",
    METADATA,
    Column("name", String(64), primary_key=True),
    _text("owner", 128),
    _text("kind", 16),
    Column("parts", Text, nullable=False),
    _number("at_us"),
    Column("content", LargeBinary, nullable=False),
    Index("predictor_snapshots_by_time", "at_us"),
)
_OF_QUERY = (
    "model",
    "application",
    "tenant",
    "prompt_tokens",
    "tokens_max",
    "temperature",
    "turn_number",
    "system_digest",
)
_OF_EXAMPLE = ("at_us", "features_version", "cells", "generated_tokens", "censored")


class SqlExampleStore:
    """The `ExampleStore` in a database; migrates its tables at first, and raises ConfigError where that fails."""

    def __init__(self, engine: Engine) -> None:
        sql.migrate(engine, MIGRATIONS, VERSION_TABLE)
        self._engine = engine

    def salt(self) -> bytes:
        """See `ExampleStore`."""
        fresh = _INSERTS[self._engine.dialect.name](SALT).on_conflict_do_nothing(index_elements=["id"])
        with sql.writing(self._engine) as connection:
            connection.execute(fresh, {"id": 1, "salt": secrets.token_bytes(SALT_BYTES)})
            return bytes(connection.execute(select(SALT.c.salt)).scalar_one())

    def add(self, examples: Sequence[Example]) -> None:
        """See `ExampleStore`."""
        if examples:
            with sql.writing(self._engine) as connection:
                connection.execute(insert(EXAMPLES), [_row(one) for one in examples])

    def prune(self, before_us: int, count_max: int) -> int:
        """See `ExampleStore`."""
        columns = EXAMPLES.c
        newest = select(columns.id).order_by(columns.at_us.desc(), columns.id.desc()).limit(count_max)
        with sql.writing(self._engine) as connection:
            return _pruned(connection, EXAMPLES, before_us, columns.id.not_in(newest), count_max)

    def read(self, features_version: str, count_max: int) -> list[Example]:
        """See `ExampleStore`."""
        columns = EXAMPLES.c
        query = select(EXAMPLES).where(columns.features_version == features_version)
        query = query.order_by(columns.at_us.desc(), columns.id.desc()).limit(count_max)
        with sql.reading(self._engine) as connection:
            return [_example(row) for row in connection.execute(query).mappings()][::-1]


class SqlSnapshotStore:
    """The `SnapshotStore` in a database; migrates its tables at first, and raises ConfigError where that fails."""

    def __init__(self, engine: Engine) -> None:
        sql.migrate(engine, MIGRATIONS, VERSION_TABLE)
        self._engine = engine

    def write(self, snapshots: Sequence[Snapshot], at_us: int) -> None:
        """See `SnapshotStore`."""
        if not snapshots:
            return
        fresh = _INSERTS[self._engine.dialect.name](SNAPSHOTS)
        changed = {name: fresh.excluded[name] for name in ("at_us", "content")}
        upsert = fresh.on_conflict_do_update(index_elements=["name"], set_=changed)
        rows = [{**_snapshot_row(one), "at_us": at_us} for one in snapshots]
        with sql.writing(self._engine) as connection:
            connection.execute(upsert, rows)

    def read(self) -> list[Snapshot]:
        """See `SnapshotStore`."""
        query = select(SNAPSHOTS).order_by(SNAPSHOTS.c.at_us, SNAPSHOTS.c.name)
        with sql.reading(self._engine) as connection:
            rows = list(connection.execute(query).mappings())
        return [one for one in map(_snapshot, rows) if one is not None]

    def prune(self, before_us: int, count_max: int) -> int:
        """See `SnapshotStore`."""
        columns = SNAPSHOTS.c
        young = select(columns.name).order_by(columns.at_us.desc(), columns.name.desc()).limit(count_max)
        with sql.writing(self._engine) as connection:
            return _pruned(connection, SNAPSHOTS, before_us, columns.name.not_in(young), count_max)


def _pruned(connection: Connection, table: Table, before_us: int, is_old: ColumnElement[bool], count_max: int) -> int:
    """Deletes what is older than `before_us`, and what `is_old` where there is more than `count_max`; says how many."""
    gone = connection.execute(delete(table).where(table.c.at_us < before_us)).rowcount
    if connection.execute(select(func.count()).select_from(table)).scalar_one() > count_max:
        gone += connection.execute(delete(table).where(is_old)).rowcount
    return gone


def _snapshot_row(one: Snapshot) -> dict[str, Any]:
    """Names as JSON in ASCII: no database refuses those."""
    content = packed(one.rows)
    return {"name": one.name, "owner": one.owner, "kind": one.kind, "parts": json.dumps(one.key), "content": content}


def _snapshot(row: Any) -> Snapshot | None:
    try:
        key = tuple(map(str, json.loads(row["parts"])))
        return Snapshot(row["owner"], row["kind"], key, unpacked(bytes(row["content"])))
    except (ValueError, TypeError) as error:
        log.warning("a snapshot cannot be read", extra={"fields": {"error": str(error)}})
        return None


def _row(example: Example) -> dict[str, Any]:
    row = {name: getattr(example, name) for name in _OF_EXAMPLE}
    # PostgreSQL's texts have no NUL.
    texts = {name: getattr(example.query, name) for name in _OF_QUERY}
    cleaned = {name: value.replace("\0", " ") if isinstance(value, str) else value for name, value in texts.items()}
    return {**row, **cleaned, "prompt_group": example.group}


def _example(row: Any) -> Example:
    query = InferenceRequest(request_id="", **{name: row[name] for name in _OF_QUERY})
    values = {name: row[name] for name in _OF_EXAMPLE} | {"cells": bytes(row["cells"])}
    return Example(query=query, group=row["prompt_group"], **values)
