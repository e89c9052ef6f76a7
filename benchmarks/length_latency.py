"""What a predicted length costs: every family in process, the fast one over gRPC, and how exact the ONNX files are.

Prompts are of about 100 tokens and of 8 kB, no two alike, so that nothing is answered from memory; reading the prompt
is part of each call. Sessions have one thread; beside the time by the clock stands that of the processor, which a
machine with other work spoils less. Families of which no model is there are measured with one of their shape that has
learnt nothing, or left out and named, as are those whose packages are missing. Where there is a CUDA device the trained
models are measured on it as well.

Bar: in process on one core, the fast model p99 <= 3 ms at batch 1, the semantic one p50 <= 40 ms at 100 tokens; ONNX
within 1e-4 of what was fitted, in logarithms of tokens.
Run: PYTHONPATH=services:clients/python python -m benchmarks.length_latency [--quick] [--json FILE] [--models FOLDER]
[--only NAME]
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnxruntime
import uvloop
from lmaas.predictor.v1 import predictor_service_pb2 as pb
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub, add_PredictorServiceServicer_to_server
from prometheus_client import CollectorRegistry

from benchmarks import common
from benchmarks.length_untrained import UNTRAINED, untrained
from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest
from forebay.predictor.build import build_engine, build_loader, opener
from forebay.predictor.build_forecasts import build_forecasts
from forebay.predictor.config import Config
from forebay.predictor.lengths.features import extract
from forebay.predictor.loop import MetricsHistory
from forebay.predictor.policy.length import LENGTH_PREDICTORS, TRAINED, LengthPredictor
from forebay.predictor.servicer import PredictorServicer
from forebay.predictor.sessions import CPU, choose_providers
from forebay.predictor.store_files import PACKAGED, FolderModelStore
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.convert import length_query_to_proto
from forebay.wire.main import calm_collector
from forebay.wire.server import Server

BATCH_COUNTS = (1, 8, 32)
CALLERS = (1, 16)
FAST = "onnx_quantile"
SHORT_WORDS, LONG_BYTES = 98, 8_000
OUTCOMES = 200
# Common words, each one token of most vocabularies.
TEXT = """
the of and to in is that for it as was with be by on not this are or from at which but have an had they you were
their one all we can has there been if more when will would who so no out up what time some could them other than
then now only over also after first new two may these our any such most where well should because each just those
people how too little state good very make world still see own work men day get here between both life being under
"""
WORDS = TEXT.split()

Batch = Sequence[InferenceRequest]
Call = Callable[[Batch], object]


def prompts(count: int, long: bool, seed: int = 5) -> list[InferenceRequest]:
    """So many prompts, no two alike; each seed gives others."""
    chance = np.random.default_rng(seed)
    found = []
    for number in range(count):
        text = " ".join(chance.choice(WORDS, LONG_BYTES // 4 if long else SHORT_WORDS).tolist())
        tokens = len(text) // 4 if long else SHORT_WORDS + 2
        found.append(InferenceRequest(f"q{number}", "m", tokens, prompt_head=text[:LONG_BYTES]))
    return found


# Cost in process


def families(models: Path, provider: str) -> Iterator[tuple[str, str, LengthPredictor]]:
    """Name, execution provider and predictor of each family that can answer here; says which cannot."""
    config = Config(provider=provider)
    if provider == "cpu":
        yield from ((name, "-", policy()) for name, policy in LENGTH_PREDICTORS.items() if name not in TRAINED)
    store = FolderModelStore(models, PACKAGED)
    newest = {model.name: model for model in store.list()}
    for name in sorted(TRAINED):
        if name not in newest and name not in UNTRAINED:
            print(f"{name}: left out, there is no model of it in {models}")
            continue
        try:
            known = newest.get(name)
            loaded = opener(config)(*((known, store.read(known)) if known else untrained(name)))
        except (FailedPrecondition, ImportError) as error:
            print(f"{name}: left out: {error}")
            continue
        if known is None:
            print(f"{name}: none in {models}, so one of its shape that has learnt nothing: it takes the same time")
        yield name, loaded.model.execution_provider, loaded.policy


def time_calls(call: Call, asked: Sequence[InferenceRequest], batch_count: int) -> tuple[list[float], list[float]]:
    """Seconds of each call by the clock, and of the processor."""
    wall, busy = [], []
    for start in range(0, len(asked), batch_count):
        began, worked = time.perf_counter(), time.process_time()
        call(asked[start : start + batch_count])
        wall.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
    return wall, busy


def call_count(call: Call, batch_count: int, long: bool, budget_s: float) -> int:
    """As many calls as fit into the time, at least 5 and at most 1,000; the first calls are not counted at all."""
    # The first call of a size opens what is opened once.
    call(prompts(batch_count, long, seed=100 + batch_count))
    (once,), _ = time_calls(call, prompts(batch_count, long, seed=200 + batch_count), batch_count)
    return int(np.clip(budget_s / once, 5, 1_000))


def measure_process(report: common.Report, models: Path, budget_s: float, only: Sequence[str]) -> None:
    providers = ["cpu", *(["cuda"] if choose_providers("auto") != [CPU] else [])]
    found = [row for provider in providers for row in families(models, provider)]
    calls: list[tuple[str, str, Call]] = [] if only else [("(hashed features alone)", "-", extract)]
    for name, ran_on, predictor in found:
        if only and name not in only:
            continue
        predictor.observe([LengthOutcome(query, 100 + row % 50) for row, query in enumerate(prompts(OUTCOMES, False))])
        calls.append((name, ran_on, predictor.predict))
    rows: list[list[common.Cell]] = []
    for size in ("100 tokens", "8 kB"):
        for name, ran_on, call in calls:
            for batch_count in BATCH_COUNTS:
                count = call_count(call, batch_count, size == "8 kB", budget_s)
                # The encoder remembers prompts, so none comes twice.
                asked = prompts(count * batch_count, size == "8 kB", seed=300 + batch_count)
                wall, busy = time_calls(call, asked, batch_count)
                p50, p99 = common.percentiles(wall, 1e3)
                cpu_p50, _ = common.percentiles(busy, 1e3)
                rows.append(
                    [size, name, ran_on, batch_count, count, p50, p99, cpu_p50, batch_count * count / sum(wall)]
                )
                if ran_on != "-":
                    where = ran_on.removesuffix("ExecutionProvider").lower()
                    label = f"{name}_{where}_{size.replace(' ', '')}_x{batch_count}"
                    report.figures |= {f"{label}_p50_ms": p50, f"{label}_p99_ms": p99, f"{label}_cpu_p50_ms": cpu_p50}
    columns = ("prompt", "predictor", "provider", "batch", "calls", "p50 ms", "p99 ms", "p50 ms of CPU", "prompts/s")
    report.table("One batch in process, one thread, features included", columns, rows)


# Exactness


def exactness(report: common.Report) -> None:
    """A small model of each family, fitted here: the file's answers beside those of what was fitted."""
    try:
        rows: list[list[common.Cell]] = [[*one] for one in fitted_beside_files()]
    except ImportError as error:
        print(f"exactness: left out, {error.name} is not installed; run: make dev")
        return
    report.figures |= {f"{row[0]}_apart_max": float(row[3]) for row in rows}
    columns = ("family", "beside", "prompts", "most apart, ln tokens", "share above 1e-4")
    report.table("onnxruntime beside what was fitted (preserve: tests/unit/train/test_preserve.py)", columns, rows)


