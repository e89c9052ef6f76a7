"""What a predicted length costs, in process and over gRPC, and how good predictions become while outcomes come in.

Streams are predicted first and learned from after, 16 at a time; the first fifth is left out of the figures. The
prompts of gpt-mt, BIG-Bench Hard and GPTeacher are the shipped model's own test split; it has seen nothing like the
others, but the on-line correction was designed with all six streams in sight, so these figures are a little kind.
Alpaca, alpaca_eval and JFLEG are for measuring only. Without the data (FOREBAY_DATA or ../shared/data) that
part is left out.

Bar: in process with features, one prompt < 1 ms, 32 prompts < 3 ms at p50; over gRPC p99 <= 15 ms.
Run: PYTHONPATH=services:clients/python python -m benchmarks.predict_length [--quick] [--json FILE]
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import uvloop
from lmaas.predictor.v1 import predictor_service_pb2 as pb
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub, add_PredictorServiceServicer_to_server
from prometheus_client import CollectorRegistry

from benchmarks import common
from forebay.core.prediction import QUANTILE_LEVELS, LengthOutcome
from forebay.core.values import InferenceRequest
from forebay.predictor.build import build_engine, build_loader
from forebay.predictor.build_forecasts import build_forecasts
from forebay.predictor.config import Config
from forebay.predictor.features import extract
from forebay.predictor.loop import MetricsHistory
from forebay.predictor.policy.length import Histogram, InputRatio, LengthPredictor, OnnxQuantile
from forebay.predictor.servicer import PredictorServicer
from forebay.predictor.sessions import choose_providers
from forebay.predictor.store_files import FolderModelStore
from forebay.predictor.trained import OnnxModel, Opening, open_trained
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.convert import length_query_to_proto
from forebay.wire.server import Server

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FOREBAY_DATA", ROOT.parent / "shared" / "data"))
BATCH_COUNTS = (1, 8, 32)
CALLERS = (1, 16)
SLICE_COUNT = 16
LEVELS = np.array(QUANTILE_LEVELS)
Stream = list[tuple[InferenceRequest, int]]


def shipped() -> OnnxModel:
    """The shipped model."""
    store = FolderModelStore()
    (model,) = (model for model in store.list() if model.name == "onnx_quantile")
    return open_trained(model, store.read(model), Opening(choose_providers("auto"), 1))


def predictors() -> dict[str, LengthPredictor]:
    return {"input_ratio": InputRatio(), "histogram": Histogram(), "onnx_quantile": OnnxQuantile(shipped())}


# Cost in process


def prompts(byte_count: int, count: int = 256) -> list[InferenceRequest]:
    """Prompts of about so many bytes, no two alike."""
    chance = np.random.default_rng(5)
    words = [f"{a}{b}{c}" for a in "bdkmprst" for b in "aeiou" for c in ("", "n", "ng", "rs")]
    found = []
    for number in range(count):
        text = " ".join(chance.choice(words, byte_count // 4).tolist())[:byte_count]
        found.append(InferenceRequest(f"q{number}", "m", max(1, byte_count // 4), prompt_head=text))
    return found


def time_calls(
    call: Callable[[Sequence[InferenceRequest]], object], batch_count: int, asked: Stream, times: int
) -> list[float]:
    seconds = []
    for number in range(times):
        start = number * batch_count % (len(asked) - batch_count + 1)
        batch = [query for query, _ in asked[start : start + batch_count]]
        began = time.perf_counter()
        call(batch)
        seconds.append(time.perf_counter() - began)
    return seconds


def measure_process(report: common.Report, times: int) -> None:
    rows: list[list[common.Cell]] = []
    for byte_count in (240, 8_000):
        asked = [(query, 100 + index % 50) for index, query in enumerate(prompts(byte_count))]
        outcomes = [LengthOutcome(query, tokens) for query, tokens in asked]
        calls: dict[str, Callable[[Sequence[InferenceRequest]], object]] = {"(features alone)": extract}
        for name, predictor in predictors().items():
            predictor.observe(outcomes)
            calls[name] = predictor.predict
        for name, call in calls.items():
            for batch_count in BATCH_COUNTS:
                p50, p99 = common.percentiles(time_calls(call, batch_count, asked, times), 1e3)
                rows.append([byte_count, name, batch_count, p50, p99, p50 / batch_count])
                if name == "onnx_quantile":
                    report.figures[f"predict_{byte_count}b_x{batch_count}_p50_ms"] = p50
                    report.figures[f"predict_{byte_count}b_x{batch_count}_p99_ms"] = p99
    columns = ("prompt bytes", "predictor", "batch", "p50 ms", "p99 ms", "p50 ms a prompt")
    report.table("One batch in process, one thread", columns, rows)


async def measure_thread(report: common.Report, times: int) -> None:
    """One prompt on the event loop itself and by way of a worker thread."""
    predict, (query, *_) = OnnxQuantile(shipped()).predict, prompts(240)
    seconds: dict[str, list[float]] = {"on the event loop": [], "asyncio.to_thread": []}
    for _ in range(times):
        for name, found in seconds.items():
            began = time.perf_counter()
            if name == "asyncio.to_thread":
                await asyncio.to_thread(predict, [query])
            else:
                predict([query])
            found.append(time.perf_counter() - began)
    both = {name: common.percentiles(found, 1e3) for name, found in seconds.items()}
    rows: list[list[common.Cell]] = [[name, *pair] for name, pair in both.items()]
    report.table("Where one prompt is predicted", ("where", "p50 ms", "p99 ms"), rows)
    report.figures["thread_extra_p50_ms"] = both["asyncio.to_thread"][0] - both["on the event loop"][0]


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
    await server.start()
    print(server.port, flush=True)
    await server.grpc.wait_for_termination()


@contextmanager
def started() -> Iterator[str]:
    """The predictor in a process of its own: its address."""
    command = [sys.executable, "-m", "benchmarks.predict_length", "--serve"]
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
            queries = [length_query_to_proto(query) for query in prompts(240)[:batch_count]]
            request = pb.PredictLengthRequest(queries=queries)

            async def call(request: pb.PredictLengthRequest = request) -> None:
                await stub.PredictLength(request, timeout=10)

            await time_callers(call, 1, 50)
            for caller_count in CALLERS:
                seconds, total_s = await time_callers(call, caller_count, times)
                p50, p99 = common.percentiles(seconds, 1e3)
                rows.append(
                    [batch_count, caller_count, p50, p99, len(seconds) / total_s, batch_count * len(seconds) / total_s]
                )
                report.figures[f"grpc_x{batch_count}_by{caller_count}_p99_ms"] = p99
    columns = ("batch", "callers", "p50 ms", "p99 ms", "calls/s", "prompts/s")
    report.table("PredictLength over gRPC, both ends on this machine", columns, rows)


# Quality


def streams(count: int) -> Iterator[tuple[str, Stream]]:
    """Prompts with what one model or several answered, in an order drawn once."""
    import pandas as pd

    for label, folder, name in (
        ("gpt-mt (test split)", "open", "translation_gpt_mt"),
        ("BIG-Bench Hard (test split)", "open", "bbh_cot_code-davinci-002"),
        ("GPTeacher (test split)", "open", "gpteacher_gpt4"),
        ("JFLEG, gold (unseen)", "measure_only", "grammar_jfleg_gold"),
        ("alpaca_eval, 20 models (unseen)", "measure_only", "alpaca_eval_models"),
    ):
        base = DATA / folder / "prompts" / name
        rows = pd.read_parquet(f"{base}.prompts.parquet").merge(
            pd.read_parquet(f"{base}.answers.parquet"), on="prompt_id"
        )
        if folder == "open":
            rows = rows[rows.prompt_id.map(lambda name: int(name[-4:], 16) % 5 == 0)]
        rows = rows.drop_duplicates(["prompt_id", "model", "task"]).sample(frac=1, random_state=1)[:count]
        fields = zip(rows.prompt, rows.model, rows.prompt_tokens_llama2, rows.response_tokens_llama2, strict=True)
        yield label, [_example(*each) for each in fields]
    rows = pd.read_parquet(DATA / "measure_only/prompts/alpaca10k_train_vicuna7b_lengths.parquet")
    rows = rows[rows.alpaca_index % 5 == 0].sample(frac=1, random_state=1)[:count]
    texts = (rows.instruction + "\n" + rows.input).str.strip()
    pairs = zip(texts, rows["vicuna7b_T0.5"], strict=True)
    yield (
        "Alpaca, Vicuna-7B T=.5 (unseen)",
        [_example(text, "vicuna", len(text) // 4, tokens) for text, tokens in pairs],
    )


def _example(prompt: str, model: str, prompt_tokens: int, tokens: int) -> tuple[InferenceRequest, int]:
    head = prompt.encode()[:8_192].decode(errors="ignore")
    return InferenceRequest("q", model, max(1, int(prompt_tokens)), prompt_head=head), int(tokens)


def follow(predictor: LengthPredictor, stream: Stream) -> list[common.Cell]:
    """MAE, pinball loss, coverage of p90 and Kendall's tau, in the order of the columns."""
    found, truth = [], []
    for start in range(0, len(stream), SLICE_COUNT):
        part = stream[start : start + SLICE_COUNT]
        for (_, tokens), one in zip(part, predictor.predict([query for query, _ in part]), strict=True):
            values = one.quantiles
            found.append((values.p10, values.p50, values.p90, values.p97, one.rank_score))
            truth.append(tokens)
        predictor.observe([LengthOutcome(query, tokens) for query, tokens in part])
    late = len(stream) // 5
    levels, actual = np.array(found)[late:], np.array(truth, dtype=np.float64)[late:]
    under = actual[:, None] - levels[:, :4]
    loss = np.maximum(LEVELS * under, (LEVELS - 1) * under).mean()
    return [float(np.abs(under[:, 1]).mean()), float(loss), float((under[:, 2] <= 0).mean()), tau(levels[:, 4], actual)]


