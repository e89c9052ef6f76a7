"""Short ways to build what the scheduler's tests are about."""

from dataclasses import replace
from typing import Any

from forebay.core.values import (
    InferenceRequest,
    Instance,
    InstanceState,
    LengthPrediction,
    LengthQuantiles,
    SloClass,
)
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.policy import build

S = 1_000_000
"""A second in microseconds."""


def instance(name: str, model: str = "m", **changes: Any) -> Instance:
    made = Instance(f"{name}/{model}", model, f"{name}:8001", name, state=InstanceState.READY, concurrency_max=2)
    return replace(made, **changes)


def request(name: str = "r1", model: str = "m", prompt: int = 10, **changes: Any) -> InferenceRequest:
    made = InferenceRequest(name, model, prompt, slo_class=SloClass.INTERACTIVE_NORMAL)
    return replace(made, **changes)


def prediction(tokens: int = 50) -> LengthPrediction:
    quantiles = LengthQuantiles(tokens // 2, tokens, 2 * tokens, 3 * tokens)
    return LengthPrediction(quantiles, float(tokens), float(tokens), "test@1")


def engine(*instances: Instance, **settings: Any) -> Engine:
    """An engine that knows these instances since time 0; without any it has not heard of a fleet yet."""
    config = Config(**settings)
    made = Engine(config, build(config), "s")
    if instances:
        made.on_fleet(instances, 0)
    return made
