from collections.abc import Sequence

import pytest

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.build import build_engine
from forebay.predictor.config import Config
from forebay.predictor.engine import Loaded, PredictorEngine
from forebay.predictor.loader import Loader
from forebay.predictor.policy.length import LengthPredictor
from forebay.predictor.store import MemoryModelStore

NAME = "onnx_quantile"
LENGTH = ModelKind.LENGTH


class Silent:
    """Predicts nothing that matters."""

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        raise AssertionError

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Learns nothing."""


def store_of(*broken: str, count: int = 3) -> MemoryModelStore:
    store = MemoryModelStore({})
    for number in range(1, count + 1):
        store.add(NAME, b"broken" if str(number) in broken else b"", {})
    return store


def opened(model: PredictorModel, content: bytes) -> Loaded[LengthPredictor]:
    if content:
        raise FailedPrecondition("the file is not an ONNX model")
    return Loaded(model, Silent())


def started(store: MemoryModelStore) -> tuple[PredictorEngine, Loader]:
    engine = build_engine(Config(provider="cpu"))
    return engine, Loader(engine, store, opened)


async def test_at_first_the_newest_answers() -> None:
    store = store_of()
    engine, loader = started(store)
    await loader.resume(NAME)
    assert engine.length.label == f"{NAME}@3"
    assert store.chosen(LENGTH) == (f"{NAME}@3",)


async def test_after_a_restart_the_version_answers_that_did_last() -> None:
    store = store_of()
    store.choose(LENGTH, (f"{NAME}@1", f"{NAME}@2"))
    engine, loader = started(store)
    await loader.resume(NAME)
    assert engine.length.label == f"{NAME}@1"
    assert (await loader.rollback(LENGTH)).version == "2"
    assert store.chosen(LENGTH) == (f"{NAME}@2", f"{NAME}@1")


async def test_a_candidate_that_nobody_chose_is_not_taken_by_a_restart() -> None:
    store = store_of(count=1)
    _, loader = started(store)
    await loader.resume(NAME)
    store.add(NAME, b"", {})
    engine, again = started(store)
    await again.resume(NAME)
    assert engine.length.label == f"{NAME}@1"


async def test_a_version_that_cannot_be_loaded_gives_way_to_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    store = store_of("3")
    store.choose(LENGTH, (f"{NAME}@3", f"{NAME}@2", f"{NAME}@1"))
    engine, loader = started(store)
    await loader.resume(NAME)
    assert engine.length.label == f"{NAME}@2"
    assert "cannot be loaded" in caplog.text


async def test_a_choice_that_is_gone_gives_way_to_the_newest() -> None:
    store = store_of()
    store.choose(LENGTH, (f"{NAME}@9",))
    engine, loader = started(store)
    await loader.resume(NAME)
    assert engine.length.label == f"{NAME}@3"


async def test_a_damaged_newest_gives_way_to_an_older_one() -> None:
    engine, loader = started(store_of("3"))
    await loader.resume(NAME)
    assert engine.length.label == f"{NAME}@2"
    with pytest.raises(FailedPrecondition):
        await loader.activate(LENGTH, NAME, "3")
    assert engine.length.label == f"{NAME}@2"


async def test_where_there_is_no_model_the_fallback_says_so(caplog: pytest.LogCaptureFixture) -> None:
    engine, loader = started(store_of(count=0))
    await loader.resume(NAME)
    assert engine.length.label == "kernel_history"
    assert "no trained model answers" in caplog.text


async def test_where_nothing_can_be_loaded_the_fallback_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    engine, loader = started(store_of("1", "2", "3"))
    await loader.resume(NAME)
    assert engine.length.label == "kernel_history"
    assert "no trained model answers" in caplog.text


async def test_choices_of_other_predictors_are_left_to_the_configuration() -> None:
    store = store_of()
    engine, loader = started(store)
    await loader.resume(NAME)
    await loader.activate(LENGTH, "histogram", "")
    assert store.chosen(LENGTH) == ("histogram", f"{NAME}@3")
    engine, again = started(store)
    await again.resume(NAME)
    assert engine.length.label == f"{NAME}@3"


async def test_what_the_engine_chose_by_itself_is_kept_too() -> None:
    store = store_of()
    engine, loader = started(store)
    await loader.activate(LENGTH, NAME, "1")
    await loader.shadow(NAME, "2")
    engine.on_activate(LENGTH, f"{NAME}@2")
    await loader.note_active()
    assert store.chosen(LENGTH) == (f"{NAME}@2", f"{NAME}@1")


async def test_a_choice_that_cannot_be_kept_counts_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    class Full(MemoryModelStore):
        def choose(self, kind: ModelKind, labels: tuple[str, ...]) -> None:
            raise FailedPrecondition("cannot write to models: no space")

    store = Full({})
    store.add(NAME, b"", {})
    engine, loader = started(store)
    await loader.activate(LENGTH, NAME, "1")
    assert engine.length.label == f"{NAME}@1"
    assert "not kept" in caplog.text
