"""What each predictor promises: its quantiles with bounds that hold, and where they do not hold now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from forebay.core.prediction import LengthOutcome, PredictorModel, mean_of
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.predictor.lengths.accuracy import Accuracy
from forebay.predictor.lengths.calibration import Calibration
from forebay.predictor.lengths.care import Care
from forebay.predictor.lengths.snapshots import Floats, Key
from forebay.predictor.policy.length import LengthPredictor

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[P]):
    """A model that can answer now: its description and its policy.

    One that is `is_plain` says what it says: its bounds are neither shifted nor watched. One that `is_slow` takes more
    than a few milliseconds a prompt, too long for an event loop.
    """

    model: PredictorModel
    policy: P
    is_plain: bool = False
    is_slow: bool = False

    @property
    def label(self) -> str:
        """Name and version, such as "onnx_quantile@3"."""
        return label(self.model)


def label(model: PredictorModel) -> str:
    """Name and version of a model as predictions carry them."""
    return f"{model.name}@{model.version}" if model.version else model.name


class Bounds:
    """A calibration for each predictor that answers or is measured."""

    def __init__(self, care: Care, accuracy: Accuracy) -> None:
        self._care = care
        self._accuracy = accuracy
        self._calibrations: dict[str, Calibration] = {}

    def promised(self, by: Loaded[LengthPredictor], queries: Sequence[InferenceRequest]) -> list[LengthPrediction]:
        """What the predictor answers, by its label and with its bounds shifted. Raises PredictionFailed.

        The score that orders is left alone: a shift of the tail is the same for all queries of a kind.
        """
        found = by.policy.predict(queries)
        calibration, name = self._calibration(by), by.label
        return [_promise(calibration, query, raw, name) for query, raw in zip(queries, found, strict=True)]

    def broken(self, by: Loaded[LengthPredictor], queries: Sequence[InferenceRequest]) -> frozenset[int]:
        """The places of the queries for which the predictor's bounds do not hold now."""
        name = by.label
        if by.is_plain or not self._accuracy.has_alarm(name):
            return frozenset()
        return frozenset(index for index, query in enumerate(queries) if self._accuracy.is_ringing(name, query))

    def learned(self, by: Loaded[LengthPredictor], outcomes: Sequence[LengthOutcome]) -> list[LengthQuantiles]:
        """What the predictor would have promised for each; then its bounds learn what came. Raises PredictionFailed."""
        found = by.policy.predict([outcome.query for outcome in outcomes])
        calibration = self._calibration(by)
        if calibration is None:
            return [raw.quantiles for raw in found]
        expected = []
        for outcome, raw in zip(outcomes, found, strict=True):
            expected.append(calibration.bounded(outcome.query, raw.quantiles))
            calibration.learn(outcome, raw.quantiles)
        return expected

    def saved(self, by: Loaded[LengthPredictor]) -> Iterator[tuple[Key, Floats]]:
        """What the bounds of a predictor have learnt, a key at a time."""
        calibration = self._calibrations.get(by.label)
        return calibration.saved() if calibration else iter(())

    def restore(self, by: Loaded[LengthPredictor], key: Key, rows: Floats) -> None:
        """Takes what was saved of a key. Raises ValueError for what was not."""
        calibration = self._calibration(by)
        if calibration is not None:
            calibration.restore(key, rows)

    def forget(self, name: str) -> None:
        """Drops what was learned of a predictor."""
        self._calibrations.pop(name, None)

    def _calibration(self, by: Loaded[LengthPredictor]) -> Calibration | None:
        care = self._care
        if by.is_plain or not care.window_count:
            return None
        name = by.label
        if name not in self._calibrations:
            self._calibrations[name] = Calibration(care.window_count, care.alpha, care.count_min)
        return self._calibrations[name]


def _promise(
    calibration: Calibration | None, query: InferenceRequest, raw: LengthPrediction, name: str
) -> LengthPrediction:
    quantiles = raw.quantiles
    bounded = calibration.bounded(query, quantiles) if calibration else quantiles
    if bounded is quantiles or bounded == quantiles:
        return LengthPrediction(quantiles, raw.rank_score, raw.mean_tokens, name)
    values = (bounded.p10, bounded.p50, bounded.p90, bounded.p97)
    mean = mean_of(values)
    return LengthPrediction(bounded, raw.rank_score, min(mean, query.tokens_max or mean), name)
