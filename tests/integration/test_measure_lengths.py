"""`forebay train measure-lengths` as a process: with a small OpenAI server, the gateway, and endpoints that are bad."""

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from forebay.cli.loaders import SAMPLES
from forebay.train.tables import read_tables
from tests.integration.emulated_triton import ROOT
from tests.integration.gateway_plant import MODEL, planted

WAIT_S = 60
CAP = 20


class Server(ThreadingHTTPServer):
    """Answers with as many tokens as the prompt says; `held` keeps all answers back while it is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.free = threading.Event()
        self.free.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    """Speaks just enough of the API."""

    server: Server

    def do_GET(self) -> None:
        self._send({"data": [{"id": "llama"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        self.server.free.wait(WAIT_S)
        wanted = int(body["messages"][-1]["content"].split()[-1])
        usage = {"prompt_tokens": 3, "completion_tokens": min(wanted, body["max_tokens"])}
        finish = "length" if wanted > body["max_tokens"] else "stop"
        self._send({"choices": [{"finish_reason": finish}], "usage": usage})

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""

    def _send(self, value: object) -> None:
        content = json.dumps(value).encode()
        try:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            """The client was killed."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield one
        one.free.set()
        one.shutdown()
        thread.join()


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    lines = ({"prompt": f"Say so many words: {number}", "application": "count"} for number in range(1, 41))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def start(*arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients' / 'python'}"}
    command = [sys.executable, "-m", "forebay.cli", "train", "measure-lengths", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )


def run(*arguments: object, status: int = 0) -> str:
    process = start(*arguments)
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == status, output
    return " ".join(output.split())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_answers_are_written_as_long_as_they_are_and_cut_ones_marked(
    server: Server, prompts: Path, tmp_path: Path
) -> None:
    output = tmp_path / "lengths.csv"
    common = ("--url", server.url, "--model", "llama", "--output", output, "--prompts", prompts, "--max-tokens", CAP)
    told = run(*common, "--temperatures", "0,0.7", "--samples", 2, "--licence", "MIT", "--system", "Be brief.")
    assert "120 answers in all, 0 of them are in" in told
    rows = rows_of(output)
    assert len(rows) == 120
    for row in rows:
        wanted = int(row["prompt"].split()[-1])
        assert int(row["response_tokens"]) == min(wanted, CAP)
        assert (row["censored"] == "true") == (wanted > CAP)
        assert (row["source"], row["licence"], row["application"]) == ("mine", "MIT", "count")
    assert len({tuple(row[name] for name in ("prompt_id", "temperature", "sample")) for row in rows}) == 120
    assert {body["messages"][0]["content"] for body in server.asked} == {"Be brief."}
    assert read_tables([output]).examples.complete.sum() == 60


def test_a_killed_run_loses_only_what_was_in_flight_and_goes_on(server: Server, prompts: Path, tmp_path: Path) -> None:
    output = tmp_path / "lengths.csv"
    arguments = ("--url", server.url, "--model", "llama", "--output", output, "--prompts", prompts, "--in-flight", 4)
    run(*arguments, "--limit", 7)
    assert len(rows_of(output)) == 7
    server.free.clear()
    first = len(server.asked)
    process = start(*arguments)
    until_s = time.monotonic() + WAIT_S
    while len(server.asked) < first + 4 and time.monotonic() < until_s:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=WAIT_S)
    server.free.set()
    with output.open("a") as torn:
        torn.write("half,a,li")
    assert "120 answers in all, 7 of them are in" in run(*arguments)
    assert len(server.asked) == 7 + 4 + 113
    rows = rows_of(output)
    assert len(rows) == len({(row["prompt_id"], row["temperature"]) for row in rows}) == 120


def test_answers_cut_elsewhere_never_mix(server: Server, prompts: Path, tmp_path: Path) -> None:
    arguments = ("--url", server.url, "--model", "llama", "--output", tmp_path / "a.csv", "--prompts", prompts)
    run(*arguments, "--limit", 3, "--max-tokens", 50)
    assert "--max-tokens 50; give the same" in run(*arguments, "--max-tokens", 60, status=2)


def test_prompts_that_are_not_there_are_named(server: Server, tmp_path: Path) -> None:
    output = tmp_path / "lengths.csv"
    told = run("--url", server.url, "--model", "gpt", "--output", output, "--data", tmp_path, status=2)
    assert "translation_gpt_mt.prompts.parquet is not in" in told
    told = run("--url", server.url, "--model", "gpt", "--output", output, "--prompts", tmp_path / "none", status=2)
    assert "does not exist" in told


def test_a_bad_endpoint_is_a_clear_error(server: Server, prompts: Path, tmp_path: Path) -> None:
    common = ("--output", tmp_path / "a.csv", "--prompts", prompts)
    assert "it serves llama" in run("--url", server.url, "--model", "gpt", *common, status=2)
    told = run("--url", "http://127.0.0.1:1/v1", "--model", "llama", *common, status=1)
    assert "http://127.0.0.1:1/v1 does not answer" in told
    assert "Traceback" not in told
    told = run("--url", server.url, "--model", "llama", "--key-env", "NO_SUCH_KEY", *common, status=2)
    assert "NO_SUCH_KEY" in told
    told = run("--url", server.url, "--model", "llama", "--temperatures", "0,hot", *common, status=2)
    assert "numbers from 0 to 2" in told


async def test_the_gateway_is_such_an_endpoint(tmp_path: Path) -> None:
    output = tmp_path / "lengths.csv"
    async with planted(tmp_path, emulator_count=1) as plant:
        where = ("--url", f"{plant.http_url}/v1", "--model", MODEL, "--output", output)
        what = ("--prompts", SAMPLES / "prompts.jsonl", "--no-text", "--limit", 12)
        await asyncio.to_thread(run, *where, *what)
    rows = rows_of(output)
    assert len(rows) == 12
    assert "prompt" not in rows[0]
    assert all(int(row["response_tokens"]) > 0 and int(row["prompt_tokens"]) > 0 for row in rows)
