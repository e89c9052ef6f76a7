"""How well a model does on test prompts, beside what needs no text: a constant and the prompt's length alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from forebay.train.data import Examples, Split

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """One set's test prompts: mean absolute errors in tokens, and the share of answers at or below each quantile.

    The constant is the median of the set's training answers; length only is boosted trees on the prompt's tokens.
    """

    name: str
    count: int
    mae_tokens: float
    mae_constant: float
    mae_length_only: float
    coverage_p10: float
    coverage_p90: float
    coverage_p97: float


def score(parts: Split, predicted: Vector) -> tuple[Score, ...]:
    """One score a set by name, one for each model where a set has several, and one for all together.

    `predicted` are the quantiles of the test examples.
    """
    baselines = np.zeros((len(parts.test), 2))
    names = sorted(set(parts.test.sources.tolist()))
    for name in names:
        here = parts.test.sources == name
        baselines[here] = _without_text(parts.train.where(parts.train.sources == name), parts.test.where(here))
    masks = [pair for name in names for pair in _masks(parts.test, name)]
    masks.append(("all", np.ones(len(parts.test), dtype=bool)))
    return tuple(_score(name, parts.test.tokens[mask], predicted[mask], baselines[mask]) for name, mask in masks)


def _masks(test: Examples, name: str) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    here = test.sources == name
    models = np.array([query.model for query in test.queries])
    several = sorted(set(models[here].tolist()))
    inside = [(f"{name} {model}", here & (models == model)) for model in several]
    return [(name, here), *(inside if len(several) > 1 else [])]


def _without_text(train: Examples, test: Examples) -> Vector:
    trees = HistGradientBoostingRegressor(loss="absolute_error", max_iter=100, random_state=0)
    trees.fit(_lengths(train), train.tokens)
    constant = np.full(len(test), np.median(train.tokens))
    return np.column_stack((constant, trees.predict(_lengths(test))))


def _lengths(examples: Examples) -> Vector:
    return np.array([[query.prompt_tokens] for query in examples.queries], dtype=np.float64)


def _score(name: str, tokens: Vector, predicted: Vector, baselines: Vector) -> Score:
    points = np.column_stack((predicted[:, 1], baselines))
    errors = np.abs(points - tokens[:, None]).mean(axis=0)
    covered = (tokens[:, None] <= np.round(predicted)).mean(axis=0)
    figures = (*errors, covered[0], covered[2], covered[3])
    return Score(name, len(tokens), *(round(float(figure), 4) for figure in figures))