def tau(scores: np.ndarray, actual: np.ndarray) -> float:
    """Kendall's tau-b: agreement of order, over all pairs of at most 1,500 examples."""
    scores, actual = (np.sign(each[:1500, None] - each[None, :1500]) for each in (scores, actual))
    return float((scores * actual).sum() / np.sqrt((scores**2).sum() * (actual**2).sum()))


def measure_quality(report: common.Report, count: int) -> None:
    rows: list[list[common.Cell]] = []
    for label, stream in streams(count):
        constant = np.array([tokens for _, tokens in stream], dtype=np.float64)
        base = float(np.abs(constant - np.median(constant)).mean())
        for name, predictor in predictors().items():
            mae, *others = follow(predictor, stream)
            rows.append([label, len(stream), name, mae, float(mae) / base, *others])
            if name == "onnx_quantile":
                report.figures[f"mae_over_constant_{''.join(filter(str.isalnum, label.split()[0])).lower()}"] = (
                    float(mae) / base
                )
    columns = ("prompts", "answers", "predictor", "MAE tokens", "x best constant", "pinball", "within p90", "tau")
    report.table("Predict, then learn", columns, rows)


@click.command()
@common.options
@click.option("--serve", "serves", is_flag=True, hidden=True)
def main(quick: bool, json_path: str | None, serves: bool) -> None:
    """Times and scores length predictions."""
    if serves:
        uvloop.run(serve())
        return
    report = common.Report("predict_length", quick)
    times = 300 if quick else 2_000
    measure_process(report, times)
    uvloop.run(measure_thread(report, times))
    with started() as address:
        uvloop.run(measure_wire(report, address, times))
    if DATA.is_dir():
        measure_quality(report, 1_000 if quick else 5_000)
    else:
        print(f"no data in {DATA}: quality is not measured")
    report.close(json_path)


if __name__ == "__main__":
    main()
