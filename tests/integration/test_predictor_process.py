"""The predictor as a process of its own that is stopped or killed and comes back knowing what it knew."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from lmaas.common.v1 import length_pb2 as common
from lmaas.predictor.v1 import length_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as messages
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub

from forebay.wire.channel import connect
from tests.integration.real_triton import free_ports

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
TIMEOUT_S = 5.0
SECRET = "tell me of the harbour at night"
OUTCOME_COUNT = 320


@dataclass
class Stage:
    """One predictor with its database, again and again."""

    directory: Path
    running: asyncio.subprocess.Process | None = None
    channel: grpc.aio.Channel | None = None
    api: PredictorServiceStub | None = None

    async def start(self, settings: str) -> None:
        """Starts it and waits until it answers."""
        (self.directory / "forebay.toml").write_text(f'[predictor]\nprovider = "cpu"\n{settings}\n')
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}/services:{ROOT}/clients/python",
            "FOREBAY_LISTEN": f"127.0.0.1:{free_ports(1)[0]}",
            "FOREBAY_PROMETHEUS": "",
            "FOREBAY_DATABASE_URL": f"sqlite:///{self.directory}/forebay.db",
        }
        command = [sys.executable, "-m", "forebay.predictor", "--config", str(self.directory / "forebay.toml")]
        with (self.directory / "log").open("ab") as log:
            self.running = await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)
        self.channel = connect(environment["FOREBAY_LISTEN"])
        self.api = PredictorServiceStub(self.channel)
        assert await until(self.answers), self.log()

    async def answers(self) -> bool:
        with suppress(grpc.aio.AioRpcError):
            await self.figures()
            return True
        return False

    async def end(self, number: int) -> None:
        """Sends the signal and waits for the end."""
        assert self.running is not None
        assert self.channel is not None
        self.running.send_signal(number)
        await asyncio.wait_for(self.running.wait(), 30)
        await self.channel.close()
        self.running = None

    async def figures(self) -> list[length_pb2.PredictorAccuracy]:
        assert self.api is not None
        return list((await self.api.ListAccuracy(messages.ListAccuracyRequest(), timeout=TIMEOUT_S)).rows)

    async def predicted(self) -> list[common.LengthQuantiles]:
        assert self.api is not None
        request = messages.PredictLengthRequest(queries=[query(number) for number in range(40)])
        answer = await self.api.PredictLength(request, timeout=TIMEOUT_S)
        return [one.quantiles for one in answer.predictions]

    async def learn(self, start: int = 0) -> None:
        """Answers are seven times as long as their prompts, so that corrections and bounds have something to learn."""
        assert self.api is not None
        for first in range(start, start + OUTCOME_COUNT, 32):
            queries = [query(number) for number in range(first, first + 32)]
            said = await self.api.PredictLength(messages.PredictLengthRequest(queries=queries), timeout=TIMEOUT_S)
            outcomes = [
                length_pb2.LengthOutcome(
                    query=one,
                    predicted=prediction.quantiles,
                    predicted_by=said.predicted_by,
                    generated_tokens=7 * one.prompt_tokens + first % 13,
                )
                for one, prediction in zip(queries, said.predictions, strict=True)
            ]
            request = messages.ObserveOutcomesRequest(outcomes=outcomes, request_id=f"o{first}")
            await self.api.ObserveOutcomes(request, timeout=TIMEOUT_S)

    def log(self) -> str:
        return (self.directory / "log").read_text()[-5_000:]


ANSWERS_MEAN, ANSWERS_MAX = 7 * 40, 7 * 69 + 12
"""Of the answers that are learnt: a history that does not see the rule between prompt and answer bounds them wider."""


def query(number: int) -> length_pb2.LengthQuery:
    return length_pb2.LengthQuery(
        query_id=f"q{number}",
        model="llama",
        prompt_tokens=20 + number % 50,
        prompt_head=f"{SECRET} {number}",
        application="stories" if number % 2 else "",
    )


async def until(holds: Callable[[], Awaitable[bool]]) -> bool:
    for _ in range(int(PATIENCE_S / 0.1)):
        if await holds():
            return True
        await asyncio.sleep(0.1)
    return False


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    yield made
    if made.running is not None:
        await made.end(signal.SIGTERM)


def p90(found: list[common.LengthQuantiles]) -> float:
    return sum(one.p90_tokens for one in found) / len(found)


@pytest.mark.parametrize("length", ["onnx_quantile", "kernel_history"])
async def test_a_predictor_that_is_stopped_knows_its_bounds_and_figures_when_it_comes_back(
    stage: Stage, length: str
) -> None:
    settings = f'length = "{length}"\nsnapshot_s = 3600'
    await stage.start(settings)
    raw = await stage.predicted()
    await stage.learn()
    figures, promised = await stage.figures(), await stage.predicted()
    assert ANSWERS_MEAN * 0.75 < p90(promised) < ANSWERS_MAX, "answers are 7 times as long as their prompts"
    assert raw != promised
    await stage.end(signal.SIGTERM)
    await stage.start(settings)
    assert await stage.figures() == figures
    assert p90(await stage.predicted()) == pytest.approx(p90(promised), rel=0.03)


async def test_a_predictor_that_is_killed_loses_only_what_came_since_it_last_wrote(stage: Stage) -> None:
    await stage.start("snapshot_s = 0.2")
    await stage.learn()
    figures, promised = await stage.figures(), await stage.predicted()
    await asyncio.sleep(1.5)
    await stage.end(signal.SIGKILL)
    await stage.start("snapshot_s = 0.2")
    assert await stage.figures() == figures
    assert p90(await stage.predicted()) == pytest.approx(p90(promised), rel=0.03)
    content = b"".join(path.read_bytes() for path in stage.directory.glob("forebay.db*"))
    assert SECRET.encode() not in content


async def test_a_predictor_that_is_told_to_keep_nothing_begins_anew(stage: Stage) -> None:
    await stage.start("snapshot_s = 0")
    await stage.learn()
    assert await stage.figures()
    await stage.end(signal.SIGTERM)
    await stage.start("snapshot_s = 0")
    assert not await stage.figures()
