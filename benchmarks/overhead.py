"""What management costs a request, in percent of its latency: through all of Forebay, beside a direct client, same run.

A whole stack on this machine (`forebay up`: gateway, scheduler, predictor with the shipped model, autoscaler, metrics)
in front of one emulated instance with the timing of Llama-2-7B on an A40. Each prompt is sent twice, directly to the
instance and through the gateway's KServe protocol, in an order that is drawn, and alone: beside others an answer takes
as long as what it shares its iterations with, which differs by more than what is looked for. The overhead is the mean
of the differences, with a 95 % interval over prompts; the latency is that of direct requests. Since all that management
adds comes before the first token, many more prompts with answers of a few tokens say more exactly how much it is.

PreServe's figure for its own is 0.23 % of a mean latency of about 21 s (arXiv 2504.03702 v2). Bar: 0.1 %.
Run: PYTHONPATH=services:clients/python python -m benchmarks.overhead [--quick] [--json FILE]
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import uvloop

from benchmarks import common
from benchmarks.live import ROOT, WORDS, Ask, Recorder
from forebay.cli.state import Addresses, read_run
from forebay.cli.view import look

MODEL, PROFILE = "llama", "A40/Llama-2-7B/tp1"
ANSWER_TOKENS_MEAN = 285
"""As in PreServe's chats (section 6 of its summary)."""
SHORT_TOKENS = 2
READY_S = 120.0
PORT_BASE = 27_000


def asks(count: int, seed: int = 1) -> list[Ask]:
    """Prompts of some dozen words with answers of about lognormal length."""
    chance = random.Random(seed)
    prompts = [" ".join(chance.choices(WORDS, k=chance.randint(10, 200))) + f" {number}" for number in range(count)]
    return [Ask(one, max(16, round(chance.lognormvariate(np.log(ANSWER_TOKENS_MEAN) - 0.3, 0.75)))) for one in prompts]


@contextlib.contextmanager
def stack(folder: Path, sent: Sequence[Ask]) -> Iterator[Addresses]:
    """A stack with one instance that answers these prompts at their lengths."""
    answers = folder / "answers.jsonl"
    rows = [json.dumps({"prompt": one.prompt, "output_tokens": one.output_tokens}) for one in sent]
    answers.write_text("\n".join(rows) + "\n")
    options = ["--emulated", "1", "--models", f"{MODEL}={PROFILE}", "--answers", str(answers)]
    command = [sys.executable, "-m", "forebay.cli", "up", *options, "--port-base", str(PORT_BASE)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients' / 'python'}"}
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen([*command, "--state-dir", str(folder)], env=environment, stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + READY_S
        while (run := read_run(folder)) is None or not run.ready:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"the stack did not come up:\n{(folder / 'up.log').read_text()}")
            time.sleep(0.2)
        yield run.addresses
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


async def measure(addresses: Addresses, sent: Sequence[Ask]) -> tuple[np.ndarray, np.ndarray]:
    """Time to the first token and whole latency of each prompt, in seconds: [prompt, direct or managed]."""
    (instance,) = (await look(addresses)).all_instances()
    chance = random.Random(2)
    first_s, whole_s = np.zeros((len(sent), 2)), np.zeros((len(sent), 2))
    async with (
        Recorder(instance.grpc_address, MODEL) as direct,
        Recorder(addresses.grpc["gateway"], MODEL) as managed,
    ):
        ways = (direct, managed)
        for recorder in ways:
            await recorder.send(sent[0])

        for place, ask in enumerate(sent):
            for way in chance.sample((0, 1), 2):
                row = await ways[way].send(ask)
                first_s[place, way] = row["first_s"] - row["arrival_s"]
                whole_s[place, way] = row["last_s"] - row["arrival_s"]
    return first_s, whole_s


def row(name: str, seconds: np.ndarray) -> list[common.Cell]:
    """Direct and managed means, the difference with its interval, and its share."""
    more = seconds[:, 1] - seconds[:, 0]
    half = 1.96 * more.std(ddof=1) / np.sqrt(len(more))
    mean_s = seconds[:, 0].mean()
    return [name, mean_s, seconds[:, 1].mean(), 1e3 * more.mean(), 1e3 * half, 100 * more.mean() / mean_s]


@click.command()
@common.options
def main(quick: bool, json_path: str | None) -> None:
    """Measures what management adds to a request."""
    report = common.Report("overhead", quick)
    sent, more = asks(3 if quick else 16), asks(20 if quick else 200, seed=3)
    short = [replace(one, output_tokens=SHORT_TOKENS) for one in more]
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder), [*sent, *short]) as addresses:
        first_s, whole_s = uvloop.run(measure(addresses, sent))
        short_s, _ = uvloop.run(measure(addresses, short))
    rows = [
        row("first token", first_s),
        row("whole answer", whole_s),
        row(f"first token of {len(short)} short", short_s),
    ]
    columns = ("of", "direct s", "managed s", "more ms", "±", "%")
    report.table(f"{len(sent)} prompts both ways, one at a time, {PROFILE}", columns, rows)
    report.figures["overhead_ms"], report.figures["overhead_percent"] = float(rows[1][3]), float(rows[1][5])
    report.figures["overhead_first_ms"] = float(rows[2][3])
    report.figures["overhead_first_percent"] = 0.1 * float(rows[2][3]) / float(rows[1][1])
    report.close(json_path)


if __name__ == "__main__":
    main()
