"""Servers to measure, emulated or real, and a client that records a row a request as `forebay calibrate` reads them."""

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from tritonclient.grpc import service_pb2, service_pb2_grpc

ROOT = Path(__file__).resolve().parents[1]
READY_S, STOP_S, ANSWER_S = 120.0, 40.0, 300.0
WORDS = "river stone wheel garden letter window market engine candle forest harbour signal winter ladder".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to send: its prompt, how many tokens to ask for, when (open loop), and by whom (closed loop)."""

    prompt: str
    output_tokens: int
    at_s: float = 0.0
    client: str = ""


class Recorder:
    """Sends requests to one model of a Triton and keeps their times, by this process's clock."""

    def __init__(self, address: str, model: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._model = model
        self.rows: list[dict[str, Any]] = []

    async def __aenter__(self) -> "Recorder":
        await self._channel.channel_ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def send(self, ask: Ask) -> dict[str, Any]:
        """One request, to its last token, and its row; raises RuntimeError where the model refuses."""
        request = _request(self._model, ask)
        first_s = last_s = 0.0
        counts = {"num_input_tokens": 0, "num_output_tokens": 0}
        arrival_s = time.monotonic()
        async for message in self._stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S):
            if message.error_message:
                raise RuntimeError(message.error_message)
            last_s = time.monotonic()
            _count(message.infer_response, counts)
            if counts["num_output_tokens"] and not first_s:
                first_s = last_s
            if message.infer_response.parameters["triton_final_response"].bool_param:
                break
        row: dict[str, Any] = {"arrival_s": arrival_s, "first_s": first_s, "last_s": last_s, "hit_tokens": 0}
        row |= {"prompt_tokens": counts["num_input_tokens"], "output_tokens": counts["num_output_tokens"]}
        if ask.client:
            row["client"] = ask.client
        self.rows.append(row)
        return row

    async def open_loop(self, asks: Sequence[Ask]) -> None:
        """Each request at its own time, whatever became of the others."""
        start_s = time.monotonic() + 0.1

        async def later(ask: Ask) -> None:
            await asyncio.sleep(start_s + ask.at_s - time.monotonic())
            await self.send(ask)

        await asyncio.gather(*map(later, asks))

    async def closed_loop(self, asks: Sequence[Ask], clients: int, name: str) -> None:
        """`clients` at once, each sending its next request when it has its answer."""
        waiting = list(reversed(asks))

        async def run(number: int) -> None:
            while waiting:
                ask = waiting.pop()
                await self.send(Ask(ask.prompt, ask.output_tokens, client=f"{name}.{number}"))

        await asyncio.gather(*map(run, range(clients)))


class CoreClock:
    """A clock that stands still while the busiest thread of a process tree waits for a core that others hold.

    It reads what Linux counts of that thread every 10 ms from `start` on (`/proc/PID/task/TID/schedstat`: nanoseconds
    on a core, nanoseconds runnable but waiting). On a quiet machine it is the wall clock.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = _threads(pid)
        self._samples: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._path = Path()

    def start(self) -> None:
        """Chooses the thread that has worked most since the clock was made, and watches it."""
        now = _threads(self._pid)
        self._path = max(now, key=lambda path: now[path][0] - self._before.get(path, (0.0, 0.0))[0])
        self._sampler.start()

    def stop(self) -> None:
        """Ends watching."""
        self._ended.set()
        self._sampler.join()

    def correct(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows with their times on this clock."""
        at_s, lost_s = zip(*self._samples, strict=True)
        names = ("arrival_s", "first_s", "last_s")
        return [
            {**row, **{name: row[name] - float(np.interp(row[name], at_s, lost_s)) for name in names}} for row in rows
        ]

    def lost_share(self) -> float:
        """Of the time that the thread wanted a core, the share in which it had none."""
        (start_s, lost_s), (end_s, lost_end_s) = self._samples[0], self._samples[-1]
        return (lost_end_s - lost_s) / (end_s - start_s)

    def _sample(self) -> None:
        while not self._ended.wait(0.01):
            self._samples.append((time.monotonic(), _schedstat(self._path)[1]))


def _threads(pid: int) -> dict[Path, tuple[float, float]]:
    """Seconds on a core and seconds waiting for one of each thread of a process and its descendants."""
    found, pids = {}, [pid]
    while pids:
        one = pids.pop()
        for task in Path(f"/proc/{one}/task").glob("*"):
            with contextlib.suppress(OSError):
                found[task / "schedstat"] = _schedstat(task / "schedstat")
                pids += map(int, (task / "children").read_text().split())
    return found


def _schedstat(path: Path) -> tuple[float, float]:
    on_core_ns, waiting_ns, _ = map(int, path.read_text().split())
    return on_core_ns / 1e9, waiting_ns / 1e9


