"""An emulated Triton as a process of its own, for tests; the caller ends it."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO, cast

ROOT = Path(__file__).resolve().parents[2]
ATTEMPTS = 600
INTERVAL_S = 0.05
STOP_S = 30


@dataclass(frozen=True, slots=True)
class EmulatedTriton:
    """Where a running emulator answers. Addresses are host:port without a scheme."""

    grpc_address: str
    http_address: str
    metrics_url: str
    process: subprocess.Popen[str]

    def ready(self) -> bool:
        """Whether its health endpoint says so."""
        return status_of(f"http://{self.http_address}/v2/health/ready") == 200

    def inject(self, fault: Mapping[str, object]) -> int:
        """Set faults at run time; gives the HTTP status."""
        return status_of(f"http://{self.http_address}/emulator/faults", json.dumps(fault).encode())

    def metric(self, name: str, *labels: str) -> float:
        """Sum of the samples of one family that have all `labels`, each as `name="value"`."""
        with urllib.request.urlopen(self.metrics_url, timeout=STOP_S) as reply:
            lines = reply.read().decode().splitlines()
        found = [line for line in lines if line.startswith(name + "{") and all(label in line for label in labels)]
        assert found, f"no {name} with {labels}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def terminate(self) -> int:
        """SIGTERM, then SIGKILL if it does not go; gives the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            cast(IO[str], self.process.stdout).close()


def start_emulator(*arguments: str, wait: bool = True) -> EmulatedTriton:
    """Start an emulator on free ports; with `wait`, return once it is ready."""
    command = [sys.executable, "-m", "forebay.emulator", "--grpc-port=0", "--http-port=0", "--metrics-port=0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "services")}
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
    line = cast(IO[str], process.stdout).readline()
    if not line:
        close(process)
        raise AssertionError(f"the emulator ended with status {process.returncode}")
    ports = json.loads(line)
    server = EmulatedTriton(
        grpc_address=f"127.0.0.1:{ports['grpc']}",
        http_address=f"127.0.0.1:{ports['http']}",
        metrics_url=f"http://127.0.0.1:{ports['metrics']}/metrics",
        process=process,
    )
    if wait and not wait_until(lambda: server.ready() or process.poll() is not None):
        server.terminate()
        raise AssertionError("the emulator did not become ready")
    if wait and process.poll() is not None:
        close(process)
        raise AssertionError(f"the emulator ended with status {process.returncode}")
    return server


def close(process: subprocess.Popen[str]) -> None:
    """Wait for a process that ends and close its pipe."""
    process.wait(STOP_S)
    cast(IO[str], process.stdout).close()


def wait_until(condition: Callable[[], bool]) -> bool:
    """Poll until `condition` holds; False if it never does."""
    return any(condition() or Event().wait(INTERVAL_S) for _ in range(ATTEMPTS))


def status_of(url: str, body: bytes | None = None) -> int:
    """The HTTP status of a GET, or of a POST of `body`; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, body, timeout=2) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0
