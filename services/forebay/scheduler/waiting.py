"""How long held requests wait, by what is ahead of them, with a bound that holds for almost all."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import mean_of
from forebay.core.values import LengthQuantiles

Z = 1.64
"""Standard deviations that the bound lies above the mean: 95 of 100 waits are shorter, if many are ahead."""
WEIGHTS = (0.10, 0.40, 0.40, 0.07, 0.03)
"""What the parts of the quantile curve weigh, core/prediction.py."""

Column = npt.NDArray[np.float64]


class Work(NamedTuple):
    """Tokens still to be generated: what is expected, and its variance. Work adds up, since lengths are independent."""

    mean_tokens: float = 0.0
    variance: float = 0.0

    def plus(self, other: "Work") -> "Work":
        """Both together."""
        return Work(self.mean_tokens + other.mean_tokens, self.variance + other.variance)


def work_of(predicted: LengthQuantiles) -> Work:
    """One answer of this predicted distribution, by the quantile curve of core/prediction.py."""
    values = (predicted.p10, predicted.p50, predicted.p90, predicted.p97)
    p10, _, p90, p97 = values
    ends = (0.5 * p10, *values, p97 + (p97 - p90) * 3 / 7)
    mean = mean_of(values)
    pairs = zip(WEIGHTS, ends, ends[1:], strict=False)
    squares = sum(weight * (low * low + low * high + high * high) / 3 for weight, low, high in pairs)
    return Work(mean, max(0.0, squares - mean * mean))


def wait_s(ahead: Work, tokens_per_s: float, z: float = Z, prefill_s: float = 0.0) -> float:
    """How long the work ahead takes at the pace of all instances together, at most, as sure as `z` says; 0: on average.

    The sum of many independent lengths is nearly normal whatever they are distributed as, so with m and v their means
    and variances added up the bound is (m + z sqrt(v)) / pace, and relative to the mean it shrinks as one over the
    root of how many are ahead (QLM and Chiron, section 6 of Chiron's summary; sums of means and variances instead of
    one distribution for all are ours). Endless where nothing is generated.
    """
    if tokens_per_s <= 0:
        return math.inf if ahead.mean_tokens > 0 else prefill_s
    return (ahead.mean_tokens + z * math.sqrt(ahead.variance)) / tokens_per_s + prefill_s


def waits_s(means: Column, variances: Column, tokens_per_s: float, z: float = Z) -> Column:
    """The same for each request of a queue, in its order: it waits for those before it."""
    ahead = np.concatenate(([0.0], np.cumsum(means)[:-1]))
    spread = np.concatenate(([0.0], np.cumsum(variances)[:-1]))
    if tokens_per_s <= 0:
        return np.where(ahead > 0, math.inf, 0.0)
    waits: Column = (ahead + z * np.sqrt(spread)) / tokens_per_s
    return waits
