"""What every composition root does: reads its part of the file and the environment, runs, and says errors plainly."""

import dataclasses
import gc
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.wire import logs

T = TypeVar("T")

_DEFAULTS = {
    "FOREBAY_SCHEDULER": "127.0.0.1:7101",
    "FOREBAY_PREDICTOR": "127.0.0.1:7102",
    "FOREBAY_AUTOSCALER": "127.0.0.1:7103",
    "FOREBAY_METRICS": "127.0.0.1:7104",
    "FOREBAY_HTTP": "127.0.0.1:7080",
    "FOREBAY_PAGE": "127.0.0.1:7280",
    "FOREBAY_DATABASE_URL": "sqlite:///.forebay/forebay.db",
    "FOREBAY_DATABASE_WAIT_S": "0",
    "FOREBAY_LOG_LEVEL": "INFO",
    "FOREBAY_LOG_JSON": "0",
}
SECTIONS = ("gateway", "scheduler", "predictor", "autoscaler", "metrics", "emulator")


@dataclasses.dataclass(frozen=True, slots=True)
class Environment:
    """Addresses (host:port), the database and the log format: all that the environment may set.

    `scheduler` may be several replicas, with commas between them. An address `dns:host:port` stands for all replicas
    that the name has addresses of; the predictor's may be one too. `page` is the live page's; empty: there is none.
    `database_wait_s` is how long a service that cannot live without the database waits for it at its start.
    """

    listen: str
    prometheus: str
    scheduler: str
    predictor: str
    autoscaler: str
    metrics: str
    http: str
    page: str
    database_url: str
    database_wait_s: float
    log_level: str
    log_json: bool

    @property
    def schedulers(self) -> tuple[str, ...]:
        """The addresses of the scheduler's replicas."""
        return tuple(address.strip() for address in self.scheduler.split(",") if address.strip())


def environment(listen: str, prometheus: str = "") -> Environment:
    """The environment, with the part's own default addresses."""
    values = {**_DEFAULTS, "FOREBAY_LISTEN": listen, "FOREBAY_PROMETHEUS": prometheus}
    values.update({key: os.environ[key] for key in values if key in os.environ})  # noqa: TID251 - only roots call this
    fields = {key.removeprefix("FOREBAY_").lower(): value for key, value in values.items()}
    typed = {"log_json": fields["log_json"] == "1", "database_wait_s": float(fields["database_wait_s"])}
    return Environment(**{**fields, **typed})  # type: ignore[arg-type]


def section(path: str | None, name: str, config: type[T]) -> T:
    """The part's own section of the configuration file; without a file, the defaults.

    Raises ConfigError for a file that cannot be read, an unknown section, or a bad key.
    """
    if path is None:
        return config()
    try:
        tables = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    for key in tables:
        if key not in SECTIONS:
            raise ConfigError(f"unknown section [{key}] in {path}; known: {', '.join(SECTIONS)}")
    return from_mapping(config, tables.get(name, {}), name)


def calm_collector() -> None:
    """Keeps the garbage collector from pausing a service that holds many long-lived values.

    With Python's own thresholds a full pass over 50,000 records takes more than 100 ms, again and again, and finds
    nothing: cycles are rare here. What the start made is left out for ever, and full passes become rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def run(main: Callable[[], Coroutine[Any, Any, None]], env: Environment) -> None:
    """Runs a service to its end on uvloop; a ConfigError becomes one line on standard error and exit status 2."""
    # Process 1 of a container ignores signals without a handler. Until it serves, SIGTERM ends it as elsewhere.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    logs.configure(env.log_level, env.log_json)
    try:
        uvloop.run(main())
    except ConfigError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(2) from error
