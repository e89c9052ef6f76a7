"""What a running stack leaves for other commands: addresses and process ids in `run.json` of the state folder."""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebay.core.errors import ConfigError

STATE_DIR = ".forebay"
PORT_BASE = 7_000
SERVICES = ("metrics", "predictor", "autoscaler", "scheduler", "gateway")
"""In the order in which they start."""
_GRPC_PORTS = {"scheduler": 101, "predictor": 102, "autoscaler": 103, "metrics": 104, "gateway": 81}
_HTTP_PORT = 80
_PAGE_PORT = 280
_PROMETHEUS_PORTS = {"scheduler": 201, "predictor": 202, "autoscaler": 203, "metrics": 204, "gateway": 205}
INSTANCE_PORT = 300
SCHEDULER_COUNT_MAX = 8
_REPLICA_PORT, _REPLICA_PROMETHEUS_PORT = 110, 210
"""Those of the second replica of the scheduler are 2 more, and so on."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of a stack answer, as host:port: gRPC and Prometheus pages by service, the gateway's HTTP, the
    live page (empty: there is none).

    Replicas of the scheduler are services called "scheduler", "scheduler-2" and so on. Where the stack has no predictor
    of its own, somebody else's answers at that address, and its Prometheus page is not known.
    """

    grpc: Mapping[str, str]
    prometheus: Mapping[str, str]
    http: str
    page: str = ""
    has_own_predictor: bool = True

    @property
    def http_url(self) -> str:
        """The gateway's OpenAI address as a URL."""
        return f"http://{self.http}"

    @property
    def services(self) -> tuple[str, ...]:
        """The services in the order in which they start, replicas of the scheduler side by side."""
        return tuple(
            one for name in SERVICES for one in (self.schedulers if name == "scheduler" else {name: self.grpc[name]})
        )

    @property
    def own(self) -> tuple[str, ...]:
        """Those of the services that the stack starts and ends."""
        return tuple(name for name in self.services if name != "predictor" or self.has_own_predictor)

    @property
    def schedulers(self) -> dict[str, str]:
        """Where the replicas of the scheduler answer, by name."""
        return {name: address for name, address in sorted(self.grpc.items()) if name.split("-")[0] == "scheduler"}


def addresses_from(port_base: int, scheduler_count: int = 1) -> Addresses:
    """The addresses of a stack on this machine; the default base gives the documented ports (7080, 7101, …)."""
    replicas = range(2, scheduler_count + 1)
    grpc = _GRPC_PORTS | {f"scheduler-{number}": _REPLICA_PORT + number for number in replicas}
    prometheus = _PROMETHEUS_PORTS | {f"scheduler-{number}": _REPLICA_PROMETHEUS_PORT + number for number in replicas}
    return Addresses(
        grpc={name: f"127.0.0.1:{port_base + offset}" for name, offset in grpc.items()},
        prometheus={name: f"127.0.0.1:{port_base + offset}" for name, offset in prometheus.items()},
        http=f"127.0.0.1:{port_base + _HTTP_PORT}",
        page=f"127.0.0.1:{port_base + _PAGE_PORT}",
    )


def with_predictor(addresses: Addresses, predictor: str) -> Addresses:
    """The addresses of a stack whose predictor somebody else runs, at host:port."""
    return dataclasses.replace(
        addresses,
        grpc={**addresses.grpc, "predictor": predictor},
        prometheus={**addresses.prometheus, "predictor": ""},
        has_own_predictor=False,
    )


@dataclass(frozen=True, slots=True)
class Run:
    """A running stack. `run_id` stands in the environment of every process that belongs to it."""

    run_id: str
    pid: int
    ready: bool
    addresses: Addresses
    database_url: str
    log_dir: str
    pids: Mapping[str, int] = field(default_factory=dict)


def run_file(state_dir: Path) -> Path:
    """Where the run of a state folder is written."""
    return state_dir / "run.json"


def write_run(state_dir: Path, run: Run) -> None:
    """Writes the run so that a reader sees the old file or the new one, never half of it."""
    fresh = run_file(state_dir).with_suffix(".json.new")
    fresh.write_text(json.dumps(dataclasses.asdict(run), indent=2) + "\n")
    fresh.replace(run_file(state_dir))


def read_run(state_dir: Path) -> Run | None:
    """The run of a state folder; None where there is none. Raises ConfigError when the file is damaged."""
    try:
        value: dict[str, Any] = json.loads(run_file(state_dir).read_text())
        return Run(**{**value, "addresses": Addresses(**value["addresses"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{run_file(state_dir)} is damaged ({error}); delete it") from error


def locate(state_dir: Path, gateway: str = "") -> Addresses:
    """Where the stack answers: the option, the environment (FOREBAY_SCHEDULER, …), run.json or the defaults."""
    run = read_run(state_dir)
    known = run.addresses if run else addresses_from(PORT_BASE)
    grpc = {name: os.environ.get(f"FOREBAY_{name.upper()}", address) for name, address in known.grpc.items()}
    first, *others = grpc["scheduler"].split(",")
    grpc |= {"scheduler": first} | {f"scheduler-{number}": one for number, one in enumerate(others, start=2)}
    http = gateway or os.environ.get("FOREBAY_HTTP", known.http)
    return Addresses(grpc, known.prometheus, http.removeprefix("http://").rstrip("/"), known.page)
