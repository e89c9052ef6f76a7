"""A live predictor keeps its outcomes, is retrained from them, measures the new model and lets it answer, and back."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")
pytest.importorskip("pandas")

from lmaas.predictor.v1 import length_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as messages
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub, add_PredictorServiceServicer_to_server
from prometheus_client import CollectorRegistry

from forebay.predictor.build import build_engine, build_loader
from forebay.predictor.build_forecasts import build_forecasts
from forebay.predictor.build_recorder import build_recorder
from forebay.predictor.config import Config
from forebay.predictor.lengths.recorder import Recorder
from forebay.predictor.loop import MetricsHistory
from forebay.predictor.servicer import PredictorServicer
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.server import Server
from tests.unit.train.small import VERBS

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30.0
TRAIN_TIMEOUT_S = 240.0
CALLERS = 4
LENGTH = length_pb2.MODEL_KIND_LENGTH
BATCH_COUNT = 50


def config_of(folder: Path) -> Config:
    return Config(provider="cpu", models_folder=str(folder / "models"), promote_count_min=100)


@dataclass
class Stage:
    """A predictor that serves, and callers that ask it all the time."""

    stub: PredictorServiceStub
    port: int
    recorder: Recorder
    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    observed_count: int = 0

    async def call(self) -> None:
        """Asks for ever and counts who answers."""
        query = length_pb2.LengthQuery(query_id="q", model="m", prompt_tokens=5, prompt_head="list item 3")
        request = messages.PredictLengthRequest(queries=[query] * 3)
        while True:
            try:
                answer = await self.stub.PredictLength(request, timeout=TIMEOUT_S)
                assert len(answer.predictions) == 3
                self.answered[answer.predicted_by] += 1
            except Exception as error:
                self.failures.append(repr(error))
            await asyncio.sleep(0.005)

    async def observe(self, generator: np.random.Generator) -> None:
        """Sends outcomes whose lengths hang on the first word of their prompts."""
        outcomes = []
        for _ in range(BATCH_COUNT):
            self.observed_count += 1
            verb = str(generator.choice(list(VERBS)))
            prompt = f"{verb} item {self.observed_count}"
            query = length_pb2.LengthQuery(query_id="q", model="m", prompt_tokens=5, prompt_head=prompt)
            tokens = round(VERBS[verb] * float(np.exp(0.2 * generator.standard_normal())))
            outcomes.append(length_pb2.LengthOutcome(query=query, generated_tokens=tokens))
        request = messages.ObserveOutcomesRequest(outcomes=outcomes, request_id=f"o{self.observed_count}")
        await self.stub.ObserveOutcomes(request, timeout=TIMEOUT_S)

    async def models(self) -> dict[str, length_pb2.PredictorModel]:
        """The trained length models by version."""
        answer = await self.stub.ListModels(messages.ListModelsRequest(kind=LENGTH), timeout=TIMEOUT_S)
        return {model.version: model for model in answer.models if model.name == "onnx_quantile"}

    async def active(self) -> str:
        """The version that answers."""
        return next(version for version, model in (await self.models()).items() if model.active)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    config, registry = config_of(tmp_path), CollectorRegistry()
    engine = build_engine(config)
    loader = await build_loader(engine, config)
    nowhere = connect("127.0.0.1:1")
    forecasts = build_forecasts(config, engine, MetricsHistory(nowhere, 1.0, 1), now_us, registry)
    recorder = build_recorder(config, f"sqlite:///{tmp_path}/forebay.db", now_us, registry)
    assert recorder is not None
    servicer = PredictorServicer(engine, loader, forecasts, registry, now_us, recorder.offer)
    server = Server("127.0.0.1:0", ["lmaas.predictor.v1.PredictorService"], registry)
    add_PredictorServiceServicer_to_server(servicer, server.grpc)
    await server.start()
    writing = asyncio.create_task(recorder.run())
    async with connect(f"127.0.0.1:{server.port}") as channel:
        found = Stage(PredictorServiceStub(channel), server.port, recorder)  # type: ignore[arg-type]
        callers = [asyncio.create_task(found.call()) for _ in range(CALLERS)]
        yield found
        for task in (*callers, writing):
            task.cancel()
        await asyncio.gather(*callers, writing, return_exceptions=True)
    await server.stop(0.1)
    await forecasts.close()
    await nowhere.close()


def kept_in(folder: Path) -> str:
    """All that the database's files hold."""
    return b"".join(file.read_bytes() for file in folder.glob("forebay.db*")).decode("latin-1")


async def train(folder: Path, *more: str) -> dict[str, str]:
    """Runs the command as an operator would; what it printed as JSON."""
    out, err = await run_train(folder, folder / "models", *more)
    assert out, err
    found: dict[str, str] = json.loads(out)
    return found


async def run_train(folder: Path, output: Path, *more: str) -> tuple[str, str]:
    """What the command printed and what it complained about."""
    command = ["train", "length", "--from-db", f"sqlite:///{folder}/forebay.db", "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": "services:clients/python", "OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "forebay.cli", *command, "--json", *more,
        cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), TRAIN_TIMEOUT_S)
    assert (process.returncode == 0) == bool(out)
    return out.decode(), err.decode()


async def test_a_model_of_the_deployments_own_outcomes_takes_over_when_it_is_better_and_can_be_undone(
    stage: Stage, tmp_path: Path
) -> None:
    generator = np.random.default_rng(3)
    shipped = await stage.active()
    for _ in range(12):
        await stage.observe(generator)
    async with asyncio.timeout(TIMEOUT_S):
        while stage.recorder.kept_count < stage.observed_count:
            await asyncio.sleep(0.01)
    assert stage.recorder.dropped_count == 0
    assert "list item" not in kept_in(tmp_path)

    told = await train(tmp_path, "--shadow", "--predictor", f"127.0.0.1:{stage.port}")
    trained = told["model"].partition("@")[2]
    assert int(trained) == int(shipped) + 1
    assert (await stage.models())[trained].shadow
    assert await stage.active() == shipped

    for _ in range(20):
        await stage.observe(generator)
        if await stage.active() == trained:
            break
    assert await stage.active() == trained
    assert (await stage.models())[shipped].previous

    request = messages.RollbackModelRequest(kind=LENGTH, request_id="back")
    assert (await stage.stub.RollbackModel(request, timeout=TIMEOUT_S)).model.version == shipped
    assert (await stage.models())[trained].previous
    await asyncio.sleep(0.1)

    assert stage.failures == []
    assert set(stage.answered) == {f"onnx_quantile@{shipped}", f"onnx_quantile@{trained}"}
    restarted = build_engine(config_of(tmp_path))
    await build_loader(restarted, config_of(tmp_path))
    assert restarted.length.label == f"onnx_quantile@{shipped}"


async def test_a_new_model_can_be_activated_at_once_while_calls_go_on(stage: Stage, tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    for _ in range(8):
        await stage.observe(generator)
    await stage.recorder.flush()
    async with asyncio.timeout(TIMEOUT_S):
        while stage.recorder.kept_count < stage.observed_count:
            await asyncio.sleep(0.01)
    here = ("--activate", "--no-report", "--predictor", f"127.0.0.1:{stage.port}")
    _, complaint = await run_train(tmp_path, tmp_path / "elsewhere", *here)
    assert "does not read there; set models_folder" in " ".join(complaint.split())
    told = await train(tmp_path, *here)
    assert await stage.active() == told["model"].partition("@")[2]
    await asyncio.sleep(0.1)
    assert stage.failures == []
    assert stage.answered[told["model"]] > 0