def make_asks(
    count: int, prompt_words: tuple[int, int], output_tokens: tuple[int, int], seed: int, per_s: float = 0.0
) -> list[Ask]:
    """Requests of random lengths; no two prompts begin alike, so no prefix is found again. `per_s` spaces them."""
    generator = random.Random(seed)
    at_s, asks = 0.0, []
    for number in range(count):
        at_s += generator.expovariate(per_s) if per_s else 0.0
        text = " ".join(generator.choice(WORDS) for _ in range(generator.randint(*prompt_words)))
        asks.append(Ask(f"{seed}-{number} {text}", generator.randint(*output_tokens), at_s))
    return asks


@contextlib.contextmanager
def emulated(model: str, profile: str, asks: Sequence[Ask], folder: Path, *options: str) -> Iterator[str]:
    """An emulator of `profile` that knows the answers to `asks`; yields its gRPC address."""
    answers = folder / "answers.jsonl"
    lines = (
        {"prompt": ask.prompt, "input_tokens": len(ask.prompt.split()), "output_tokens": ask.output_tokens}
        for ask in asks
    )
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "forebay.emulator", f"--model={model}={profile}", f"--answers={answers}", *options]
    command += ["--grpc-port=0", "--http-port=0", "--metrics-port=0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "services")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["grpc"]
            wait_ready(f"127.0.0.1:{port}", model, process)
            yield f"127.0.0.1:{port}"
        finally:
            stop(process)


@contextlib.contextmanager
def real(model: str, folder: Path, **parameters: str) -> Iterator[tuple[str, int]]:
    """The real Triton with `model`, reloaded with other `parameters`; yields its gRPC address and its process id."""
    with triton(folder, f"--load-model={model}") as server:
        wait_ready(server.address, model, server.process, server.log)
        _reload(server.address, model, parameters)
        yield server.address, server.process.pid


@dataclass(frozen=True, slots=True)
class Triton:
    """A real Triton that was started here."""

    address: str
    metrics_url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextlib.contextmanager
def triton(folder: Path, *flags: str, name: str = "triton") -> Iterator[Triton]:
    """The real Triton, begun; nothing is loaded that `flags` do not name."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    command = [str(ROOT / "compose" / "triton" / "start.sh"), *flags]
    for kind, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        command += [f"--{kind}-port", str(port)]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield Triton(f"127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[2]}/metrics", process, log)
    finally:
        stop(process)


def wait_serving(server: Triton) -> None:
    """Returns once the server answers; raises RuntimeError where it ends or takes too long."""
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s and server.process.poll() is None:
        with grpc.insecure_channel(server.address) as channel, contextlib.suppress(grpc.RpcError):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            if stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=2).live:
                return
        time.sleep(0.2)
    raise RuntimeError(f"a Triton does not come up:\n{server.log.read_text()[-2_000:]}")


def wait_ready(address: str, model: str, process: subprocess.Popen[Any], log: Path | None = None) -> None:
    """Returns once the model takes requests; raises RuntimeError where the server ends or takes too long."""
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s and process.poll() is None:
        with grpc.insecure_channel(address) as channel, contextlib.suppress(grpc.RpcError):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            if stub.ModelReady(service_pb2.ModelReadyRequest(name=model), timeout=2).ready:
                return
        time.sleep(0.2)
    raise RuntimeError(f"{model} does not get ready" + (f":\n{log.read_text()[-2_000:]}" if log else ""))


def stop(process: subprocess.Popen[Any]) -> None:
    """SIGTERM, then SIGKILL for a server that does not go."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def record(address: str, model: str, load: Callable[[Recorder], Awaitable[None]]) -> list[dict[str, Any]]:
    """Runs a load against a server and gives its rows."""

    async def run() -> list[dict[str, Any]]:
        async with Recorder(address, model) as recorder:
            await load(recorder)
            return recorder.rows

    return asyncio.run(run())


def _reload(address: str, model: str, parameters: dict[str, str]) -> None:
    if not parameters:
        return
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        config = stub.ModelConfig(service_pb2.ModelConfigRequest(name=model), timeout=READY_S).config
        for name, value in parameters.items():
            config.parameters[name].string_value = value
        load = service_pb2.RepositoryModelLoadRequest(model_name=model)
        load.parameters["config"].string_param = json_format.MessageToJson(config, preserving_proto_field_name=True)
        stub.RepositoryModelLoad(load, timeout=READY_S)


def _request(model: str, ask: Ask) -> Any:
    sampling = {"max_tokens": ask.output_tokens, "ignore_eos": True, "temperature": 0}
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, text in (("text_input", ask.prompt), ("sampling_parameters", json.dumps(sampling))):
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(text.encode()).to_bytes(4, "little") + text.encode())
    for name in ("stream", "return_num_input_tokens", "return_num_output_tokens"):
        request.inputs.add(name=name, datatype="BOOL", shape=[1])
        request.raw_input_contents.append(b"\1")
    return request


def _count(answer: Any, counts: dict[str, int]) -> None:
    for tensor, content in zip(answer.outputs, answer.raw_output_contents, strict=True):
        if tensor.name == "num_input_tokens":
            counts["num_input_tokens"] = int.from_bytes(content[:4], "little")
        elif tensor.name == "num_output_tokens":
            counts["num_output_tokens"] += int.from_bytes(content[:4], "little")