def fitted_beside_files() -> Iterator[tuple[str, str, int, float, float]]:
    from forebay.train import export, fast, forest, model, network
    from forebay.train.data import Examples
    from forebay.train.export_network import to_onnx

    chance = np.random.default_rng(3)
    queries = tuple(prompts(800, False))
    names = np.array(["random"] * len(queries))
    examples = Examples(queries, np.exp(chance.normal(4, 1, len(queries))), names, np.arange(len(queries)))
    sparse = fast.features_of(examples)
    settings = model.Settings(component_count=8, picked_count=20, tree_count=20)
    trees = model.fit(sparse, examples.tokens, examples.groups, settings, lambda step: None)
    yield "fast", "scikit-learn", *apart(export.to_onnx(trees), sparse.toarray(), trees.predict(sparse))
    rows = network.rows_of(examples, chance.normal(0, 1, (len(queries), 400)).astype(np.float32))
    dense = network.fit(rows, rows, network.Settings(epoch_count_max=3), 1, lambda epoch: None)
    yield "semantic", "numpy", *apart(to_onnx(dense), rows.features, dense.tokens(rows.features))
    leaves = forest.fit(rows, forest.Settings(tree_count=10), 1)
    yield "magnus", "scikit-learn", *apart(forest.to_onnx(leaves), rows.features, leaves.tokens(rows.features))


