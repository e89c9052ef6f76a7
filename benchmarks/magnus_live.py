"""Magnus on the real Triton: the batch that Forebay forms is the batch that the language model runs.

The whole live stack (predictor, scheduler, gateway) in front of one Triton with SmolLM2 in static batches, whose memory
holds four answers of which nothing is known; rows whose answer is complete go on until their batch is over. The same
requests of four applications come to vanilla batches (`vs`), to batches of similar predicted length (`glp`), of
adaptive size (`abp`), to Magnus, and to the same memory with in-flight batching, four at once. Each gets a round of
requests to learn lengths from, and then several that count, one after the other. Times are on a clock that stands still
while the engine's thread waits for a core that others hold, so that a shared machine tells the same.

Run: PYTHONPATH=services:clients/python python -m benchmarks.magnus_live [--quick] [--json FILE]   (needs: make triton)
"""

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx
import numpy as np

from benchmarks.common import Cell, Report, options
from benchmarks.live import CoreClock, real
from forebay.cli.loaders import SAMPLES, Prompt, read_prompts
from forebay.cli.processes import is_free
from forebay.cli.stack import Stack
from forebay.cli.state import addresses_from
from forebay.cli.up import check_real

MODEL = "smollm2_static"
APPLICATIONS = ("classify", "rewrite", "summarise", "code")
CONTEXT_TOKENS, KV_TOKENS = 512, 2_048
SLOTS = 16
TOKENS_MAX = 128
RATE_PER_S = 4.0
ANSWER_S = 900.0
SETTLE_S = 2.0
"""Until the predictor has heard of the answers."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to batch: the scheduler's settings, and what the model is loaded with."""

    name: str
    scheduler: str
    parameters: Mapping[str, str] = field(default_factory=dict)


