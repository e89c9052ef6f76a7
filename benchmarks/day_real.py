"""A compressed day on real Tritons: two language models that the autoscaler loads and unloads on running servers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks import live
from benchmarks.day import Model, Setup, Source
from forebay.core.instance import EngineFlags, EngineProfile
from forebay.core.promises import Promise
from forebay.simulator.calibration.constants import FRONTEND, blank, known, table
from forebay.simulator.calibration.fit import fit
from forebay.simulator.calibration.runs import Run, make_run
from forebay.simulator.config import EngineConfig
from forebay.simulator.profiles import save

SERVERS = ("triton-1", "triton-2")
SLOTS, SHORT_SLOTS, BATCH_TOKENS, SLOT_TOKENS = 4, 2, 256, 2_048
"""Of compose/triton/models/smollm2 and smollm2_short; what an instance reads of a prompt at once."""
WORDS, TOKENS = (2, 24), (8, 32)
"""Of the prompts and answers that engines are measured with."""
LEVELS = ((1, 8), (2, 8), (SLOTS, 12))
"""Clients at once, and how many requests they send together."""
MORNING = Source("servegen_m-large_rates_day01-10.parquet", 24.14e6, 4.0)
NIGHT = Source("servegen_deepseek-r1_rates.parquet", 1.391e6, 10.0)


def measure(folder: Path) -> Path:
    """What an iteration of the engine takes on this machine now, from closed loops on one model alone, as a file."""
    with live.real("smollm2", folder) as (address, _):
        rows = live.record(address, "smollm2", _loops)
    path = folder / "smollm2.json"
    save(path, _fitted(make_run("closed loops", rows)), {})
    return path


async def _loops(recorder: live.Recorder) -> None:
    for clients, count in LEVELS:
        asks = live.make_asks(count, WORDS, TOKENS, seed=clients)
        await recorder.closed_loop(asks, clients, f"{clients}")


def _fitted(run: Run) -> EngineProfile:
    start = blank(SLOTS, BATCH_TOKENS, SLOTS * SLOT_TOKENS)
    return fit(start, [run], [*table(start), known(start)[FRONTEND]], EngineFlags()).profile


def setup_of(profile: Path, tritons: list[live.Triton]) -> Setup:
    """The two models on the servers; each may be on both. Rates are what one instance is planned to serve: under a
    third of what it can, since two cores carry everything."""
    servers = tuple(
        {"server_id": name, "grpc_address": one.address, "metrics_url": one.metrics_url, "models_max": 2}
        for name, one in zip(SERVERS, tritons, strict=False)
    )
    talkative = Model(
        name="smollm2",
        profile=str(profile),
        per_s=0.5,
        source=MORNING,
        rates={"prompt_tokens_per_s": 30.0, "response_tokens_per_s": 16.0, "tokens_per_s": 46.0},
        concurrency_target=0.8,
        instances_max=len(SERVERS),
        seats=SLOTS,
        prompt_max=16,
        output_max=32,
        launch={"launcher": "repository", "servers": list(SERVERS), "profile": ""},
    )
    brief = Model(
        name="smollm2_short",
        profile=str(profile),
        per_s=0.35,
        source=NIGHT,
        rates={"prompt_tokens_per_s": 25.0, "response_tokens_per_s": 11.0, "tokens_per_s": 36.0},
        concurrency_target=0.6,
        instances_max=len(SERVERS),
        seats=SHORT_SLOTS,
        prompt_max=16,
        output_max=24,
        launch=talkative.launch,
    )
    engine = EngineConfig(max_seqs=SLOTS, max_batch_tokens=BATCH_TOKENS, block_size=1)
    return Setup("real Tritons", (talkative, brief), engine, Promise(ttft_s=4.0, tpot_ms=200.0), 3.0, servers)


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[list[live.Triton]]:
    """The Tritons, answering, with no model loaded."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(live.triton(folder, name=name)) for name in SERVERS]
        for one in started:
            live.wait_serving(one)
        yield started
