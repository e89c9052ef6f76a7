"""Real engines with the Docker API as pytest fixtures: dockerd and podman; each skips where it is not installed."""

import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx
import pytest

from forebay.autoscaler.container import ContainerConfig

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/forebay-empty:latest"
READY_ATTEMPTS, READY_INTERVAL_S = 300, 0.1
STOP_S = 30


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine answers. It has one image without content: what runs is bound in from this machine."""

    host: str

    def container(self, command: Sequence[str]) -> ContainerConfig:
        """A container that runs a command of this machine in its network."""
        folders = ["/usr", "/bin", "/lib", "/lib64", "/etc", sys.base_prefix, sys.prefix, str(ROOT)]
        return ContainerConfig(
            image=IMAGE,
            command=tuple(command),
            environment=(f"PYTHONPATH={ROOT / 'services'}:{ROOT / 'clients/python'}", "OMP_NUM_THREADS=1"),
            networks=("host",),
            binds=tuple(f"{folder}:{folder}:ro" for folder in dict.fromkeys(folders) if Path(folder).exists()),
            ulimits=("nofile=1024:1024", "nproc=1024:1024"),
        )

    @contextmanager
    def networks(self, *names: str) -> Iterator[None]:
        """User-defined networks, until the end of the block."""
        socket_path = self.host.removeprefix("unix://")
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket_path), base_url="http://e", timeout=60) as client:
            for name in names:
                answer = client.post("/v1.40/networks/create", json={"Name": name})
                assert answer.is_success, answer.text
            yield
            for name in names:
                assert client.delete(f"/v1.40/networks/{name}").is_success


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A Docker daemon of its own, without iptables and bridge: its containers use the host's network."""
    with _folder("dockerd") as folder:
        options = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]
        places = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
        with _serving(["dockerd", *options, *places, f"--host=unix://{folder}/s"], folder) as engine:
            yield engine


@pytest.fixture(scope="session")
def podman_engine() -> Iterator[Engine]:
    """podman's service with storage of its own."""
    with _folder("podman") as folder:
        runtime = ["--runtime", "runc"] if shutil.which("runc") else []
        places = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
        with _serving(
            ["podman", *runtime, *places, "system", "service", "--time=0", f"unix://{folder}/s"], folder
        ) as one:
            yield one


@contextmanager
def _folder(program: str) -> Iterator[Path]:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here; Debian has it in package {'docker.io' if program == 'dockerd' else program}")
    if os.geteuid() != 0:
        pytest.skip(f"only root can run a {program} of its own")
    # The path of a socket may have 108 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="fb"))
    yield folder
    for line in Path("/proc/mounts").read_text().splitlines():
        if line.split()[1].startswith(f"{folder}/"):
            # An engine leaves the network's namespace mounted when it ends.
            subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _serving(command: list[str], folder: Path) -> Iterator[Engine]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=f"{folder}/s"), base_url="http://e", timeout=60) as client:
            _wait(process, client, folder)
            _import(client)
        yield Engine(f"unix://{folder}/s")
    finally:
        process.terminate()
        process.wait(STOP_S)


def _wait(process: subprocess.Popen[bytes], client: httpx.Client, folder: Path) -> None:
    for _ in range(READY_ATTEMPTS):
        if process.poll() is not None:
            break
        if _listens(folder / "s") and client.get("/version").is_success:
            return
        Event().wait(READY_INTERVAL_S)
    pytest.skip(f"no container engine can run here: {(folder / 'log').read_text()[-500:]}")


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one, suppress(OSError):
        one.connect(str(path))
        return True
    return False


def _import(client: httpx.Client) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("proc", "sys", "dev", "tmp", "run"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
    repo, _, tag = IMAGE.rpartition(":")
    query: Mapping[str, str] = {"fromSrc": "-", "repo": repo, "tag": tag}
    answer = client.post("/v1.40/images/create", params=query, content=content.getvalue())
    assert answer.is_success, answer.text
