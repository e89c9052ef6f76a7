"""The predictor's state: which models there are, which of them answer, what was learned and how well it went."""

import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from forebay.core.errors import NotFound
from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.policy.forecaster import Forecaster
from forebay.predictor.policy.length import LengthPredictor, PredictionFailed

P = TypeVar("P")

SLICE_COUNT = 16
"""Queries or outcomes handled in one step: few enough that a step ends within about 2 ms."""
REQUEST_IDS_MAX = 10_000
ACCURACY_COUNT = 500


@dataclass(frozen=True, slots=True)
class Loaded(Generic[P]):
    """A model that can answer now: its description and its policy."""

    model: PredictorModel
    policy: P

    @property
    def label(self) -> str:
        """Name and version, such as "onnx_quantile@3"."""
        return label(self.model)


def label(model: PredictorModel) -> str:
    """Name and version of a model as predictions carry them."""
    return f"{model.name}@{model.version}" if model.version else model.name


class Accuracy:
    """How well the last `ACCURACY_COUNT` predictions went, whoever made them; cut answers are left out."""

    def __init__(self) -> None:
        self._errors: deque[tuple[int, bool]] = deque(maxlen=ACCURACY_COUNT)

    def add(self, outcome: LengthOutcome) -> None:
        """Takes one outcome."""
        if outcome.predicted is not None and not outcome.censored:
            error = abs(outcome.generated_tokens - outcome.predicted.p50)
            self._errors.append((error, outcome.generated_tokens <= outcome.predicted.p90))

    @property
    def count(self) -> int:
        """Predictions that the figures rest on."""
        return len(self._errors)

    @property
    def mae_tokens(self) -> float:
        """Mean absolute error of the median in tokens; 0 without outcomes."""
        return sum(error for error, _ in self._errors) / max(1, self.count)

    @property
    def coverage_p90(self) -> float:
        """Share of answers at most as long as their p90; 0 without outcomes."""
        return sum(covered for _, covered in self._errors) / max(1, self.count)


@dataclass(slots=True)
class Answering:
    """One batch on its way; `step` until it says done. The predictor that began it ends it, unless it fails."""

    queries: Sequence[InferenceRequest]
    by: Loaded[LengthPredictor]
    fallback: Loaded[LengthPredictor]
    on_failure: Callable[[], None]
    predictions: list[LengthPrediction] = field(default_factory=list)

    def step(self) -> bool:
        """Answers the next few queries; true when all are answered."""
        done = len(self.predictions)
        try:
            self.predictions += self.by.policy.predict(self.queries[done : done + SLICE_COUNT])
        except PredictionFailed:
            if self.by is self.fallback:
                raise
            # Scores of two predictors do not compare, so the whole batch starts anew.
            self.on_failure()
            self.by, self.predictions = self.fallback, []
        return len(self.predictions) == len(self.queries)


@dataclass(slots=True)
class Learning:
    """One batch of outcomes on its way to every loaded predictor; `step` until it says done."""

    outcomes: Sequence[LengthOutcome]
    predictors: Sequence[LengthPredictor]
    on_failure: Callable[[], None]
    done_count: int = 0

    def step(self) -> bool:
        """Teaches the next few outcomes; true when all are taught."""
        chunk = self.outcomes[self.done_count : self.done_count + SLICE_COUNT]
        for predictor in self.predictors:
            try:
                predictor.observe(chunk)
            except PredictionFailed:
                self.on_failure()
        self.done_count += len(chunk)
        return self.done_count == len(self.outcomes)


class PredictorEngine:
    """Holds the loaded models; each kind has one that answers and lengths have a fallback that must not fail.

    Raises NotFound when a name to answer or to fall back on is not loaded.
    """

    def __init__(
        self,
        lengths: Sequence[Loaded[LengthPredictor]],
        forecasters: Sequence[Loaded[Forecaster]],
        *,
        active: Mapping[ModelKind, str],
        fallback: str,
    ) -> None:
        self._lengths = {one.label: one for one in lengths}
        self._forecasters = {one.label: one for one in forecasters}
        self._active = dict(active)
        self._fallback = fallback
        self._request_ids: OrderedDict[str, None] = OrderedDict()
        self.accuracy = Accuracy()
        self.failure_count = 0
        for kind, name in active.items():
            self._known(kind, name)
        self._known(ModelKind.LENGTH, fallback)

    @property
    def forecaster(self) -> Loaded[Forecaster]:
        """The forecaster that answers now."""
        return self._forecasters[self._active[ModelKind.WORKLOAD]]

    def models(self) -> tuple[PredictorModel, ...]:
        """The loaded models with the active ones marked, by kind, name and version."""
        found = [
            dataclasses.replace(one.model, active=self._active[kind] == one.label)
            for kind, table in ((ModelKind.LENGTH, self._lengths), (ModelKind.WORKLOAD, self._forecasters))
            for one in table.values()
        ]
        return tuple(sorted(found, key=lambda model: (model.kind, model.name, model.version)))

    def on_queries(self, queries: Sequence[InferenceRequest]) -> Answering:
        """Begins to answer a batch with the predictor that is active now."""
        active = self._lengths[self._active[ModelKind.LENGTH]]
        return Answering(queries, active, self._lengths[self._fallback], self._on_failure)

    def on_outcomes(self, request_id: str, outcomes: Sequence[LengthOutcome]) -> Learning:
        """Begins to learn from a batch; one that came before by this id teaches nothing."""
        fresh = () if request_id in self._request_ids else outcomes
        self._request_ids[request_id] = None
        if len(self._request_ids) > REQUEST_IDS_MAX:
            self._request_ids.popitem(last=False)
        for outcome in fresh:
            self.accuracy.add(outcome)
        return Learning(fresh, [one.policy for one in self._lengths.values()], self._on_failure)

    def on_loaded(self, loaded: Loaded[LengthPredictor]) -> None:
        """Adds a length model; it does not answer before it is activated."""
        self._lengths[loaded.label] = loaded

    def on_activate(self, kind: ModelKind, name: str) -> PredictorModel:
        """Makes the model of this label the one that answers from the next batch on; others of its name are dropped.

        Raises NotFound when it is not loaded.
        """
        model = self._known(kind, name)
        self._active[kind] = name
        if kind is ModelKind.LENGTH:
            self._lengths = {
                key: one
                for key, one in self._lengths.items()
                if key in (name, self._fallback) or one.model.name != model.name
            }
        return dataclasses.replace(model, active=True)

    def _known(self, kind: ModelKind, name: str) -> PredictorModel:
        table: Mapping[str, Loaded[LengthPredictor] | Loaded[Forecaster]] = (
            self._lengths if kind is ModelKind.LENGTH else self._forecasters
        )
        if name not in table:
            raise NotFound(f"no {kind.name.lower()} model {name!r} is loaded; loaded: {', '.join(sorted(table))}")
        return table[name].model

    def _on_failure(self) -> None:
        self.failure_count += 1
