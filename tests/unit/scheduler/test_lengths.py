"""When questions leave for the predictor."""

import asyncio
from typing import Any

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
