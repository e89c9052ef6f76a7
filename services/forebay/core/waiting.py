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


def works_of(lengths: npt.NDArray[np.int64]) -> tuple[Column, Column]:
    """The means and variances of many answers: a row for each of p10, p50, p90 and p97, a column for each answer."""
    p10, p50, p90, p97 = lengths.astype(np.float64)
    ends = (0.5 * p10, p10, p50, p90, p97, p97 + (p97 - p90) * 3 / 7)
    means, squares = np.zeros_like(p10), np.zeros_like(p10)
    for weight, low, high in zip(WEIGHTS, ends, ends[1:], strict=False):
        means += weight * (low + high) / 2
        squares += weight * (low * low + low * high + high * high) / 3
    return means, np.maximum(0.0, squares - means * means)


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


class Queue(NamedTuple):
    """Groups of deferred work in the order of their deadlines: what each needs, and the seconds that it has left."""

    work: tuple[Work, ...]
    left_s: tuple[float, ...]


def groups_in_danger(queue: Queue, pace: float, instances: float, z: float = Z) -> int:
    """How many groups are due before they are done, by the bound, when so many instances work at `pace` tokens/s each.

    Chiron's batch back-pressure (section 7 of its summary); room that is spare on mixed instances counts as a part.
    """
    ahead, count = Work(), 0
    for work, left_s in zip(queue.work, queue.left_s, strict=True):
        ahead = ahead.plus(work)
        count += wait_s(ahead, pace * instances, z) > left_s
    return count


def instances_to_add(queue: Queue, pace: float, serving: float, load_s: float, z: float = Z) -> tuple[int, int]:
    """The fewest instances more with which every group that can still be saved is done in time; and how many are lost.

    Those that serve work from now on, those added after `load_s`. With work_g the bound of all up to g in
    instance-seconds and R_g what is left: (work_g - serving R_g) / (R_g - load_s), rounded up; lost where R_g is no
    more than load_s. The most over the groups that are not lost (Chiron's summary, section 7, the closed form is ours).
    """
    ahead, add, lost = Work(), 0, 0
    for work, left_s in zip(queue.work, queue.left_s, strict=True):
        ahead = ahead.plus(work)
        short = wait_s(ahead, pace, z) - serving * max(left_s, 0.0)
        if short <= 0:
            continue
        if left_s <= load_s:
            lost += 1
        else:
            add = max(add, math.ceil(short / (left_s - load_s)))
    return add, lost
