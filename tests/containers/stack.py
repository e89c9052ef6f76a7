"""The stack of compose.yaml in real containers: brought up by the real compose binary, killed and scaled by name."""

import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "forebay-test"
IMAGE, NEWER, POSTGRES = "localhost/forebay:0.1.0", "localhost/forebay:0.1.1", "localhost/forebay-postgres:15"
PORTS = {"HTTP_PORTS": "17080", "KSERVE_PORTS": "17090", "PAGE_PORT": "17280"}
IMAGES = {"FOREBAY_IMAGE": IMAGE, "POSTGRES_IMAGE": POSTGRES}
READY_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 300
UNPUBLISHED = """
services:
  gateway:
    ports: !reset []
"""
"""Podman's API gives no port of a range to each container, as Docker's does: they are reached by their addresses."""
ENGINE = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
"""What podman needs where there is no systemd and limits are low."""


def compose_binary() -> str:
    """The real compose binary, as a Python package carries it."""
    spec = importlib.util.find_spec("compose")
    if spec is None or spec.origin is None:
        pytest.skip("no compose binary: `make dev` installs it")
    return str(Path(spec.origin).parent / "docker-compose")


@contextmanager
def engine() -> Iterator[dict[str, str]]:
    """Podman's service behind Docker's API; gives the environment that finds it. Skips where there is none."""
    for program in ("podman", "runc"):
        if shutil.which(program) is None or os.geteuid() != 0:
            pytest.skip(f"needs root and {program}: `make test-containers` installs what is missing on Debian")
    with tempfile.TemporaryDirectory(prefix="fb") as folder:
        settings, socket = Path(folder, "containers.conf"), Path(folder, "s")
        settings.write_text(ENGINE)
        environment = {**os.environ, "CONTAINERS_CONF": str(settings)}
        with Path(folder, "log").open("wb") as log:
            service = subprocess.Popen(
                ["podman", "system", "service", "--time=0", f"unix://{socket}"], stdout=log, stderr=log, env=environment
            )
        try:
            for _ in range(100):
                if socket.exists():
                    break
                time.sleep(0.1)
            else:
                pytest.skip(f"podman does not serve here: {Path(folder, 'log').read_text()[-500:]}")
            yield {**environment, "DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": folder}
        finally:
            service.terminate()
            service.wait(30)


class Stack:
    """One project of containers."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = {**environment, **PORTS, **IMAGES}
        self._unpublished = folder / "unpublished.yaml"
        self._unpublished.write_text(UNPUBLISHED)
        self._files = [ROOT / "compose" / "compose.yaml"]

    def compose(self, *words: str, **variables: str) -> str:
        """What compose prints. Raises CalledProcessError."""
        files = [word for file in self._files for word in ("-f", str(file))]
        command = [compose_binary(), "-p", PROJECT, *files, "--profile", "emulated", *words]
        done = subprocess.run(
            command,
            env={**self._environment, **variables},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def up(self, *words: str, **variables: str) -> str:
        """Brings up what is missing, or what changed."""
        said = self.compose("up", "-d", "--no-build", "--pull", "never", *words, **variables)
        self._fix_bridge()
        return said

    def _fix_bridge(self) -> None:
        """Gives the network's bridge its address for good, as Docker does.

        A bridge has the lowest address of what is plugged into it: when that leaves, packets from containers to this
        machine go astray for half a minute.
        """
        (network,) = json.loads(self.podman("network", "inspect", f"{PROJECT}_default"))
        bridge = network["network_interface"]
        address = Path(f"/sys/class/net/{bridge}/address").read_text().strip()
        subprocess.run(["ip", "link", "set", "dev", bridge, "address", address], check=True)

    def reach_gateways_by_address(self) -> None:
        """From the next `up` on: ports of the gateway are not published, so that there can be several."""
        self._files.append(self._unpublished)

    def down(self) -> None:
        """Removes all of it, the data too."""
        self.compose("down", "--volumes", "--timeout", "30", "--remove-orphans")

    def podman(self, *words: str) -> str:
        """What podman prints. Raises CalledProcessError."""
        done = subprocess.run(
            ["podman", *words], env=self._environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def names(self, service: str, *, running: bool = True) -> list[str]:
        """The containers of a service."""
        wanted = [f"label=com.docker.compose.project={PROJECT}", f"label=com.docker.compose.service={service}"]
        wanted += ["status=running"] if running else []
        filters = [word for one in wanted for word in ("--filter", one)]
        return sorted(self.podman("ps", "--all", "--format", "{{.Names}}", *filters).split())

    def inspect(self, name: str) -> Any:
        """What the engine knows of a container."""
        (found,) = json.loads(self.podman("inspect", name))
        return found

    def address(self, name: str) -> str:
        """The IP address of a container; empty when it has none."""
        networks = self.inspect(name)["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def gateways(self) -> list[str]:
        """Where the gateways that run answer HTTP."""
        found = [self.address(name) for name in self.names("gateway")]
        return [f"http://{one}:7080" for one in found if one]

    def kill(self, name: str) -> None:
        """SIGKILL: it has no time for anything."""
        self.podman("kill", "--signal", "KILL", name)

    def start(self, name: str) -> None:
        """Starts a container that ended."""
        self.podman("start", name)

    def is_healthy(self, name: str) -> bool:
        """Whether its own health check says so."""
        done = subprocess.run(["podman", "healthcheck", "run", name], env=self._environment, capture_output=True)
        return done.returncode == 0

    def wait_healthy(self, *services: str) -> float:
        """Waits until every container of the services is; gives the seconds that took."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < READY_TIMEOUT_S:
            names = [name for service in services for name in self.names(service)]
            sick = [name for name in names if not self.is_healthy(name)]
            if names and not sick:
                return time.monotonic() - began_s
            time.sleep(0.5)
        raise AssertionError(f"not healthy: {sick or services}\n{self.compose('logs', '--tail', '30')}")