MAGNUS = "grouper_parameters = { wma_max = 2_000.0, memory_share = 0.7 }"
PADDED = {"padding": "true"}
ARMS = (
    Arm("vs", 'grouper = "vs"', PADDED),
    Arm("glp", 'grouper = "glp"', PADDED),
    Arm("abp", f'grouper = "abp"\n{MAGNUS}', PADDED),
    Arm("magnus", f'grouper = "magnus"\n{MAGNUS}', PADDED),
    Arm("ccb", 'puller = "ccb"', {"batching": "continuous", "slots": str(KV_TOKENS // CONTEXT_TOKENS)}),
)


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: when it was sent and answered, in seconds, and the tokens of its answer."""

    sent_s: float
    ended_s: float
    tokens: int


@click.command(help="Compare static batches and in-flight batching on a real language model.")
@click.option("--count", type=click.IntRange(8, 48), default=24, show_default=True, help="Requests of each round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds that count.")
@options
def main(count: int, rounds: int, quick: bool, json_path: str | None) -> None:
    check_real()
    report = Report("magnus_live", quick)
    arms = [arm for arm in ARMS if not quick or arm.name in ("vs", "magnus")]
    asked = requests(12 if quick else count, 1 if quick else rounds)
    told = {arm.name: [figures(answers) for answers in run(arm, asked)] for arm in arms}
    means = {name: _means(of_rounds) for name, of_rounds in told.items()}
    rows: list[list[Cell]] = [
        [name, *(_spread(told[name], key) for key in one), *(_change(one[key], means["vs"][key]) for key in CHANGES)]
        for name, one in means.items()
    ]
    columns = ["batches", "req/s", "tokens/s", "mean s", "p99 s", "makespan s", "throughput", "response time"]
    title = f"{len(asked) - 1} rounds of {len(asked[1])} requests at {RATE_PER_S:g} a second"
    report.table(f"{title}, {KV_TOKENS} tokens of cache: mean (least to most)", columns, rows)
    for name, one in means.items():
        report.figures |= {f"{name}_{figure}": value for figure, value in one.items()}
    report.close(json_path)


CHANGES = ("requests_per_s", "mean_s")


def _change(value: float, base: float) -> str:
    return f"{100 * (value / base - 1):+.0f} %"


def _means(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in rounds])) for name in rounds[0]}


def _spread(rounds: Sequence[Mapping[str, float]], name: str) -> str:
    values = [one[name] for one in rounds]
    return f"{np.mean(values):.3g} ({min(values):.3g}-{max(values):.3g})"


Round = Sequence[tuple[float, Prompt]]


def requests(count: int, rounds: int) -> list[Round]:
    """The same rounds for all: when each request comes, and what it asks. The first one is to learn from.

    No round has a prompt of the one before it, and the mix of applications is the same in all.
    """
    generator = random.Random(1)
    decks = [
        [one for one in read_prompts(SAMPLES / "prompts.jsonl") if one.application == name] for name in APPLICATIONS
    ]
    for deck in decks:
        generator.shuffle(deck)
    each = count // len(APPLICATIONS)
    return [
        _round([deck[(n * each + k) % len(deck)] for deck in decks for k in range(each)], generator)
        for n in range(rounds + 1)
    ]


def _round(prompts: list[Prompt], generator: random.Random) -> Round:
    generator.shuffle(prompts)
    at_s, found = 0.0, []
    for prompt in prompts:
        found.append((at_s, prompt))
        at_s += generator.expovariate(RATE_PER_S)
    return found


def figures(answers: Sequence[Answered]) -> dict[str, float]:
    """Requests and tokens a second from the first request to the last answer, and response times."""
    span_s = max(one.ended_s for one in answers) - min(one.sent_s for one in answers)
    times_s = [one.ended_s - one.sent_s for one in answers]
    return {
        "requests_per_s": round(len(answers) / span_s, 3),
        "tokens_per_s": round(sum(one.tokens for one in answers) / span_s, 1),
        "mean_s": round(float(np.mean(times_s)), 2),
        "p99_s": round(float(np.quantile(times_s, 0.99)), 2),
        "makespan_s": round(span_s, 1),
    }


def run(arm: Arm, asked: Sequence[Round]) -> list[list[Answered]]:
    """The rounds on a fresh Triton and a fresh stack; each begins when the one before has ended."""
    limits = {"slots": str(SLOTS), "context_tokens_per_slot": str(CONTEXT_TOKENS), "kv_tokens": str(KV_TOKENS)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with real(MODEL, folder, **{**limits, **arm.parameters}) as (address, pid):
            return asyncio.run(_drive(arm, address, CoreClock(pid), folder, asked))


async def _drive(
    arm: Arm, address: str, clock: CoreClock, folder: Path, asked: Sequence[Round]
) -> list[list[Answered]]:
    config = folder / "forebay.toml"
    config.write_text(_toml(arm, address, folder))
    async with Stack(folder, addresses_from(_free_base()), config, say=lambda _: None) as stack:
        await stack.wait_fleet()
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=stack.run.addresses.http_url, timeout=ANSWER_S, limits=limits, trust_env=False
        ) as http:
            await _one_round(http, asked[0])
            clock.start()
            rounds = [await _one_round(http, one) for one in asked[1:]]
            clock.stop()
            print(f"{arm.name}: {100 * clock.lost_share():.0f} % of the time the engine had no core", flush=True)
            return [_on_core(clock, one) for one in rounds]


async def _one_round(http: httpx.AsyncClient, asked: Round) -> list[Answered]:
    start_s = time.monotonic()
    answers = await asyncio.gather(*(_send(http, start_s, at_s, prompt) for at_s, prompt in asked))
    await asyncio.sleep(SETTLE_S)
    return answers


def _on_core(clock: CoreClock, answers: Sequence[Answered]) -> list[Answered]:
    """The same with times on the engine's own clock."""
    rows = [{"arrival_s": one.sent_s, "first_s": one.ended_s, "last_s": one.ended_s} for one in answers]
    told = zip(answers, clock.correct(rows), strict=True)
    return [Answered(row["arrival_s"], row["last_s"], one.tokens) for one, row in told]


async def _send(http: httpx.AsyncClient, start_s: float, at_s: float, prompt: Prompt) -> Answered:
    await asyncio.sleep(max(0.0, start_s + at_s - time.monotonic()))
    sent_s = time.monotonic()
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt.text}],
        "max_tokens": TOKENS_MAX,
        "temperature": 0,
    }
    answer = await http.post("/v1/chat/completions", json=body, headers={"x-forebay-application": prompt.application})
    answer.raise_for_status()
    return Answered(sent_s, time.monotonic(), int(answer.json()["usage"]["completion_tokens"]))


def _toml(arm: Arm, address: str, folder: Path) -> str:
    return f"""
[scheduler]
hold_timeout_interactive_normal_s = {ANSWER_S}
{arm.scheduler}

[gateway]
first_token_timeout_s = {ANSWER_S}
inter_token_timeout_s = {ANSWER_S}

[autoscaler]
state_dir = {json.dumps(str(folder / "instances"))}

[[autoscaler.servers]]
server_id = "triton"
grpc_address = {json.dumps(address)}
"""


def _free_base() -> int:
    """A base of ports that nobody listens on."""
    for base in range(21_000, 31_000, 500):
        addresses = addresses_from(base)
        if all(map(is_free, [addresses.http, *addresses.grpc.values(), *addresses.prometheus.values()])):
            return base
    raise click.ClickException("no range of free ports found")


if __name__ == "__main__":
    main()
