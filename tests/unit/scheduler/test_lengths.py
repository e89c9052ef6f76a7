"""When questions leave for the predictor."""

import asyncio
from typing import Any

import grpc
from lmaas.common.v1 import length_pb2
from lmaas.predictor.v1 import length_pb2 as prediction_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as pb

from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.scheduler.config import Config
from forebay.scheduler.lengths import Predictions

QUANTILES = length_pb2.LengthQuantiles(p10_tokens=1, p50_tokens=2, p90_tokens=3, p97_tokens=4)


class Predictor:
    """Stands in for a channel: keeps what each call asks and answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answer = asyncio.Event()

    def unary_unary(self, path: str, *args: Any, **kwargs: Any) -> Any:
        async def call(message: pb.PredictLengthRequest, timeout: float) -> pb.PredictLengthResponse:
            names = [query.query_id for query in message.queries]
            self.asked.append(names)
            await self.answer.wait()
            self.answer.clear()
            found = [prediction_pb2.LengthPrediction(query_id=name, quantiles=QUANTILES) for name in names]
            return pb.PredictLengthResponse(predictions=found, predicted_by="test")

        return call


def asking(predictor: Predictor, batch_ms: float) -> tuple[Predictions, dict[str, LengthPrediction | None]]:
    replies: dict[str, LengthPrediction | None] = {}
    return Predictions(predictor, Config(predictor_batch_ms=batch_ms), lambda: 0), replies  # type: ignore[arg-type]


def ask(predictions: Predictions, replies: dict[str, LengthPrediction | None], *names: str) -> None:
    for name in names:
        predictions.ask(InferenceRequest(name, "m", 10), lambda reply, name=name: replies.update({name: reply}))  # type: ignore[misc]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_comes_together_leaves_together_at_once() -> None:
    predictor = Predictor()
    predictions, replies = asking(predictor, 3_600_000.0)
    ask(predictions, replies, "a", "b")
    await settle()
    assert predictor.asked == [["a", "b"]]


async def test_what_comes_meanwhile_leaves_when_the_answer_is_back() -> None:
    predictor = Predictor()
    predictions, replies = asking(predictor, 3_600_000.0)
    ask(predictions, replies, "a")
    await settle()
    ask(predictions, replies, "b", "c")
    await settle()
    assert predictor.asked == [["a"]]
    predictor.answer.set()
    await settle()
    assert predictor.asked == [["a"], ["b", "c"]]
    assert replies.keys() == {"a"}
    predictor.answer.set()
    await settle()
    assert replies.keys() == {"a", "b", "c"}


async def test_nobody_waits_for_a_slow_answer_longer_than_batches_gather() -> None:
    predictor = Predictor()
    predictions, replies = asking(predictor, 0.0)
    ask(predictions, replies, "a")
    await settle()
    ask(predictions, replies, "b")
    await settle()
    assert predictor.asked == [["a"], ["b"]]


class Refusing:
    """A channel whose calls fail when they are let."""

    def __init__(self) -> None:
        self.asked_count = 0
        self.refuse = asyncio.Event()

    def unary_unary(self, path: str, *args: Any, **kwargs: Any) -> Any:
        async def call(message: pb.PredictLengthRequest, timeout: float) -> pb.PredictLengthResponse:
            self.asked_count += 1
            await self.refuse.wait()
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, nothing, nothing)

        return call


async def failing(rounds: int, at_once: int) -> int:
    """How many of one more round of questions are sent after so many rounds that failed."""
    predictor, now_us = Refusing(), [0]
    config = Config(predictor_batch_ms=0.0, predictor_batch_count_max=1)
    predictions = Predictions(predictor, config, lambda: now_us[0])  # type: ignore[arg-type]
    replies: dict[str, LengthPrediction | None] = {}
    for number in range(rounds):
        for one in range(at_once):
            now_us[0] += 1_000
            ask(predictions, replies, f"{number}-{one}")
            await settle()
        now_us[0] += 1_000
        predictor.refuse.set()
        await settle()
        predictor.refuse.clear()
    assert set(replies.values()) == {None}
    before = predictor.asked_count
    now_us[0] += 1_000
    ask(predictions, replies, "after")
    await settle()
    return predictor.asked_count - before


async def test_a_predictor_that_fails_three_times_in_a_row_is_left_alone_for_a_while() -> None:
    assert await failing(rounds=2, at_once=1) == 1
    assert await failing(rounds=3, at_once=1) == 0


async def test_questions_that_were_on_their_way_together_fail_as_one() -> None:
    assert await failing(rounds=1, at_once=9) == 1, "it stopped for a moment"
    assert await failing(rounds=3, at_once=9) == 0
