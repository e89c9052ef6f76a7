"""One store in each of its places, for suites that hold all adapters of a port to the same promises."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Engine

from forebay import sql
from tests.integration.postgres import postgres

__all__ = ["STORES", "opened", "postgres"]

STORES = ("memory", "sqlite", "postgresql")
"""Parameters of a fixture that yields from `opened`; its module imports `postgres` too."""
T = TypeVar("T")


def opened(
    request: pytest.FixtureRequest, folder: Path, in_memory: Callable[[], T], in_database: Callable[[Engine], T]
) -> Iterator[T]:
    """The store that the fixture's parameter names, in a database of its own."""
    if request.param == "memory":
        yield in_memory()
        return
    is_file = request.param == "sqlite"
    url = f"sqlite:///{folder}/store.db" if is_file else request.getfixturevalue("postgres").new_database()
    engine = sql.open_engine(url)
    yield in_database(engine)
    engine.dispose()
