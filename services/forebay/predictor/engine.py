"""The predictor's state: which models there are, which of them answer, what was learned and how well it went."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from forebay.core.errors import FailedPrecondition, NotFound
from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.predictor.lengths.accuracy import Accuracy
from forebay.predictor.lengths.bounds import Bounds, Loaded, label
from forebay.predictor.lengths.care import Care
from forebay.predictor.lengths.shadowing import Duel, is_better, pinball_loss
from forebay.predictor.lengths.snapshots import EVERYBODY, Snapshot, owner_of
from forebay.predictor.lengths.work import (
    OUTCOME_SLICE_COUNT,
    SLOW_SLICE_COUNT,
    Answering,
    Learning,
    Predictor,
    Work,
    slices,
)
from forebay.predictor.policy.forecaster import Forecaster
from forebay.predictor.policy.length import Lasting, PredictionFailed, Relearning

__all__ = ["Answering", "Learning", "Loaded", "PredictorEngine", "Work", "label"]

REQUEST_IDS_MAX = 10_000


class PredictorEngine:
    """Holds the loaded models; each kind has one that answers and lengths have a fallback that must not fail.

    Shadows are length models that answer nobody: they predict each outcome before anybody learns from it, as the active
    model and the fallback do once more, off the way of requests. From that come the bounds, the figures, and whether a
    shadow takes over. Raises NotFound when a name to answer or to fall back on is not loaded.
    """

    def __init__(
        self,
        lengths: Sequence[Predictor],
        forecasters: Sequence[Loaded[Forecaster]],
        *,
        active: Mapping[ModelKind, str],
        fallback: str,
        care: Care | None = None,
    ) -> None:
        self._lengths = {one.label: one for one in lengths}
        self._forecasters = {one.label: one for one in forecasters}
        self._active = dict(active)
        self._previous: dict[ModelKind, str] = {}
        self._fallback = fallback
        self._care = care or Care()
        self.accuracy = Accuracy(self._care)
        self._bounds = Bounds(self._care, self.accuracy)
        self._duels: dict[str, Duel] = {}
        self._request_ids: OrderedDict[str, None] = OrderedDict()
        self._relearnt_at_us: dict[str, int] = {}
        self.failure_count = 0
        for kind, name in active.items():
            self.known(kind, name)
        self.known(ModelKind.LENGTH, fallback)

    @property
    def forecaster(self) -> Loaded[Forecaster]:
        """The forecaster that answers now."""
        return self._forecasters[self._active[ModelKind.WORKLOAD]]

    @property
    def length(self) -> Predictor:
        """The length predictor that answers now."""
        return self._lengths[self._active[ModelKind.LENGTH]]

    def models(self) -> tuple[PredictorModel, ...]:
        """The loaded models as they stand, by kind, name and version."""
        labels = [(ModelKind.LENGTH, name) for name in self._lengths]
        labels += [(ModelKind.WORKLOAD, name) for name in self._forecasters]
        found = [self.model(kind, name) for kind, name in labels]
        return tuple(sorted(found, key=lambda model: (model.kind, model.name, model.version)))

    def model(self, kind: ModelKind, name: str) -> PredictorModel:
        """A loaded model as it stands. Raises NotFound."""
        duel = self._duels.get(name) if kind is ModelKind.LENGTH else None
        return dataclasses.replace(
            self.known(kind, name),
            active=self._active[kind] == name,
            previous=self._previous.get(kind) == name,
            shadow=duel is not None,
            trial=duel.trial if duel else None,
        )

    def is_loaded(self, kind: ModelKind, name: str) -> bool:
        """Whether a model of this label can answer without being loaded first."""
        return name in (self._lengths if kind is ModelKind.LENGTH else self._forecasters)

    def on_queries(self, queries: Sequence[InferenceRequest]) -> Answering:
        """Begins to answer a batch with the predictor that is active now."""
        return Answering(queries, self.length, self._lengths[self._fallback], self._bounds, self._on_failure)

    def on_outcomes(self, request_id: str, outcomes: Sequence[LengthOutcome], now_us: int) -> Learning:
        """Begins to learn from a batch; one that came before by this id teaches nothing."""
        fresh = () if request_id in self._request_ids else outcomes
        self._request_ids[request_id] = None
        if len(self._request_ids) > REQUEST_IDS_MAX:
            self._request_ids.popitem(last=False)
        return Learning(fresh, self._learn(fresh, now_us))

    def on_loaded(self, loaded: Predictor) -> None:
        """Adds a length model; it does not answer before it is activated."""
        self._lengths[loaded.label] = loaded

    def on_activate(self, kind: ModelKind, name: str) -> PredictorModel:
        """Makes the model of this label the one that answers from the next batch on.

        The one before stays, learning, for a roll-back; others of the name, and slow ones, that do nothing are dropped.
        Trials start anew, since they are against the active model. Raises NotFound when it is not loaded.
        """
        model = self.known(kind, name)
        if name != self._active[kind]:
            self._previous[kind], self._active[kind] = self._active[kind], name
            if kind is ModelKind.LENGTH:
                self._duels = {shadow: Duel() for shadow in self._duels if shadow != name}
        if kind is ModelKind.LENGTH:
            self._drop_idle(model.name)
        return self.model(kind, name)

    def on_rollback(self, kind: ModelKind) -> PredictorModel:
        """Makes the model answer that did so before. Raises FailedPrecondition where none did."""
        if kind not in self._previous:
            raise FailedPrecondition(
                f"no {kind.name.lower()} model was active before this one; activate one by name", reason="NO_PREVIOUS"
            )
        return self.on_activate(kind, self._previous[kind])

    def on_shadow(self, name: str) -> PredictorModel:
        """Begins to measure a loaded length model beside the active one; one that is measured goes on.

        Raises NotFound when it is not loaded and FailedPrecondition where it is the active one or there are too many.
        """
        self.known(ModelKind.LENGTH, name)
        if name == self._active[ModelKind.LENGTH]:
            raise FailedPrecondition(f"{name} is the active model; only another one can be its shadow")
        if name not in self._duels and len(self._duels) >= self._care.shadow_count_max:
            running = ", ".join(sorted(self._duels))
            raise FailedPrecondition(f"{running} are measured already and more would take too long; end one of them")
        self._duels.setdefault(name, Duel())
        return self.model(ModelKind.LENGTH, name)

    def on_shadow_end(self, name: str) -> PredictorModel:
        """Ends the measuring of a shadow; one that is none stays as it is. Raises NotFound when it is not loaded."""
        self._duels.pop(name, None)
        model = self.model(ModelKind.LENGTH, name)
        self._drop_idle(model.name)
        return model

    def known(self, kind: ModelKind, name: str) -> PredictorModel:
        """The description of a loaded model. Raises NotFound."""
        table: Mapping[str, Predictor | Loaded[Forecaster]] = (
            self._lengths if kind is ModelKind.LENGTH else self._forecasters
        )
        if name not in table:
            raise NotFound(f"no {kind.name.lower()} model {name!r} is loaded; loaded: {', '.join(sorted(table))}")
        return table[name].model

    def snapshots(self) -> Iterator[Snapshot]:
        """What outlives a restart, a key at a time: what each predictor, its bounds and its figures have learnt."""
        for one in tuple(self._lengths.values()):
            owner, policy = owner_of(one.model), one.policy
            own = policy.saved() if isinstance(policy, Lasting) else ()
            for kind, found in (("policy", own), ("bounds", self._bounds.saved(one))):
                yield from (Snapshot(owner, kind, key, rows) for key, rows in found)
        owners = {name: owner_of(one.model) for name, one in self._lengths.items()}
        for (by, *key), rows in self.accuracy.saved():
            yield Snapshot(owners.get(by, by), "figures", tuple(key), rows)
        yield Snapshot(EVERYBODY, "figures", (), self.accuracy.overall.saved())

    def on_restored(self, snapshot: Snapshot) -> bool:
        """Takes what was learnt before a restart; says whether its predictor is loaded, file and all.

        Raises ValueError for what is no snapshot of ours.
        """
        found = next((one for one in self._lengths.values() if owner_of(one.model) == snapshot.owner), None)
        if snapshot.kind == "figures":
            return self._restore_figures(found.label if found else snapshot.owner, snapshot)
        if found is None:
            return False
        if snapshot.kind == "bounds":
            self._bounds.restore(found, snapshot.key, snapshot.rows)
        elif isinstance(found.policy, Lasting):
            found.policy.restore(snapshot.key, snapshot.rows)
        return True

    def _restore_figures(self, by: str, snapshot: Snapshot) -> bool:
        """Those of a file that is not loaded are of nobody; those of who has no file, such as the scheduler, stay."""
        if "#" in by:
            return False
        if by == EVERYBODY:
            self.accuracy.overall.restore(snapshot.rows)
        else:
            model, application = snapshot.key
            self.accuracy.restore((by, model, application), snapshot.rows)
        return True

    def _learn(self, outcomes: Sequence[LengthOutcome], now_us: int) -> Iterator[Predictor | None]:
        """Predict first, learn after: all are scored before anybody is taught the first of them."""
        count = SLOW_SLICE_COUNT if any(one.is_slow for one in self._lengths.values()) else OUTCOME_SLICE_COUNT
        chunks = slices(outcomes, count)
        for chunk in chunks:
            yield from self._score(chunk, now_us)
            yield None
        for index, chunk in enumerate(chunks):
            if index:
                yield None
            yield from self._teach(chunk)
        yield from self._relearn(now_us)

    def _relearn(self, now_us: int) -> Iterator[Predictor | None]:
        """Those who learn anew now and then do so when it is their time, each in a step of its own."""
        for one in tuple(self._lengths.values()):
            if isinstance(one.policy, Relearning) and self._is_due(one, one.policy, now_us):
                self._relearnt_at_us[one.label] = now_us
                yield one
                one.policy.relearn()

    def _is_due(self, one: Predictor, policy: Relearning, now_us: int) -> bool:
        before_us = self._relearnt_at_us.get(one.label)
        return before_us is None or now_us - before_us >= policy.relearn_s * US_PER_S

    def _teach(self, outcomes: Sequence[LengthOutcome]) -> Iterator[Predictor | None]:
        for one in _fast_first(self._lengths.values()):
            if one.is_slow:
                yield one
            try:
                one.policy.observe(outcomes)
            except PredictionFailed:
                self._on_failure()

    def _score(self, outcomes: Sequence[LengthOutcome], now_us: int) -> Iterator[Predictor | None]:
        expected: dict[str, Sequence[LengthQuantiles]] = {}
        measured = _fast_first(self._lengths[name] for name in self._measured())
        for one in measured:
            if one.is_slow:
                yield one
            expected[one.label] = self._expect(one, outcomes)
        if measured and measured[-1].is_slow:
            yield None
        self._note(outcomes, expected, now_us)
        if self._duels:
            self._compare(outcomes, expected)

    def _measured(self) -> tuple[str, ...]:
        """Who predicts outcomes: whoever bounds, alarms or trials need; the fallback while it answers for somebody."""
        active, care = self.length, self._care
        if not self._duels and (active.is_plain or not (care.window_count or care.drift_window_count)):
            return ()
        fallback = (self._fallback,) if self.accuracy.has_alarm(active.label) else ()
        return tuple(dict.fromkeys((active.label, *fallback, *self._duels)))

    def _expect(self, one: Predictor, outcomes: Sequence[LengthOutcome]) -> Sequence[LengthQuantiles]:
        """What the predictor would have promised, which also teaches its bounds; nothing where it fails."""
        try:
            return self._bounds.learned(one, outcomes)
        except PredictionFailed:
            self._on_failure()
            return ()

    def _note(
        self, outcomes: Sequence[LengthOutcome], expected: Mapping[str, Sequence[LengthQuantiles]], now_us: int
    ) -> None:
        """What was really promised counts; who promised nothing is judged by what it would have."""
        active = self.length.label
        for index, outcome in enumerate(outcomes):
            promised, by = outcome.predicted, outcome.predicted_by or active
            if promised is not None:
                self.accuracy.add(by, promised, outcome, now_us)
                self.accuracy.overall.add(promised, outcome)
            for name, found in expected.items():
                if found and not (promised is not None and name == by):
                    self.accuracy.add(name, found[index], outcome, now_us)

    def _compare(self, outcomes: Sequence[LengthOutcome], expected: Mapping[str, Sequence[LengthQuantiles]]) -> None:
        """Goes on with the trials; the first shadow that proved better becomes the active model."""
        active = expected.get(self.length.label, ())
        for name, duel in tuple(self._duels.items()):
            # A model that became active or a shadow meanwhile, or that failed, has nothing to compare.
            for outcome, ours, theirs in zip(outcomes, active, expected.get(name, ()), strict=False):
                tokens = outcome.generated_tokens
                duel.add(pinball_loss(ours, tokens), pinball_loss(theirs, tokens))
            if self._care.promotes and is_better(duel.trial, self._care.promote_count_min):
                self.on_activate(ModelKind.LENGTH, name)
                return

    def _drop_idle(self, model_name: str) -> None:
        """Drops versions of this name that do nothing, and slow ones, which cost a lot; fast ones go on learning."""
        stay = {self._active[ModelKind.LENGTH], self._previous.get(ModelKind.LENGTH), self._fallback, *self._duels}
        for name, one in tuple(self._lengths.items()):
            has_file = one.model.name == model_name and one.model.version
            if (one.is_slow or has_file) and name not in stay:
                del self._lengths[name]
                self._bounds.forget(name)
                self._relearnt_at_us.pop(name, None)
                self.accuracy.forget(name)

    def _on_failure(self) -> None:
        self.failure_count += 1


def _fast_first(predictors: Iterable[Predictor]) -> list[Predictor]:
    return sorted(predictors, key=lambda one: one.is_slow)
