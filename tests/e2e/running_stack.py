"""A stack as a user starts it: `forebay up` as a process, on free ports, with helpers to load it and to break it."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forebay.cli.client import GatewayClient
from forebay.cli.loaders import Prompt
from forebay.cli.plan import Dealer
from forebay.cli.processes import is_free, marked
from forebay.cli.replay import Replay
from forebay.cli.state import Addresses, Run, addresses_from, read_run

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
MODEL = "llama-8b"
SHORT = [Prompt(f"A short question, number {number}", "chat", 20) for number in range(50)]
LONG = Prompt("A question with a long answer", "chat", 1_000)
"""About ten seconds on the emulated A100."""


def free_port_base() -> int:
    """A base whose ports, those of a few instances included, are free now."""
    generator = random.Random(os.getpid() * 1_000_003 + time.monotonic_ns())
    for _ in range(100):
        base = generator.randrange(20_000, 31_000, 500)
        addresses = addresses_from(base)
        wanted = [addresses.http, *addresses.grpc.values(), *addresses.prometheus.values()]
        wanted += [f"127.0.0.1:{base + 300 + offset}" for offset in range(12)]
        if all(is_free(address) for address in wanted):
            return base
    raise RuntimeError("no range of free ports found")


def environment() -> dict[str, str]:
    """The environment for our processes: the sources of this checkout, no settings of the caller's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    return {**kept, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients' / 'python'}"}


@dataclass
class RunningStack:
    """One `forebay up`."""

    process: subprocess.Popen[bytes]
    state_dir: Path

    @property
    def run(self) -> Run:
        """What run.json says now."""
        run = read_run(self.state_dir)
        assert run is not None, "the stack has ended"
        return run

    @property
    def addresses(self) -> Addresses:
        """Where it answers."""
        return self.run.addresses

    def cli(self, *arguments: str, status: int = 0) -> str:
        """Runs a command against it and returns its output; its exit status must be `status`."""
        done = subprocess.run(
            [sys.executable, "-m", "forebay.cli", *arguments, "--state-dir", str(self.state_dir)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def kill(self, name: str) -> int:
        """Kills a service and returns its process id."""
        pid = self.run.pids[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    async def outage(self, name: str, times: int) -> None:
        """Keeps a service down for a while: kills it again as soon as it is restarted.

        Three times make about two seconds, four about four: what the supervisor's back-off adds up to.
        """
        for _ in range(times):
            old = self.kill(name)
            await reached(lambda old=old: self.run.pids.get(name, old) != old, 20, f"{name} is restarted")  # type: ignore[misc]

    def emulators(self) -> dict[int, str]:
        """The emulated instances: process ids with their command lines."""
        found = {}
        for pid in marked(self.run.run_id):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "forebay.emulator" in line:
                found[pid] = line
        return found

    def stop(self) -> None:
        """Ctrl-C, and waits."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_TIMEOUT_S)


def start(state_dir: Path, *options: str, prompts: Sequence[Prompt] = (*SHORT, LONG)) -> RunningStack:
    """Starts a stack with one model and waits until it is ready; fails with its output otherwise."""
    answers = state_dir / "answers.jsonl"
    lines = [json.dumps({"prompt": one.text, "output_tokens": one.output_tokens}) + "\n" for one in prompts]
    answers.write_text("".join(lines))
    options = options or ("--emulated", "2", "--models", MODEL)
    # A configuration says itself where its answers are.
    options = options if "--config" in options else (*options, "--answers", str(answers))
    command = [sys.executable, "-m", "forebay.cli", "up", "--port-base", str(free_port_base()), *options]
    output = state_dir / "up.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--state-dir", str(state_dir)],
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    stack = RunningStack(process, state_dir)
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        run = read_run(state_dir)
        if run is not None and run.ready:
            return stack
        time.sleep(0.1)
    stack.stop()
    raise AssertionError(f"the stack did not come up:\n{output.read_text()}")


async def reached(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Waits until the condition holds; fails saying `what` did not happen."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:.0f} s: {what}"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def load(stack: RunningStack, clients: int = 4, prompts: Sequence[Prompt] = SHORT) -> AsyncIterator[Replay]:
    """Keeps requests in flight while the block runs; afterwards the last of them are answered."""
    async with GatewayClient(stack.addresses.http_url, 60.0) as client:
        replay = Replay(client, Dealer(prompts, [MODEL], ["interactive-normal"], 1_024, seed=1))
        until = [float("inf")]
        running = asyncio.create_task(_closed_loop(replay, client, clients, until))
        try:
            yield replay
            until[0] = 0.0
            await running
        finally:
            until[0] = 0.0
            replay.stop()
            await asyncio.gather(running, return_exceptions=True)


async def _closed_loop(replay: Replay, client: GatewayClient, clients: int, until: list[float]) -> None:
    """Rounds of a closed loop, so that the end of the load is seen soon."""
    while client.elapsed_s() < until[0]:
        await replay.closed_loop(clients, duration_s=0.5, limit=None)
