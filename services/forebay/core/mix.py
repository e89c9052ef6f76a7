"""Requests by length: a few points that keep what the tails of both lengths do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import QUANTILE_LEVELS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Samples: TypeAlias = Sequence[int] | Sequence[float] | Floats | Ints

POWER = 2.5
"""How few requests the tiers at both ends hold: of seven, the last has one in a hundred."""
LONGEST_SHARE, LONGEST_COUNT = 0.01, 10
"""So many points are for that share of the requests, those with the longest prompts."""
_LEVELS = 9


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """Requests by length: points of prompt and response tokens, and what share of the requests each stands for.

    `part` is what the points are of all requests, where some were left out.
    """

    prompt_tokens: Floats
    response_tokens: Floats
    shares: Floats
    part: float = 1.0

    @staticmethod
    def of_samples(prompts: Samples, responses: Samples, point_count: int = 64) -> "Mix":
        """The mix of pairs that were seen, in about `point_count` points that keep the tails of both lengths.

        Raises ValueError without any, or for lists of unequal length.
        """
        prompt, response = np.asarray(prompts, dtype=np.float64), np.asarray(responses, dtype=np.float64)
        if not len(prompt) or len(prompt) != len(response):
            raise ValueError("a mix needs as many prompts as responses, and at least one")
        if len(prompt) <= point_count:
            return Mix(prompt, response, np.full(len(prompt), 1.0 / len(prompt)))
        # A few long prompts make everybody else late: the longest are points of their own, by length.
        longest = prompt >= np.quantile(prompt, 1.0 - LONGEST_SHARE)
        steps = np.geomspace(prompt[longest].min(), prompt[longest].max() * 1.001, LONGEST_COUNT + 1)
        rows = max(1, round(math.sqrt(point_count - LONGEST_COUNT)))
        columns = max(1, (point_count - LONGEST_COUNT) // rows)
        cells = np.where(longest, rows * columns + np.searchsorted(steps, prompt, side="right") - 1, 0)
        by_response = _tiers(response[~longest], rows)
        places = np.flatnonzero(~longest)
        for tier in range(rows):
            mine = places[by_response == tier]
            cells[mine] = tier * columns + _tiers(prompt[mine], columns)
        counts = np.bincount(cells)
        used = counts > 0
        means = [np.bincount(cells, column)[used] / counts[used] for column in (prompt, response)]
        return Mix(means[0], means[1], counts[used] / len(prompt))

    @staticmethod
    def of_quantiles(prompt: Sequence[float], response: Sequence[float]) -> "Mix":
        """The mix of two independent lengths given by their p10, p50, p90 and p97, as forecasts tell them."""
        one, other = _curve(prompt), _curve(response)
        grid = np.meshgrid(one, other)
        return Mix(grid[0].ravel(), grid[1].ravel(), np.full(len(one) * len(other), 1.0 / (len(one) * len(other))))

    def up_to(self, tokens: int) -> "Mix | None":
        """Those requests of which prompt and response together fit into so many tokens; None where there are none."""
        inside = self.prompt_tokens + self.response_tokens <= tokens
        if inside.all():
            return self
        part = float(self.shares[inside].sum())
        if part <= 0:
            return None
        columns = (self.prompt_tokens[inside], self.response_tokens[inside], self.shares[inside] / part)
        return Mix(*columns, self.part * part)

    def draw(self, count: int, seed: int) -> tuple[Ints, Ints]:
        """Prompt and response tokens of so many requests of the mix."""
        picked = np.random.default_rng(seed).choice(len(self.shares), count, p=self.shares / self.shares.sum())
        columns = (self.prompt_tokens[picked], self.response_tokens[picked])
        prompts, responses = (np.maximum(np.rint(one), 1).astype(np.int64) for one in columns)
        return prompts, responses

    @property
    def prompt_mean(self) -> float:
        """Mean prompt in tokens."""
        return float(self.prompt_tokens @ self.shares)

    @property
    def response_mean(self) -> float:
        """Mean response in tokens."""
        return float(self.response_tokens @ self.shares)


def _tiers(values: Floats, count: int) -> npt.NDArray[np.int64]:
    """The tier of each value; the first and last hold few, so that both tails stay apart."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    parts = np.arange(1, count) / count
    bounds = parts**POWER / (parts**POWER + (1.0 - parts) ** POWER)
    return np.searchsorted(bounds, order / len(values), side="right")


def _curve(values: Sequence[float]) -> Floats:
    """Points of equal weight of a distribution given by its quantiles, straight between them (core/prediction.py)."""
    p10, p50, p90, p97 = values
    levels = (0.0, *QUANTILE_LEVELS, 1.0)
    ends = (0.5 * p10, p10, p50, p90, p97, p97 + (p97 - p90) * 3 / 7)
    middles = (np.arange(_LEVELS) + 0.5) / _LEVELS
    points: Floats = np.maximum(1.0, np.interp(middles, levels, ends))
    return points
