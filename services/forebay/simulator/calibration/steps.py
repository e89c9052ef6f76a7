"""Measured iterations from files: a row an iteration with what it computed and how long it took."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.instance import EngineProfile
from forebay.simulator.calibration.constants import durations_s
from forebay.simulator.calibration.rows import number, read_rows, time_s
from forebay.simulator.calibration.runs import MS, US, Floats, S

DURATIONS = {"step_s": S, "step_ms": MS, "step_us": US}
COUNTS = ("decode_count", "context_tokens", "prompt_tokens", "cached_tokens")
"""B, K, P, and the tokens that lie in the cache before P (0 where the column is missing)."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Measured iterations: `shape` as in `constants.SHAPE`, and their lengths in seconds."""

    name: str
    shape: Floats
    duration_s: Floats


@dataclass(frozen=True, slots=True)
class StepErrors:
    """Errors of measured iterations in percent: of their sum, and the median over iterations, unsigned."""

    run: str
    step_count: int
    total: float
    step: float


def holds_steps(path: Path) -> bool:
    """Whether a file has a row an iteration, not a row a request."""
    return any(name in row for _, row in read_rows(path) for name in DURATIONS)


def read_steps(path: Path) -> Steps:
    """The iterations of a CSV, JSON lines or Parquet file; raises ConfigError naming file and line."""
    parsed = [_parse(f"{path}:{line}", row) for line, row in read_rows(path)]
    if not parsed:
        raise ConfigError(f"{path}: no rows; step timings need a row an iteration")
    table = np.array(parsed)
    return Steps(path.name, table[:, :4], table[:, 4])


def step_errors(steps: Steps, profile: EngineProfile) -> StepErrors:
    """Compares measured iterations with those of `profile`."""
    ours = durations_s(profile, steps.shape)
    total = 100 * (ours.sum() / steps.duration_s.sum() - 1)
    each = 100 * np.median(np.abs(ours / steps.duration_s - 1))
    return StepErrors(steps.name, len(ours), round(float(total), 3), round(float(each), 3))


def _parse(where: str, row: Mapping[str, Any]) -> tuple[float, ...]:
    decodes, context, prompt, cached = (
        number(where, name, row.get(name) if row.get(name) not in (None, "") else 0) for name in COUNTS
    )
    duration_s = time_s(where, row, DURATIONS)
    if min(decodes, context, prompt, cached) < 0 or decodes + prompt < 1 or duration_s <= 0:
        raise ConfigError(f"{where}: an iteration has decodes or prompt tokens, and takes time")
    return decodes, context, prompt, prompt * (2 * cached + prompt + 1), duration_s
