"""Fits constants of a profile to measured runs.

The schedule of a replay says which iterations lie between two tokens of a request; the time between them is linear in
the constants. So: replay, solve a bounded robust linear problem for all requests at once, replay with the new profile,
and stop when the constants stand still. A constant is fitted only if the runs identify it: if, beside those before it,
it explains something of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from forebay.core.instance import EngineFlags, EngineProfile
from forebay.core.units import PS_PER_S
from forebay.simulator.calibration.constants import FRONTEND, Constant, apply, durations_s, features
from forebay.simulator.calibration.replay import Replay, replay
from forebay.simulator.calibration.runs import Floats, Ints, Run
from forebay.simulator.calibration.steps import Steps

ROUNDS = 12
STILL = 2e-4
OWN_SHARE = 0.03
"""A constant whose column keeps less than this share of its length beside the columns before it is not identified."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The profile, what was added to which constant, which of them ended on a bound, and which no run identifies."""

    profile: EngineProfile
    values: dict[str, float]
    on_bound: tuple[str, ...]
    unidentified: tuple[str, ...]
    round_count: int


def fit(
    profile: EngineProfile,
    runs: Sequence[Run],
    constants: Sequence[Constant],
    flags: EngineFlags | None = None,
    until_s: float = np.inf,
    steps: Sequence[Steps] = (),
) -> Fitted:
    """Adds to the `constants` of `profile` what makes replays of `runs` agree best with what was measured.

    Requests count alike, whatever their length: what is made small is the relative error of the time to the first
    token and of the time between first and last, outliers counting less. Only requests that ended by `until_s` count.
    Measured iterations (`steps`) count like requests, one by one.
    """
    flags = EngineFlags() if flags is None else flags
    values = np.array([max(constant.least, 0.0) for constant in constants])
    current, kept = apply(profile, constants, values), np.arange(len(constants))
    round_count = 0
    for round_count in range(1, ROUNDS + 1):
        replays = [replay(run, current, flags) for run in runs]
        rows, target = _system(profile, runs, replays, constants, until_s)
        for measured in steps:
            more, times = _step_system(profile, measured, constants)
            rows, target = np.concatenate([rows, more]), np.concatenate([target, times])
        if round_count <= 2:
            kept = _identified(rows)
        values = _damped(values, _solve(rows, target, constants, kept), round_count)
        before, current = current, apply(profile, constants, values)
        if _moved(before, current, [modelled.shape for modelled in replays] + [each.shape for each in steps]) < STILL:
            break
    bounds = [c.name for i, c in enumerate(constants) if i in kept and not c.knots[1] and _on_bound(values[i], c)]
    lost = [constant.name for i, constant in enumerate(constants) if i not in kept and not constant.knots[1]]
    named = {constant.name: float(value) for constant, value in zip(constants, values, strict=True)}
    return Fitted(current, named, tuple(bounds), tuple(lost), round_count)


def _system(
    profile: EngineProfile,
    runs: Sequence[Run],
    replays: Sequence[Replay],
    constants: Sequence[Constant],
    until_s: float,
) -> tuple[Floats, Floats]:
    """Two equations a request: constants times features, and what is left of the measured time for them.

    Both sides are over the geometric mean of measured and modelled time, so that too slow by half and too fast by half
    count alike: over the measured time alone, noise would pull every constant down. What the first token is late by
    counts as a share of the whole request.
    """
    rows, target = [np.zeros((0, len(constants)))], [np.zeros(0)]
    for run, modelled in zip(runs, replays, strict=True):
        spent = _spent(profile, modelled.shape, constants)
        decode, first = _windows(modelled, np.column_stack([features(modelled.shape, constants), spent]))
        first[:, [i for i, c in enumerate(constants) if c.name == FRONTEND]] = 1.0
        first[:, -1] += 0.0 if _fits_frontend(constants) else profile.frontend_ps / PS_PER_S
        ended, several = run.last_s <= until_s, run.output_tokens > 1
        e2e_s = _mean(run.last_s - run.arrival_s, modelled.last_s - modelled.arrival_s)
        decode_s = _mean(run.last_s - run.first_s, modelled.last_s - modelled.first_s)
        for sums, measured_s, scale, used in (
            (first, run.first_s - run.arrival_s, e2e_s, ended),
            (decode, run.last_s - run.first_s, decode_s, ended & several),
        ):
            rows.append(sums[used, :-1] / scale[used, None])
            target.append((measured_s[used] - sums[used, -1]) / scale[used])
    return np.concatenate(rows), np.concatenate(target)


