"""How long prompts and answers are: models to draw lengths from."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol, TypeAlias

import numpy as np

from forebay.simulator.workload.base import Ints, Workload


class Lengths(Protocol):
    """Draws lengths in tokens."""

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The prompt and output tokens of so many requests, each at least 1."""
        ...


@dataclass(frozen=True, slots=True)
class FixedLengths:
    """Every prompt and every answer alike."""

    prompt_tokens: int = 1_024
    output_tokens: int = 256

    def __post_init__(self) -> None:
        if min(self.prompt_tokens, self.output_tokens) < 1:
            raise ValueError("prompt_tokens and output_tokens must be at least 1")

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """See `Lengths`."""
        return np.full(count, self.prompt_tokens), np.full(count, self.output_tokens)


@dataclass(frozen=True, slots=True)
class LognormalLengths:
    """Log-normal lengths given by their median and 90 % quantile, cut at the maxima; prompt and answer are independent.

    The defaults are near the medians and 90 % quantiles of the Azure LLM inference trace 2023, conversation.
    """

    prompt_p50: float = 1_020.0
    prompt_p90: float = 2_734.0
    prompt_max: int = 16_384
    output_p50: float = 129.0
    output_p90: float = 424.0
    output_max: int = 2_048

    def __post_init__(self) -> None:
        if not (1 <= self.prompt_p50 <= self.prompt_p90 and 1 <= self.output_p50 <= self.output_p90):
            raise ValueError("medians must be at least 1, and 90 % quantiles not below them")
        if min(self.prompt_max, self.output_max) < 1:
            raise ValueError("prompt_max and output_max must be at least 1")

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """See `Lengths`."""
        return (
            _lognormal(self.prompt_p50, self.prompt_p90, self.prompt_max, rng.standard_normal(count)),
            _lognormal(self.output_p50, self.output_p90, self.output_max, rng.standard_normal(count)),
        )


@dataclass(frozen=True, slots=True)
class SampledLengths:
    """Pairs of prompt and answer drawn from those of another workload, with replacement."""

    source: Workload

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """See `Lengths`."""
        rows = rng.integers(len(self.source), size=count)
        return self.source.prompt_tokens[rows], self.source.output_tokens[rows]


LengthModel: TypeAlias = type[FixedLengths] | type[LognormalLengths] | type[SampledLengths]

LENGTHS: Mapping[str, LengthModel] = {
    "fixed": FixedLengths,
    "lognormal": LognormalLengths,
    "sampled": SampledLengths,
}


def _lognormal(p50: float, p90: float, most: int, normal: np.ndarray) -> Ints:
    sigma = np.log(p90 / p50) / NormalDist().inv_cdf(0.9)
    tokens: Ints = np.clip(np.rint(p50 * np.exp(sigma * normal)), 1, most).astype(np.int64)
    return tokens
