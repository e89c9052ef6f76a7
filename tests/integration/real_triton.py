"""A real Triton with a real language model as a pytest fixture; skips where `make triton` has not installed one."""

import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

ROOT = Path(__file__).resolve().parents[2]
START = ROOT / "compose" / "triton" / "start.sh"
INSTALLED = Path(os.getenv("FOREBAY_TRITON_DIR", str(ROOT / ".triton")))

# Generous: the machine that runs the tests may be busy with other work.
READY_ATTEMPTS = 480
READY_INTERVAL_S = 0.25
STOP_S = 45


@dataclass(frozen=True, slots=True)
class RealTriton:
    """Where a running server answers. Addresses are host:port without a scheme; `model` is loaded."""

    grpc_address: str
    http_address: str
    metrics_url: str
    model: str
    pid: int


def free_ports(count: int) -> list[int]:
    """Ports that are free now. All are held open until all are chosen, so they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until_model_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return once `url` answers 200; fail the test run with the server's log when it exits or takes too long."""
    for _ in range(READY_ATTEMPTS):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            Event().wait(READY_INTERVAL_S)
    pytest.fail(f"Triton did not become ready; the end of its log:\n{log.read_text()[-4000:]}")


def start_server(model: str, log: Path, *flags: str) -> tuple[RealTriton, subprocess.Popen[bytes]]:
    """Start a server on free ports with one model loaded and wait for it. The caller ends the process."""
    http, grpc, metrics = free_ports(3)
    command = [str(START), "--load-model", model]
    command += ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics), *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        wait_until_model_answers(process, f"http://127.0.0.1:{http}/v2/models/{model}/ready", log)
    except BaseException:
        stop_server(process)
        raise
    server = RealTriton(
        grpc_address=f"127.0.0.1:{grpc}",
        http_address=f"127.0.0.1:{http}",
        metrics_url=f"http://127.0.0.1:{metrics}/metrics",
        model=model,
        pid=process.pid,
    )
    return server, process


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL for a server that does not go."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def real_triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealTriton]:
    """One server for the whole test session, with model smollm2 loaded."""
    if not (INSTALLED / "installed.txt").exists():
        pytest.skip(f"no real Triton in {INSTALLED}; `make triton` installs it")
    server, process = start_server("smollm2", tmp_path_factory.mktemp("triton") / "server.log")
    yield server
    stop_server(process)
