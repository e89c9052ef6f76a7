"""Our predictor as a process registers itself at a real planner of Dynamo and forecasts in its pipeline."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from tests.integration.real_triton import free_ports

ROOT = Path(__file__).resolve().parents[2]
DYNAMO = Path(os.getenv("FOREBAY_DYNAMO_DIR", str(ROOT / ".tools" / "dynamo")))
WAIT_S = 90.0
TICKS = [[40 + 5 * (number % 2), 300.0, 60.0] for number in range(30)]


async def test_dynamos_pipeline_takes_our_forecast_from_registration_to_leaving(tmp_path: Path) -> None:
    if not (DYNAMO / "dynamo").is_dir():
        pytest.skip(f"no planner of Dynamo in {DYNAMO}; `compose/tools.sh dynamo` installs it")
    planner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.dynamo_planner", "a shared secret", json.dumps(TICKS)),
        env={**os.environ, "PYTHONPATH": f"{DYNAMO}:{ROOT}"},
        cwd=ROOT,
        stdout=PIPE,
    )
    predictor: Process | None = None
    try:
        gateway = (await line(planner))["gateway"]
        predictor = await start_predictor(tmp_path, gateway)
        assert await line(planner) == {"plugins": ["ours"]}
        told = [(await line(planner))["predicted"] for _ in TICKS]
        predictor.terminate()
        assert await line(planner) == {"plugins": []}, "a predictor that stops takes its entry out"
        assert await asyncio.wait_for(planner.wait(), WAIT_S) == 0
    finally:
        for process in (planner, predictor):
            if process is not None and process.returncode is None:
                process.kill()
            if process is not None:
                await process.wait()
    last = told[-1]
    assert 30 < last["predicted_num_req"] < 60
    assert last["predicted_isl"] == pytest.approx(300, rel=0.1)
    assert last["predicted_osl"] == pytest.approx(60, rel=0.1)
    assert last["source"].startswith("forebay:")
    assert last["predicted_kv_hit_rate"] is None, "of what we do not forecast we have no opinion"


async def start_predictor(folder: Path, gateway: str) -> Process:
    """A predictor that makes itself known at the gateway."""
    port = free_ports(1)[0]
    (folder / "secret").write_text("a shared secret\n")
    settings = [
        '[predictor]\nprovider = "cpu"\nlength = "histogram"\nforecaster = "seasonal"',
        f'[predictor.dynamo]\nregistry = "{gateway}"\nendpoint = "grpc://127.0.0.1:{port}"\nplugin_id = "ours"',
        f'token_file = "{folder}/secret"\nheartbeat_s = 0.2\n',
    ]
    (folder / "forebay.toml").write_text("\n".join(settings))
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}/services:{ROOT}/clients/python",
        "FOREBAY_LISTEN": f"127.0.0.1:{port}",
        "FOREBAY_PROMETHEUS": "",
        "FOREBAY_DATABASE_URL": f"sqlite:///{folder}/forebay.db",
    }
    command = [sys.executable, "-m", "forebay.predictor", "--config", str(folder / "forebay.toml")]
    with (folder / "log").open("wb") as log:
        return await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)


async def line(process: Process) -> Any:
    """The next line of a process, as JSON."""
    assert process.stdout is not None
    return json.loads(await asyncio.wait_for(process.stdout.readline(), WAIT_S))
