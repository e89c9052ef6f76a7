"""What a policy of this kind sees, what it answers, and its Protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from forebay.core.values import ModelLoad

Samples: TypeAlias = tuple[tuple[int, float], ...]
"""Pairs of time in microseconds and value, oldest first."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a policy wants to see: how far back, and how many forecast windows of which length (0: no forecast)."""

    history_us: int = 0
    forecast_window_us: int = 0
    forecast_count: int = 0


@dataclass(frozen=True, slots=True)
class ForecastWindow:
    """Traffic expected in the window that starts at `start_us`; each a tuple of the quantiles p10, p50, p90, p97."""

    start_us: int
    requests: tuple[float, float, float, float]
    prompt_tokens: tuple[float, float, float, float]
    response_tokens: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model as the engine knows it.

    `instances_wanted` is the target in force. `concurrency` holds requests held and in flight over the last
    `Needs.history_us`, never empty where that is positive; `recommendations` what the policy recommended over the same
    span; `concurrency_target` is in requests an instance. `memo` is what the policy returned last time. `forecast` is
    empty when the policy asks for none or the predictor does not answer.
    """

    model: str
    now_us: int
    ready_count: int
    starting_count: int
    draining_count: int
    instances_wanted: int
    instances_min: int
    instances_max: int
    instances_initial: int
    concurrency_target: float
    load: ModelLoad
    concurrency: Samples
    recommendations: Samples = ()
    forecast: tuple[ForecastWindow, ...] = ()
    memo: Mapping[str, float] = field(default_factory=dict)

    def concurrency_mean(self, window_us: int) -> float:
        """Mean of the samples of the last `window_us`, that of the newest sample when none is so young."""
        young = [value for at_us, value in self.concurrency if at_us > self.now_us - window_us]
        return sum(young) / len(young) if young else self.concurrency[-1][1]


@dataclass(frozen=True, slots=True)
class Choice:
    """How many instances the policy wants before any limit, and why.

    `recommended` is remembered and comes back in `ModelView.recommendations`; `memo` comes back as it is. `inputs` are
    what was seen and computed, by name, and `reason` is one sentence for a reader.
    """

    instances_wanted: int
    recommended: int
    reason: str
    inputs: Mapping[str, float] = field(default_factory=dict)
    memo: Mapping[str, float] = field(default_factory=dict)


class Autoscaler(Protocol):
    """Chooses how many instances one model should have; the engine holds the answer to bounds, budget and steps."""

    @property
    def needs(self) -> Needs:
        """What the policy wants to see; the same for ever."""
        ...

    def choose(self, view: ModelView) -> Choice:
        """The wanted number of instances; the same view gives the same choice."""
        ...
