"""A browser's way in: gRPC-Web through a real Envoy with the configuration that ships, called from Node over fetch."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.integration import envoy
from tests.integration.gateway_plant import MODEL, planted

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients/typescript"
SCRIPT = Path(__file__).with_name("grpc_web.mjs")
CONFIG = ROOT / "compose/envoy/grpc_web.yaml"
MOVED = {
    "listener": "{address: 127.0.0.1, port_value: 8081}",
    "admin": "{address: 127.0.0.1, port_value: 9902}",
}


async def test_a_page_places_watches_and_reads_errors(tmp_path: Path) -> None:
    envoy.find_envoy()
    node, is_built = shutil.which("node"), (CLIENT / "dist").exists()
    if node is None or not is_built or not (CLIENT / "node_modules/@connectrpc/connect-web").exists():
        pytest.skip("Node or the built TypeScript client is missing; run clients/typescript/build.sh")
    async with planted(tmp_path) as plant:
        host, _, port = plant.scheduler_address.rpartition(":")
        changes = {"{address: scheduler, port_value: 7101}": f"{{address: {host}, port_value: {port}}}"}
        # The other services do not run here; their names must not be looked up.
        for name, number in (("predictor", 7102), ("autoscaler", 7103), ("metrics", 7104), ("gateway", 7081)):
            changes[f"{{address: {name}, port_value: {number}}}"] = "{address: 127.0.0.1, port_value: 1}"
        with envoy.running(tmp_path, changes, CONFIG, **MOVED) as url:
            told = json.loads(await said(node, url))
    assert told["instance"] in told["instances"] == [f"s0/{MODEL}", f"s1/{MODEL}"]
    assert told["error"] == "InvalidArgument"


async def said(node: str, url: str) -> str:
    process = await asyncio.create_subprocess_exec(
        node, str(SCRIPT), str(CLIENT), url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()
