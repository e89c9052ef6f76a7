"""Databases open or say why not; migrations are safe at any time; transactions wait their turn."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine

from forebay import sql
from forebay.core.errors import ConfigError, Unavailable
from tests.integration.postgres import Postgres, postgres

__all__ = ["postgres"]

CREATE = """
import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade():
    op.create_table("things", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO things VALUES (1)")
"""
BREAK = """
import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade():
    op.create_table("others", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO nowhere VALUES (1)")
"""
START = """
import os
import sys
from pathlib import Path
from forebay import sql

engine = sql.open_engine(sys.argv[1])
sql.migrate(engine, Path(sys.argv[2]), "things_version")
with sql.writing(engine) as connection:
    connection.exec_driver_sql(f"INSERT INTO things (id) VALUES ({1_000 + os.getpid()})")
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    (tmp_path / "scripts" / "versions").mkdir(parents=True)
    (tmp_path / "scripts" / "versions" / "create.py").write_text(CREATE)
    return tmp_path / "scripts"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deep/down/data.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


def count(engine: Engine, table: str) -> int:
    with sql.reading(engine) as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def test_processes_that_start_at_once_migrate_once(url: str, scripts: Path) -> None:
    command = [sys.executable, "-c", START, url, str(scripts)]
    started = [subprocess.Popen(command, env={"PYTHONPATH": "services"}) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    engine = sql.open_engine(url)
    assert count(engine, "things") == 5
    engine.dispose()


def test_a_revision_that_fails_leaves_the_database_as_it_was(url: str, scripts: Path) -> None:
    engine = sql.open_engine(url)
    (scripts / "versions" / "break.py").write_text(BREAK)
    with pytest.raises(ConfigError, match="nowhere"):
        sql.migrate(engine, scripts, "things_version")
    (scripts / "versions" / "break.py").unlink()
    sql.migrate(engine, scripts, "things_version")
    assert count(engine, "things") == 1
    with pytest.raises(Exception, match="others"):
        count(engine, "others")
    engine.dispose()


def test_a_database_newer_than_the_program_is_refused(url: str, scripts: Path) -> None:
    engine = sql.open_engine(url)
    sql.migrate(engine, scripts, "things_version")
    (scripts / "versions" / "create.py").write_text(CREATE.replace('"1"', '"0"'))
    with pytest.raises(ConfigError, match="cannot migrate"):
        sql.migrate(engine, scripts, "things_version")
    engine.dispose()


def test_parts_share_a_database_without_sharing_versions(url: str, scripts: Path) -> None:
    engine = sql.open_engine(url)
    sql.migrate(engine, scripts, "things_version")
    (scripts / "versions" / "create.py").write_text(CREATE.replace("things", "others"))
    sql.migrate(engine, scripts, "others_version")
    assert count(engine, "things") == count(engine, "others") == 1
    engine.dispose()


def test_an_error_undoes_the_transaction(url: str, scripts: Path) -> None:
    engine = sql.open_engine(url)
    sql.migrate(engine, scripts, "things_version")

    def fail_after_writing() -> None:
        with sql.writing(engine) as connection:
            connection.exec_driver_sql("INSERT INTO things VALUES (2)")
            raise KeyError("mine")

    with pytest.raises(KeyError):
        fail_after_writing()
    assert count(engine, "things") == 1
    engine.dispose()


def test_writers_take_turns_even_when_they_read_first(url: str, scripts: Path) -> None:
    engine = sql.open_engine(url)
    sql.migrate(engine, scripts, "things_version")

    def add() -> None:
        for _ in range(10):
            with sql.writing(engine) as connection:
                if engine.dialect.name == "postgresql":
                    connection.exec_driver_sql("LOCK TABLE things")
                last = connection.exec_driver_sql("SELECT max(id) FROM things").scalar_one()
                connection.exec_driver_sql(f"INSERT INTO things VALUES ({last + 1})")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(engine, "things") == 41
    engine.dispose()


def test_a_locked_sqlite_is_unavailable_and_says_when_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "BUSY_TIMEOUT_S", 0.05)
    engine = sql.open_engine(f"sqlite:///{tmp_path}/data.db")
    other = sqlite3.connect(tmp_path / "data.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked") as caught, sql.writing(engine):
        pass
    assert caught.value.code == "DATABASE_UNAVAILABLE"
    assert caught.value.retry_after_us == sql.RETRY_AFTER_US
    with sql.reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    other.close()
    engine.dispose()


def test_a_server_that_goes_is_unavailable_and_one_that_returns_is_used_again(postgres: Postgres) -> None:
    engine = sql.open_engine(postgres.new_database())
    postgres.stop()
    with pytest.raises(Unavailable), sql.reading(engine):
        pass
    postgres.start()
    with sql.reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    engine.dispose()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("nonsense", "must be like"),
        ("mysql://u:secret@localhost/x", "not supported"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:////proc/none/x.db", "directory"),
        ("sqlite:////", "cannot open"),
        ("postgresql://u:secret@127.0.0.1:1/x", "cannot open"),
    ],
)
def test_a_database_that_cannot_be_opened_says_what_is_wrong_without_its_password(wrong: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        sql.open_engine(wrong)
    assert "secret" not in caught.value.message


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.db").write_text("a letter to a friend, of some length, which is no database" * 100)
    with pytest.raises(ConfigError, match="not a database"):
        sql.open_engine(f"sqlite:///{tmp_path}/data.db")
