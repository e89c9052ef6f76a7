"""A forest reads a prompt's length and folded semantics, and learns anew every few minutes what it predicted badly."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import QUANTILE_LEVELS, LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.lengths.correction import Seen
from forebay.predictor.lengths.logs import logs_of, predictions_of, prompt_log
from forebay.predictor.lengths.nearest import Corrections
from forebay.predictor.lengths.snapshots import checked, table
from forebay.predictor.lengths.trees import NOTHING, Forest, grow
from forebay.predictor.policy.length.base import Key, PredictionFailed

Floats = npt.NDArray[np.float64]

LEVEL_COUNT = len(QUANTILE_LEVELS)
MEDIAN = QUANTILE_LEVELS.index(0.5)


class ShowingModel(Protocol):
    """A trained model that also shows what it read of each prompt."""

    def infer(self, queries: Sequence[InferenceRequest]) -> Floats:
        """Tokens at `QUANTILE_LEVELS`, then the features (columns), for each query. Raises PredictionFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """An outcome in logarithms: what the trained forest said at each level, what came, and how far to move next time.

    `query` has no text: it names the served model and the application, and says how long the prompt was.
    """

    query: InferenceRequest
    features: Floats
    predicted: Floats
    answer: float
    move: float


@dataclass(slots=True)
class Magnus:
    """The trained forest's quantiles, moved by a second forest, corrected by outcomes as those of any trained model.

    Source: Magnus (ICWS 2024, arXiv 2406.04785), as its public summaries tell it: every 3 minutes the forest is trained
    anew with what was predicted badly, more than 10 tokens and 10 % off. Here the trained forest stays, for its data
    does not travel with it, and every `relearn_s` another one is grown on the last `kept_count` outcomes: it says how
    far off the first one is. Outcomes within `error_tokens` or `error_share` count as if what was predicted had come,
    so they hold it where it is, as the training set does in Magnus. With `relearn_s` = 0 the first forest is all.
    """

    model: ShowingModel
    name: str = "magnus"
    window_count: int = 500
    count_min: int = 32
    relearn_s: float = 180.0
    kept_count: int = 1_000
    error_tokens: float = 10.0
    error_share: float = 0.1
    tree_count: int = 30
    leaf_count_min: int = 8
    seed: int = 0
    _corrections: Corrections = field(init=False, repr=False)
    _kept: deque[Kept] = field(init=False, repr=False)
    _moves: Forest = field(default=NOTHING, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count_min <= self.window_count <= 100_000:
            raise ValueError("1 <= count_min <= window_count <= 100000 must hold")
        if not (
            self.count_min <= self.kept_count <= 20_000 and 1 <= self.tree_count <= 500 and self.leaf_count_min >= 1
        ):
            raise ValueError("count_min <= kept_count <= 20000, 1 <= tree_count <= 500, leaf_count_min >= 1 must hold")
        if min(self.relearn_s, self.error_tokens, self.error_share) < 0:
            raise ValueError("relearn_s, error_tokens and error_share must not be negative")
        self._corrections = Corrections(self.window_count, self.count_min)
        self._kept = deque(maxlen=self.kept_count)

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """What the forests say of each query, corrected. Raises PredictionFailed."""
        logs, features = self._shown(queries)
        pairs = zip(queries, self._moved(logs, features), strict=True)
        corrected = np.array([self._corrected(query, found) for query, found in pairs]).reshape(-1, LEVEL_COUNT)
        return predictions_of(queries, corrected, self.name)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Keeps each outcome for the next time, and corrects by it at once. Raises PredictionFailed."""
        logs, features = self._shown([outcome.query for outcome in outcomes])
        for outcome, row, read, moved in zip(outcomes, logs, features, self._moved(logs, features), strict=True):
            said = float(self._corrected(outcome.query, moved)[MEDIAN])
            answer = math.log1p(outcome.generated_tokens)
            answer = max(answer, said) if outcome.censored else answer
            query = replace(outcome.query, request_id="", prompt_head="", tenant="")
            move = (answer if self._is_bad(said, answer) else said) - float(row[MEDIAN])
            self._kept.append(Kept(query, read, row, answer, move))
            self._corrections.add(query, Seen(moved, prompt_log(query), answer))

    def relearn(self) -> None:
        """See `Relearning`. Corrections start anew from what trees that have not seen them say of the outcomes."""
        kept = tuple(self._kept)
        if len(kept) < self.count_min or not self.relearn_s:
            return
        features = np.array([one.features for one in kept])
        chance = np.random.default_rng(self.seed)
        self._moves = grow(features, np.array([one.move for one in kept]), self.tree_count, self.leaf_count_min, chance)
        self._corrections = Corrections(self.window_count, self.count_min)
        for one, move in zip(kept, self._moves.of_grown(features), strict=True):
            self._corrections.add(one.query, Seen(one.predicted + move, prompt_log(one.query), one.answer))

    def saved(self) -> Iterator[tuple[Key, Floats]]:
        """See `Lasting`. Numbers that were read off prompts, none of their words."""
        rows: dict[Key, list[tuple[float, ...]]] = {}
        for one in tuple(self._kept):
            told = (float(one.query.prompt_tokens), one.answer, one.move, *one.predicted, *one.features)
            rows.setdefault((one.query.model, one.query.application), []).append(told)
        for key, found in rows.items():
            yield key, table(found, len(found[0]))

    def restore(self, key: Key, rows: Floats) -> None:
        """See `Lasting`. The second forest is grown at the next time."""
        model, application = key
        width = rows.shape[1] if rows.ndim == 2 else 0
        if width <= 3 + LEVEL_COUNT:
            raise ValueError(f"a snapshot of shape {rows.shape} is none of a forest's outcomes")
        for tokens, answer, move, *numbers in checked(rows, width):
            query = InferenceRequest("", model, int(tokens), application=application)
            predicted, features = np.array(numbers[:LEVEL_COUNT]), np.array(numbers[LEVEL_COUNT:])
            self._kept.append(Kept(query, features, predicted, answer, move))
            self._corrections.add(query, Seen(predicted, prompt_log(query), answer))

    def _is_bad(self, said: float, answer: float) -> bool:
        tokens, off = math.expm1(answer), abs(math.expm1(answer) - math.expm1(said))
        return off > self.error_tokens and off > self.error_share * tokens

    def _shown(self, queries: Sequence[InferenceRequest]) -> tuple[Floats, Floats]:
        rows = self.model.infer(queries)
        if not np.isfinite(rows).all():
            raise PredictionFailed("the model gave a number that is not finite")
        return logs_of(rows[:, :LEVEL_COUNT]), rows[:, LEVEL_COUNT:]

    def _moved(self, logs: Floats, features: Floats) -> Floats:
        found: Floats = logs + self._moves.of(features)[:, None]
        return found

    def _corrected(self, query: InferenceRequest, logs: Floats) -> Floats:
        return self._corrections.of(query).apply(logs, prompt_log(query))
