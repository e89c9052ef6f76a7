"""A real Prometheus that scrapes a stack, with our rules, and its API."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; `make dev` installs it")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "compose" / "observability" / "prometheus"
START_TIMEOUT_S = 60.0


def found(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here; install it with: compose/tools.sh prometheus")
    return path


def configuration(targets: Mapping[str, str]) -> str:
    """The configuration of the compose stack, with these addresses by job in place of container names."""
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(FOLDER / "rules" / "*.yml")]
    jobs = [one["job_name"] for one in settings["scrape_configs"]]
    settings["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [targets[job]]}]} for job in jobs if job in targets
    ]
    return str(yaml.safe_dump(settings))


class Prometheus:
    """Its API; every error of it fails the test with its own words."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=f"{url}/api/v1", trust_env=False, timeout=30.0)

    async def get(self, path: str, **parameters: str) -> Any:
        """The data of one answer."""
        answer = (await self._client.get(path, params=parameters)).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """The series that a query gives now."""
        return list((await self.get("/query", query=query))["result"])

    async def is_ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(httpx.TransportError):
            return (await self._client.get("/status/runtimeinfo")).is_success
        return False

    async def close(self) -> None:
        """Ends its connections."""
        await self._client.aclose()


def _launch(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"})


@contextlib.asynccontextmanager
async def running(program: str, folder: Path, targets: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """One that scrapes `targets`, addresses by job, every second while the block runs."""
    (folder / "prometheus.yml").write_text(configuration(targets))
    with socket.create_server(("127.0.0.1", 0)) as one:
        address = f"127.0.0.1:{one.getsockname()[1]}"
    command = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    with (folder / "prometheus.log").open("wb") as log:
        process = _launch(command, log)
    client = Prometheus(f"http://{address}")
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await client.is_ready():
                assert process.poll() is None, (folder / "prometheus.log").read_text()
                await asyncio.sleep(0.1)
        yield client
    finally:
        await client.close()
        process.terminate()
        process.wait(30)
