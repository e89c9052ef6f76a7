"""Arrival times of renewal processes whose rate follows a clock of its own."""

import numpy as np
import numpy.typing as npt

from forebay.core.units import US_PER_S
from forebay.simulator.workload.base import Ints

Floats = npt.NDArray[np.float64]
SPARE_GAPS = 64


def gamma_gaps(cv: float, count: int, rng: np.random.Generator) -> Floats:
    """Gaps of mean 1 and the given coefficient of variation: gamma distributed, 1 is exponential, 0 is even."""
    if cv == 0:
        return np.ones(count)
    shape = cv**-2
    return rng.gamma(shape, 1 / shape, count)


def renewal_times_us(rates_per_s: Floats, step_s: float, cv: float, rng: np.random.Generator) -> Ints:
    """Arrivals in microseconds under a rate that is constant for `step_s` at a time.

    Gaps are drawn at rate 1 and then stretched by the rate of their time, so that the expected count is exact and gaps
    keep their variation. The process has been running before the start.
    """
    passed = np.concatenate([[0.0], np.cumsum(rates_per_s * step_s)])
    points = _unit_points(float(passed[-1]), cv, rng)
    edges_s = np.arange(len(passed)) * step_s
    times: Ints = (np.interp(points, passed, edges_s) * US_PER_S).astype(np.int64)
    return times


def _unit_points(end: float, cv: float, rng: np.random.Generator) -> Floats:
    points = np.array([_first_gap(cv, rng)])
    while points[-1] < end:
        missing = end - points[-1]
        more = gamma_gaps(cv, int(missing + 4 * (1 + cv) * np.sqrt(missing)) + SPARE_GAPS, rng)
        points = np.concatenate([points, points[-1] + np.cumsum(more)])
    below: Floats = points[points < end]
    return below


def _first_gap(cv: float, rng: np.random.Generator) -> float:
    """What is left of the gap that holds a moment chosen at random: a gap drawn by its length, cut evenly.

    A gamma distribution of shape k, weighted by its values, is one of shape k + 1.
    """
    shape = cv**-2 if cv else np.inf
    whole = rng.gamma(shape + 1, 1 / shape) if cv else 1.0
    return float(rng.uniform() * whole)
