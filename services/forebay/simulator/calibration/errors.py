"""How far a replay is from what was measured."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.simulator.calibration.replay import Replay
from forebay.simulator.calibration.runs import Floats, Run

METRICS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Error:
    """Errors of one latency in percent: of the mean, of two quantiles, and the median over requests, unsigned."""

    mean: float
    p50: float
    p99: float
    request: float


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one run in percent; positive means that the model is too slow."""

    run: str
    request_count: int
    ttft: Error
    tpot: Error
    e2e: Error
    makespan: float


def errors(run: Run, modelled: Replay, rows: npt.NDArray[np.bool_] | None = None) -> Errors:
    """Compares a run with its replay, on `rows` alone where given."""
    chosen = np.ones(len(run), dtype=bool) if rows is None else rows
    real = latencies(run.arrival_s, run.first_s, run.last_s, run.output_tokens)
    ours = latencies(modelled.arrival_s, modelled.first_s, modelled.last_s, run.output_tokens)
    found = {name: _error(real[name][chosen], ours[name][chosen]) for name in METRICS}
    makespan = 100 * (modelled.last_s.max() / run.last_s.max() - 1)
    return Errors(run.name, int(chosen.sum()), **found, makespan=float(makespan))


def latencies(
    arrival_s: Floats, first_s: Floats, last_s: Floats, output_tokens: npt.NDArray[np.int64]
) -> dict[str, Floats]:
    """TTFT, TPOT (not a number where there is one token) and E2E of each request in seconds."""
    gaps = np.where(output_tokens > 1, output_tokens - 1, np.nan)
    return {"ttft": first_s - arrival_s, "tpot": (last_s - first_s) / gaps, "e2e": last_s - arrival_s}


def _error(real: Floats, ours: Floats) -> Error:
    counted = ~np.isnan(real)
    if not counted.any():
        return Error(*[float("nan")] * 4)
    real, ours = real[counted], ours[counted]
    of_quantiles = [np.quantile(ours, q) / np.quantile(real, q) - 1 for q in (0.5, 0.99)]
    each = np.median(np.abs(ours / np.maximum(real, 1e-9) - 1))
    return Error(*(round(100 * float(x), 3) for x in (ours.mean() / real.mean() - 1, *of_quantiles, each)))
