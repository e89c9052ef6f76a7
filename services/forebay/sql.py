"""Opens the database that a URL names, migrates it, and runs transactions; for store adapters and composition roots."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from forebay.core.errors import ConfigError, Unavailable
from forebay.core.units import US_PER_S

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 10
"""How long a SQLite transaction waits for another process's."""
STATEMENT_TIMEOUT_MS = 30_000
"""How long PostgreSQL may work on one statement."""
CONNECT_TIMEOUT_S = 5
_SWITCH_RETRY_S = 0.05
_WAIT_RETRY_S = 1.0
RETRY_AFTER_US = US_PER_S

_MIGRATION_LOCK = 0x466F7265626179
"""Key of PostgreSQL's advisory lock that migrations hold: "Forebay" in ASCII."""
_IMMEDIATE = "forebay_immediate"


def open_engine(url: str, wait_s: float = 0.0) -> Engine:
    """A pool of connections to the database that `url` names; SQLite files are made, with their directory.

    Takes `sqlite:///path` and `postgresql://user:password@host/name`. Calls block: shells go through
    `asyncio.to_thread`. Errors never hold what a statement carried, such as a prompt. A database that does not answer
    yet, such as one that starts beside this process, is tried again for about `wait_s`. Raises ConfigError when the URL
    is wrong or the database cannot be opened.
    """
    parsed = _parse(url)
    engine = _OPENERS[parsed.get_backend_name()](parsed)
    for left in reversed(range(int(wait_s / _WAIT_RETRY_S) + 1)):
        try:
            with engine.connect():
                return engine
        except exc.SQLAlchemyError as error:
            if not left or not isinstance(error, exc.OperationalError):
                engine.dispose()
                raise ConfigError(f"cannot open the database {parsed.render_as_string()}: {_cause(error)}") from error
            log.info("waiting for the database", extra={"fields": {"cause": _cause(error)}})
        time.sleep(_WAIT_RETRY_S)
    raise AssertionError


def migrate(engine: Engine, script_location: Path, version_table: str) -> None:
    """Brings the tables of one part to the newest revision; processes that start at once take turns.

    `script_location` holds Alembic's `versions/`; `version_table` is the part's own. All or nothing: a revision that
    fails leaves the database as it was. Raises ConfigError where that happens, and where the database is newer than
    this program.
    """
    script = ScriptDirectory(str(script_location))
    environment = EnvironmentContext(Config(), script, fn=lambda known, _: script._upgrade_revs("head", known))
    try:
        with writing(engine) as connection, environment:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            environment.configure(connection=connection, version_table=version_table)
            environment.run_migrations()
    except (CommandError, exc.SQLAlchemyError, Unavailable) as error:
        raise ConfigError(f"cannot migrate {engine.url.render_as_string()}: {_cause(error)}") from error


def reading(engine: Engine) -> AbstractContextManager[Connection]:
    """One transaction that only reads. Raises Unavailable when the database does not answer."""
    return _transaction(engine)


def writing(engine: Engine) -> AbstractContextManager[Connection]:
    """One transaction that writes: committed at the end, undone by an error.

    Raises Unavailable when the database does not answer or another process keeps it locked.
    """
    return _transaction(engine.execution_options(**{_IMMEDIATE: True}))


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    try:
        with engine.begin() as connection:
            yield connection
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise Unavailable(
            f"the database does not answer: {_cause(error)}",
            reason="DATABASE_UNAVAILABLE",
            retry_after_us=RETRY_AFTER_US,
        ) from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise ConfigError("the database URL must be like sqlite:///path or postgresql://user@host/name") from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        return parsed
    raise ConfigError(f"databases of kind {parsed.drivername!r} are not supported; use sqlite or postgresql")


def _open_sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise ConfigError("a SQLite database in memory cannot be shared between threads; name a file: sqlite:///path")
    try:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the directory of the database {url.database}: {error.strerror}") from error
    settings = {"timeout": BUSY_TIMEOUT_S, "isolation_level": None}
    engine = create_engine(url, connect_args=settings, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    _write_ahead(connection, BUSY_TIMEOUT_S)


def _write_ahead(connection: Any, patience_s: float) -> None:
    """Switches the file to write-ahead logging.

    SQLite does not wait for its busy timeout when two processes switch a new file at once; the loser tries again.
    """
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError:
        if patience_s <= 0:
            raise
        time.sleep(_SWITCH_RETRY_S)
        _write_ahead(connection, patience_s - _SWITCH_RETRY_S)


def _begin_sqlite(connection: Connection) -> None:
    # The driver's own BEGIN comes too late for DDL, and a transaction that turns into a writer after a read fails at
    # once instead of waiting its turn: writers take the lock at the start.
    immediate = connection.get_execution_options().get(_IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _open_postgresql(url: URL) -> Engine:
    options = f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"
    arguments = {"connect_timeout": CONNECT_TIMEOUT_S, "options": options, "application_name": "forebay"}
    pool = {"pool_pre_ping": True, "pool_timeout": CONNECT_TIMEOUT_S}
    return create_engine(url, connect_args=arguments, hide_parameters=True, **pool)


_OPENERS: dict[str, Callable[[URL], Engine]] = {"sqlite": _open_sqlite, "postgresql": _open_postgresql}


def _cause(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())
