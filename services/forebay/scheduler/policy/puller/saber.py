"""SABER's gate: as many requests as still leave each of them the speed that its promise needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, sqrt

import numpy as np
import numpy.typing as npt

from forebay.scheduler.policy.puller.base import UNLIMITED, Measured, PullView

FIT_COUNT_MIN = 3
"""The law has three constants: with fewer loads seen, the time between tokens is taken to grow with the load."""


@dataclass(frozen=True, slots=True)
class Saber:
    """Lets a request in while `f(load + 1)` is at least the speed that it and all that run need (SABER's rule, [R]).

    The rule is that of section 3 of the summary of related work. f is the speed of one request by Gunther's universal
    scalability law, fitted to what the instance showed: 1 / f(n) = a + b (n - 1) + c n (n - 1), none below 0. Needed is
    the fastest of: what the classes that run are promised, what those with a deadline of their own have left by it,
    and `candidate_tokens_per_s`, which any that may come needs; its default is the promise of interactive classes.

    The paper's second queue for what cannot be in time is the orderer's and the admission's here. Ours: the step, that
    the load at most doubles in one, and `start_count` while nothing was seen.
    """

    step_s: float = 2.0
    start_count: int = 16
    candidate_tokens_per_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.step_s <= 3_600:
            raise ValueError("step_s must be 0.1 to 3,600")
        if self.start_count < 1:
            raise ValueError("start_count must be at least 1")
        if self.candidate_tokens_per_s <= 0:
            raise ValueError("candidate_tokens_per_s must be positive")

    def cap(self, view: PullView) -> int:
        """The most requests at which each is fast enough, at least 1."""
        before, seen = view.cap or self.start_count, view.measured
        count = before if seen is None or not seen.itls else self._most(before, seen)
        most = min(view.concurrency_max or UNLIMITED, view.kv_count_max or UNLIMITED)
        return max(1, min(count, most))

    def _most(self, before: int, seen: Measured) -> int:
        itl_s = 1 / max(seen.needed_tokens_per_s, self.candidate_tokens_per_s)
        return min(largest(fitted(seen.itls), itl_s), 2 * before)


def fitted(itls: Sequence[tuple[int, float]]) -> npt.NDArray[np.float64]:
    """The constants a, b, c of the time between tokens by load, none negative; zero where too little was seen."""
    counts, values = np.array(itls, dtype=np.float64).T
    if len(counts) < FIT_COUNT_MIN:
        # Nothing is known of how it grows: in proportion to the load, as where throughput stands still.
        slope = float((values / counts).max())
        return np.array([slope, slope, 0.0])
    columns = np.stack((np.ones_like(counts), counts - 1, counts * (counts - 1)), axis=1)
    kept = [0, 1, 2]
    while True:
        found = np.linalg.lstsq(columns[:, kept], values, rcond=None)[0]
        if len(kept) == 1 or found.min() >= 0:
            constants = np.zeros(3)
            constants[kept] = found
            return constants
        del kept[int(found.argmin())]


def largest(constants: npt.NDArray[np.float64], itl_s: float) -> int:
    """The most requests at which the time between tokens is at most `itl_s`; 0 where it is longer with one already."""
    a, b, c = (float(one) for one in constants)
    room = itl_s - a
    if room < 0:
        return 0
    if c > 0:
        # c n^2 + (b - c) n - (b + room) = 0
        return floor((c - b + sqrt((b - c) ** 2 + 4 * c * (b + room))) / (2 * c) + 1e-9)
    return floor(room / b + 1 + 1e-9) if b > 0 else UNLIMITED