def apart(content: bytes, features: npt.NDArray[Any], fitted: npt.NDArray[Any]) -> tuple[int, float, float]:
    """Prompts, the largest difference in logarithms of tokens, and the share of prompts above 1e-4."""
    session = onnxruntime.InferenceSession(content, providers=[CPU])
    given = session.run(None, {"features": features.astype(np.float32)})[0].astype(np.float64)
    logs, wanted = (np.log1p(np.sort(tokens, axis=1).clip(0.0)) for tokens in (given, fitted))
    most = np.abs(logs - wanted).max(axis=1)
    return len(most), float(most.max()), float((most > 1e-4).mean())


# Cost over gRPC


async def serve() -> None:
    config, registry = Config(), CollectorRegistry()
    engine = build_engine(config)
    history = MetricsHistory(connect("127.0.0.1:1"), 1.0, 1)
    loader = await build_loader(engine, config)
    forecasts = build_forecasts(config, engine, history, now_us, registry)
    servicer = PredictorServicer(engine, loader, forecasts, registry, now_us)
    server = Server("127.0.0.1:0", ["lmaas.predictor.v1.PredictorService"], registry)
    add_PredictorServiceServicer_to_server(servicer, server.grpc)
    calm_collector()
    await server.start()
    print(server.port, flush=True)
    await server.grpc.wait_for_termination()


@contextmanager
def started() -> Iterator[str]:
    """The predictor in a process of its own: its address."""
    command = [sys.executable, "-m", "benchmarks.length_latency", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


async def time_callers(
    call: Callable[[], Awaitable[object]], caller_count: int, times: int
) -> tuple[list[float], float]:
    """Seconds of each call and of all, from so many callers at once."""
    seconds: list[float] = []

    async def calls() -> None:
        for _ in range(times // caller_count):
            began = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(calls() for _ in range(caller_count)))
    return seconds, time.perf_counter() - began


async def measure_wire(report: common.Report, address: str, times: int) -> None:
    rows: list[list[common.Cell]] = []
    async with connect(address) as channel:
        stub = PredictorServiceStub(channel)
        for batch_count in BATCH_COUNTS:
            queries = [length_query_to_proto(query) for query in prompts(batch_count, False)]
            request = pb.PredictLengthRequest(queries=queries)

            async def call(request: pb.PredictLengthRequest = request) -> None:
                await stub.PredictLength(request, timeout=10)

            await time_callers(call, 1, 50)
            for caller_count in CALLERS:
                seconds, total_s = await time_callers(call, caller_count, times)
                p50, p99 = common.percentiles(seconds, 1e3)
                rate = batch_count * len(seconds) / total_s
                rows.append([batch_count, caller_count, p50, p99, len(seconds) / total_s, rate])
                report.figures[f"grpc_x{batch_count}_by{caller_count}_p99_ms"] = p99
                report.figures[f"grpc_x{batch_count}_by{caller_count}_per_s"] = rate
    columns = ("batch", "callers", "p50 ms", "p99 ms", "calls/s", "predictions/s")
    report.table(f"PredictLength of {FAST} over gRPC, both ends on this machine", columns, rows)


@click.command()
@common.options
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), default=PACKAGED, help="Folder of models.")
@click.option("--only", multiple=True, type=click.Choice(list(LENGTH_PREDICTORS)), help="These in process, no more.")
@click.option("--serve", "serves", is_flag=True, hidden=True)
def main(quick: bool, json_path: str | None, models: Path, only: Sequence[str], serves: bool) -> None:
    """Times length predictions of every family."""
    if serves:
        uvloop.run(serve())
        return
    report = common.Report("length_latency", quick)
    measure_process(report, models, 0.25 if quick else 3.0, only)
    if not only:
        exactness(report)
        with started() as address:
            uvloop.run(measure_wire(report, address, 300 if quick else 2_000))
    report.close(json_path)


if __name__ == "__main__":
    main()
