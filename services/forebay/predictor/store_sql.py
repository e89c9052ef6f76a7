"""Keeps examples for training in SQLite or PostgreSQL."""

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from forebay import sql
from forebay.core.values import InferenceRequest
from forebay.predictor.examples import SALT_BYTES, Example

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
            gone = connection.execute(delete(EXAMPLES).where(columns.at_us < before_us)).rowcount
            if connection.execute(select(func.count()).select_from(EXAMPLES)).scalar_one() > count_max:
                gone += connection.execute(delete(EXAMPLES).where(columns.id.not_in(newest))).rowcount
            return gone

    def read(self, features_version: str, count_max: int) -> list[Example]:
        """See `ExampleStore`."""
        columns = EXAMPLES.c
        query = select(EXAMPLES).where(columns.features_version == features_version)
        query = query.order_by(columns.at_us.desc(), columns.id.desc()).limit(count_max)
        with sql.reading(self._engine) as connection:
            return [_example(row) for row in connection.execute(query).mappings()][::-1]


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
