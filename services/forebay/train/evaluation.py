"""Follows predictors through examples as if these came live, and measures them beside what needs no model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import QUANTILE_LEVELS, LengthOutcome, mean_of
from forebay.core.values import LengthPrediction
from forebay.predictor.config import Config
from forebay.predictor.lengths.calibration import Calibration
from forebay.predictor.policy.length import LengthPredictor, PredictionFailed
from forebay.train.data import Examples
from forebay.train.folds import folds

SLICE_COUNT = 16
"""Predictions that are made before the first of their outcomes comes in."""
WARM_UP_SHARE = 0.2
"""The first of the examples only teach those who learn; nobody is scored on them."""
WARM_UP_COUNT_MIN = 100
FOLDS = 5
NEIGHBOUR_COUNT = 101
DEFAULTS = Config()
"""Bounds are calibrated as the predictor does where nobody configures it."""

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
LEVELS = np.array(QUANTILE_LEVELS)


@dataclass(frozen=True, slots=True)
class Predicted:
    """What one predictor said: quantiles [n, 4] in tokens, and scores [n] that order answers by their length."""

    name: str
    quantiles: Floats
    scores: Floats


@dataclass(frozen=True, slots=True)
class Figures:
    """How well one predictor did; answers that were cut are left out.

    `acc_50` and `acc_100` are the shares of medians within 50 and 100 tokens (as of PO-IT, arXiv 2305.13144), `tau` is
    Kendall's tau-b, `pinball_tokens` the mean pinball loss over the levels, `coverage_p90` the share of answers at
    or below p90, also in each tertile of the answers' lengths, and `reserve_ratio` the sum of the p90s over that of the
    lengths.
    """

    name: str
    count: int
    mae_tokens: float
    acc_50: float
    acc_100: float
    tau: float
    pinball_tokens: float
    coverage_p90: float
    coverage_tertiles: tuple[float, ...]
    reserve_ratio: float


def follow(name: str, policy: LengthPredictor, examples: Examples, *, learns: bool) -> Predicted:
    """Predicts the examples in order; with `learns`, each outcome teaches the policy and the bounds thereafter.

    Raises FailedPrecondition when the policy fails.
    """
    calibration = Calibration(
        DEFAULTS.calibration_window_count, DEFAULTS.calibration_alpha, DEFAULTS.calibration_count_min
    )
    found: list[tuple[float, ...]] = []
    try:
        for start in range(0, len(examples), SLICE_COUNT):
            queries = examples.queries[start : start + SLICE_COUNT]
            predictions = policy.predict(queries)
            if not learns:
                found += [_row(one) for one in predictions]
                continue
            for query, one in zip(queries, predictions, strict=True):
                bounds = calibration.bounded(query, one.quantiles)
                found.append((one.quantiles.p10, one.quantiles.p50, bounds.p90, bounds.p97, one.rank_score))
            outcomes = _outcomes(examples, start, len(queries))
            for outcome, one in zip(outcomes, predictions, strict=True):
                calibration.learn(outcome, one.quantiles)
            policy.observe(outcomes)
    except PredictionFailed as error:
        raise FailedPrecondition(f"{name} cannot predict these prompts: {error}") from error
    table = np.array(found, dtype=np.float64).reshape(-1, len(QUANTILE_LEVELS) + 1)
    return Predicted(name, table[:, :-1], table[:, -1])


def baselines(examples: Examples) -> tuple[Predicted, Predicted]:
    """What needs no model: the quantiles of all answers, and those of answers to prompts of about the same length.

    Both know the other folds of these very examples, by cross-validation over prompts, which is more than a predictor
    would know that starts with them.
    """
    constant = np.zeros((len(examples), len(QUANTILE_LEVELS)))
    by_length = constant.copy()
    models = np.array([query.model for query in examples.queries])
    prompts = np.log([max(1, query.prompt_tokens) for query in examples.queries])
    for fit, test in folds(examples.groups, FOLDS):
        if not test.any():
            continue
        fit = fit if fit.any() else test
        constant[test] = _quantiles(examples.tokens[fit])
        for model in sorted(set(models[test].tolist())):
            here, known = test & (models == model), fit & (models == model)
            known = known if known.any() else fit
            by_length[here] = _nearest(prompts[known], examples.tokens[known], prompts[here])
    named = (("constant", constant), ("length only", by_length))
    first, second = (Predicted(name, rows, np.array([mean_of(row) for row in rows.tolist()])) for name, rows in named)
    return first, second


def figures(predicted: Predicted, examples: Examples, mask: Flags) -> Figures:
    """The figures over the examples that the mask keeps and that were not cut; NaN where none is left."""
    kept = mask & examples.complete
    levels, actual = predicted.quantiles[kept], examples.tokens[kept]
    if not len(actual):
        return Figures(predicted.name, 0, *(math.nan,) * 6, (math.nan,) * 3, math.nan)
    errors = np.abs(levels[:, 1] - actual)
    under = actual[:, None] - levels
    covered = actual <= levels[:, 2]
    return Figures(
        name=predicted.name,
        count=len(actual),
        mae_tokens=float(errors.mean()),
        acc_50=float((errors <= 50).mean()),
        acc_100=float((errors <= 100).mean()),
        tau=_tau(predicted.scores[kept], actual),
        pinball_tokens=float(np.maximum(LEVELS * under, (LEVELS - 1) * under).mean()),
        coverage_p90=float(covered.mean()),
        coverage_tertiles=tuple(_share(covered[part]) for part in tertiles(actual)),
        reserve_ratio=float(levels[:, 2].sum() / max(1.0, actual.sum())),
    )


def tertiles(actual: Floats) -> tuple[npt.NDArray[np.int64], ...]:
    """The places of the shortest, middle and longest third of the answers."""
    return tuple(np.array_split(np.argsort(actual, kind="stable"), 3))


def scored(examples: Examples) -> Flags:
    """Marks what counts: all but the first fifth, and all where that is little."""
    first = int(WARM_UP_SHARE * len(examples))
    return np.arange(len(examples)) >= (first if len(examples) >= WARM_UP_COUNT_MIN else 0)


def parts(examples: Examples, keys: Sequence[str]) -> Mapping[str, Flags]:
    """The examples by the values of these fields of their queries, such as "application" and "model"."""
    labels = np.array([" ".join(str(getattr(query, key)) or "–" for key in keys) for query in examples.queries])
    return {label: labels == label for label in sorted(set(labels.tolist()))}


def _outcomes(examples: Examples, start: int, count: int) -> list[LengthOutcome]:
    return list(_outcomes_of(examples, range(start, start + count)))


def _outcomes_of(examples: Examples, places: range) -> Iterator[LengthOutcome]:
    complete = examples.complete
    for place in places:
        yield LengthOutcome(examples.queries[place], int(examples.tokens[place]), censored=not complete[place])


def _row(one: LengthPrediction) -> tuple[float, ...]:
    values = one.quantiles
    return (values.p10, values.p50, values.p90, values.p97, one.rank_score)


def _quantiles(tokens: Floats) -> Floats:
    found: Floats = np.quantile(tokens, QUANTILE_LEVELS)
    return found


def _nearest(known: Floats, tokens: Floats, asked: Floats) -> Floats:
    """Quantiles of the answers to the `NEIGHBOUR_COUNT` prompts of the nearest lengths."""
    order = np.argsort(known, kind="stable")
    known, tokens = known[order], tokens[order]
    count = min(NEIGHBOUR_COUNT, len(known))
    starts = np.clip(np.searchsorted(known, asked) - count // 2, 0, len(known) - count)
    values, places = np.unique(starts, return_inverse=True)
    return np.array([_quantiles(tokens[start : start + count]) for start in values])[places]


def _tau(scores: Floats, actual: Floats) -> float:
    found = float(kendalltau(scores, actual).statistic) if len(actual) > 1 else math.nan
    return 0.0 if math.isnan(found) else found


def _share(flags: Flags) -> float:
    return float(flags.mean()) if len(flags) else math.nan
