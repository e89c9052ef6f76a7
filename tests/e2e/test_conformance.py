"""The services of a live stack keep the contract, and so does a predictor in TypeScript in the place of ours."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.running_stack import MODEL, RunningStack, environment, free_port_base, start
from tests.e2e.test_client_scenario import CLIENTS, build

PREDICTOR = CLIENTS / "typescript" / "dist" / "examples" / "predictor" / "predictor.js"
TIMEOUT_S = 180
PREDICTED_BY = "newest_lengths@1"


def conformance(service: str, address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forebay.cli", "conformance", service, "--target", address, "--timeout", "60"]
    return subprocess.run(
        [*command, "--json"], env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def check_conforms(service: str, address: str) -> None:
    done = conformance(service, address)
    assert done.stdout, done.stderr
    results = json.loads(done.stdout)
    assert [one for one in results if one["verdict"] == "failed"] == []
    assert done.returncode == 0
    assert len(results) > 40


def settings(stack: RunningStack) -> object:
    fleet = json.loads(stack.cli("fleet", "--json"))
    return fleet["mode"], fleet["policy"], [(one["model"], one["bounds"]) for one in fleet["models"]]


@contextmanager
def own_predictor(address: str, metrics: str, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(["node", PREDICTOR, address, metrics], stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("service", ["predictor", "scheduler", "metrics"])
def test_our_services_keep_the_contract(service: str, stack: RunningStack) -> None:
    check_conforms(service, stack.addresses.grpc[service])


def test_our_autoscaler_keeps_the_contract_and_the_fleet_stays_as_it_was(stack: RunningStack) -> None:
    before = settings(stack)
    check_conforms("autoscaler", stack.addresses.grpc["autoscaler"])
    assert settings(stack) == before


def test_a_predictor_in_typescript_takes_the_place_of_ours(tmp_path: Path) -> None:
    build("typescript")
    base = free_port_base()
    address, metrics = f"127.0.0.1:{base + 399}", f"127.0.0.1:{base + 104}"
    options = ("--emulated", "1", "--models", MODEL, "--predictor", address, "--port-base", str(base))
    with own_predictor(address, metrics, tmp_path / "predictor.log"):
        stack = start(tmp_path, *options)
        try:
            assert "predictor" not in stack.run.pids
            check_conforms("predictor", address)
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
            answer = httpx.post(f"{stack.addresses.http_url}/v1/chat/completions", json=body, timeout=60)
            assert answer.status_code == 200
            explained = stack.cli("explain", answer.headers["x-forebay-decision-id"])
            assert PREDICTED_BY in explained
            assert PREDICTED_BY in stack.cli("status")
        finally:
            stack.stop()