def _mean(measured_s: Floats, modelled_s: Floats) -> Floats:
    """Their geometric mean, and not nothing."""
    mean: Floats = np.sqrt(np.maximum(measured_s, 1e-6) * np.maximum(modelled_s, 1e-6))
    return mean


def _step_system(profile: EngineProfile, steps: Steps, constants: Sequence[Constant]) -> tuple[Floats, Floats]:
    """One equation an iteration, both sides over its measured length."""
    left_s = steps.duration_s - _spent(profile, steps.shape, constants)
    return features(steps.shape, constants) / steps.duration_s[:, None], left_s / steps.duration_s


def _spent(profile: EngineProfile, shape: Floats, constants: Sequence[Constant]) -> Floats:
    """Seconds of iterations that no constant stands for; a table stands for all of the profile's own."""
    spent = durations_s(profile, shape)
    if any(constant.knots[1] for constant in constants):
        spent = spent - np.array(profile.iteration_ps)[(shape[:, 0] + shape[:, 2]).astype(int)] / PS_PER_S
    return spent


def _fits_frontend(constants: Sequence[Constant]) -> bool:
    return any(constant.name == FRONTEND for constant in constants)


def _windows(modelled: Replay, columns: Floats) -> tuple[Floats, Floats]:
    """Sums of the columns over each request's iterations: from first to last token, and from arrival to first token.

    A request that arrives within an iteration waits for the part of it that is left.
    """
    total = np.vstack([np.zeros(columns.shape[1]), np.cumsum(columns, axis=0)])
    decode = total[modelled.last_iteration + 1] - total[modelled.first_iteration + 1]
    entered = np.searchsorted(modelled.end_s, modelled.arrival_s, side="right")
    entered = np.minimum(entered, modelled.first_iteration)
    length = np.maximum(modelled.end_s[entered] - modelled.start_s[entered], 1e-12)
    left = np.clip((modelled.end_s[entered] - modelled.arrival_s) / length, 0.0, 1.0)
    whole = total[modelled.first_iteration + 1] - total[entered + 1]
    return decode, whole + columns[entered] * left[:, None]


def _identified(rows: Floats) -> Ints:
    """Columns that are not nearly a mixture of those before them."""
    kept: list[int] = []
    basis = np.zeros((len(rows), 0))
    for index in range(rows.shape[1]):
        column = rows[:, index]
        length = np.linalg.norm(column)
        own = column - basis @ (basis.T @ column)
        if length > 0 and np.linalg.norm(own) > OWN_SHARE * length:
            kept.append(index)
            basis = np.column_stack([basis, own / np.linalg.norm(own)])
    return np.array(kept, dtype=np.int64)


def _solve(rows: Floats, target: Floats, constants: Sequence[Constant], kept: Ints) -> Floats:
    """Bounded least squares with outliers weighted down (soft L1), over the kept columns."""
    values = np.array([max(constant.least, 0.0) for constant in constants])
    bounds = (np.array([constants[i].least for i in kept]), np.array([constants[i].most for i in kept]))
    matrix = rows[:, kept]
    unit = np.maximum(np.linalg.norm(matrix, axis=0), 1e-30)
    weight = np.ones(len(target))
    for _ in range(8):
        scaled = (bounds[0] * unit, np.maximum(bounds[1] * unit, bounds[0] * unit + 1e-12))
        answer = lsq_linear(matrix / unit * weight[:, None], target * weight, scaled, method="bvls").x / unit
        residual = np.abs(matrix @ answer - target)
        spread = max(1.5 * float(np.median(residual)), 1e-6)
        weight = (1 + (residual / spread) ** 2) ** -0.25
    values[kept] = answer
    return values


def _damped(old: Floats, new: Floats, round_count: int) -> Floats:
    """The first rounds take the answer as it is; later ones half the way, so that no schedule swings for ever."""
    return new if round_count <= 4 else (old + new) / 2


def _moved(before: EngineProfile, after: EngineProfile, parts: Sequence[Floats]) -> float:
    """The relative change of all iterations' time together."""
    shapes = np.concatenate(parts)
    old, new = durations_s(before, shapes), durations_s(after, shapes)
    return (
        float(np.abs(new - old).sum() / max(old.sum(), 1e-12)) + abs(after.frontend_ps - before.frontend_ps) / PS_PER_S
    )


def _on_bound(value: float, constant: Constant) -> bool:
    close = 1e-9 + 1e-3 * abs(value)
    return abs(value - constant.least) <= close or abs(value - constant.most) <= close
