"""What every length predictor promises."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.lengths.encoders.extractors import Magnus, Semantic, Tokens
from forebay.predictor.lengths.encoders.sentences import EMBEDDING_SIZE
from forebay.predictor.lengths.trained import Extractor, OnnxModel, Opening, Showing, open_trained
from forebay.predictor.policy.length import (
    LENGTH_PREDICTORS,
    Constant,
    Histogram,
    InputRatio,
    KernelHistory,
    LengthPredictor,
    OnnxQuantile,
)
from forebay.predictor.policy.length import Magnus as MagnusForest
from forebay.predictor.sessions import CPU, Feeds, choose_providers
from forebay.predictor.store_files import PACKAGED, FolderModelStore

TEXTS = (
    "",
    "Write a poem.",
    "Translate from de to en: Guten Morgen!",
    "你好，世界",
    "x" * 8192,
    "a\n\nb\n",
    "\0 \ud800",
)
HOSTILE = (
    "",
    "\0",
    "\ud800\udfff",
    "🙂👩‍👩‍👧‍👦" * 100,
    "مرحبا नमस्ते 你好 Grüße",
    "x" * 1_000_000,
    "\n" * 5_000,
    "a b " * 250_000,
)


class ProportionalModel:
    """Says that answers are half, once, twice and three times as long as prompts."""

    def infer(self, queries: Sequence[InferenceRequest]) -> npt.NDArray[np.float64]:
        return np.outer([query.prompt_tokens for query in queries], (0.5, 1.0, 2.0, 3.0))


class Checksums:
    """Stands in for the sentence encoder, and for its tokenizer."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = [np.random.default_rng(self._sum(text)).normal(size=EMBEDDING_SIZE) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, EMBEDDING_SIZE)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[101, self._sum(text) % 30_000, 102] for text in texts]

    def _sum(self, text: str) -> int:
        return zlib.crc32(text.encode(errors="replace"))


class ProportionalSession:
    """Says half, once, twice and three times what the prompt's length is in the features."""

    provider = CPU

    def run(self, feeds: Feeds) -> npt.NDArray[Any]:
        (rows,) = (rows for rows in feeds.values() if rows.dtype == np.float32)
        return np.outer(np.expm1(rows[:, EMBEDDING_SIZE if rows.shape[1] > EMBEDDING_SIZE else 0]), (0.5, 1, 2, 3))


def family(name: str, extractor: Extractor) -> LengthPredictor:
    return OnnxQuantile(OnnxModel(extractor, ProportionalSession()), name)  # type: ignore[arg-type]


def shipped(name: str = "onnx_quantile") -> LengthPredictor:
    """The model that comes with Forebay; skips where the packages that it needs are not installed."""
    store = FolderModelStore(PACKAGED)
    (model,) = (model for model in store.list() if model.name == name)
    try:
        return OnnxQuantile(open_trained(model, store.read(model), Opening(choose_providers("cpu"), 1)), name)
    except FailedPrecondition as error:
        if error.code != "EXTRA_MISSING":
            raise
        pytest.skip(error.message)


MAKERS: dict[str, Callable[[], LengthPredictor]] = {
    "constant": Constant,
    "input_ratio": InputRatio,
    "histogram": Histogram,
    "kernel_history": KernelHistory,
    "onnx_quantile": lambda: OnnxQuantile(ProportionalModel()),
    "onnx_quantile as shipped": shipped,
    "magnus": lambda: MagnusForest(Showing(OnnxModel(Magnus(Checksums()), ProportionalSession()))),  # type: ignore[arg-type]
    "semantic": lambda: family("semantic", Semantic(Checksums())),
    "semantic as shipped": lambda: shipped("semantic"),
    "preserve": lambda: family("preserve", Tokens(Checksums())),
    "finetuned": lambda: family("finetuned", Tokens(Checksums())),
}
LEARNERS = [name for name in MAKERS if name not in ("constant", "input_ratio")]


@pytest.fixture(params=MAKERS)
def predictor(request: pytest.FixtureRequest) -> LengthPredictor:
    return MAKERS[request.param]()


@pytest.fixture(params=LEARNERS)
def learner(request: pytest.FixtureRequest) -> LengthPredictor:
    return MAKERS[request.param]()


def query(number: int = 0, **changes: object) -> InferenceRequest:
    values: dict[str, object] = {
        "request_id": f"q{number}",
        "model": "llama",
        "prompt_tokens": 20 + 37 * number % 900,
        "prompt_head": TEXTS[number % len(TEXTS)],
    }
    return InferenceRequest(**{**values, **changes})  # type: ignore[arg-type]


def taught(predictor: LengthPredictor, count: int = 200, model: str = "llama") -> LengthPredictor:
    """Teaches that answers are seven times as long as prompts, give or take."""
    queries = [query(number, model=model) for number in range(count)]
    predictor.observe([LengthOutcome(one, 7 * one.prompt_tokens + one.prompt_tokens % 5) for one in queries])
    return predictor


def mae(predictor: LengthPredictor) -> float:
    queries = [query(number) for number in range(300, 400)]
    found = predictor.predict(queries)
    return sum(abs(one.quantiles.p50 - 7 * of.prompt_tokens) for one, of in zip(found, queries, strict=True)) / len(
        queries
    )


def flat(predictions: Sequence[LengthPrediction]) -> list[tuple[float, ...]]:
    return [(*vars_of(one), one.rank_score, one.mean_tokens) for one in predictions]


def vars_of(one: LengthPrediction) -> tuple[int, int, int, int]:
    return one.quantiles.p10, one.quantiles.p50, one.quantiles.p90, one.quantiles.p97


def test_all_policies_of_the_tree_are_tested_here() -> None:
    assert {name.split()[0] for name in MAKERS} == set(LENGTH_PREDICTORS)


def test_no_query_has_no_answer(predictor: LengthPredictor) -> None:
    assert predictor.predict([]) == ()
    predictor.observe([])


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_any_text_has_quantiles_that_never_decrease(predictor: LengthPredictor, number: int) -> None:
    (found,) = taught(predictor).predict([query(number)])
    values = vars_of(found)
    assert list(values) == sorted(values)
    assert values[0] >= 0
    assert values[3] > 0
    assert found.mean_tokens > 0


def test_hostile_text_is_answered_as_any_other(predictor: LengthPredictor) -> None:
    queries = [query(number, prompt_head=text) for number, text in enumerate(HOSTILE)]
    for found in (predictor.predict(queries), taught(predictor).predict(queries)):
        assert all(0 <= one.quantiles.p10 <= one.quantiles.p97 and np.isfinite(one.mean_tokens) for one in found)
    predictor.observe([LengthOutcome(one, 5) for one in queries])


@pytest.mark.parametrize("tokens_max", [1, 16, 300])
def test_nothing_exceeds_the_limit(predictor: LengthPredictor, tokens_max: int) -> None:
    for found in taught(predictor).predict([query(number, tokens_max=tokens_max) for number in range(20)]):
        assert max(vars_of(found)) <= tokens_max
        assert found.mean_tokens <= tokens_max


def test_the_longest_prompt_stays_within_the_contract(predictor: LengthPredictor) -> None:
    (found,) = taught(predictor).predict([query(prompt_tokens=1_048_576)])
    assert max(vars_of(found)) <= 1_048_576


def test_the_same_questions_have_the_same_answers(predictor: LengthPredictor) -> None:
    queries = [query(number) for number in range(70)]
    taught(predictor)
    assert flat(predictor.predict(queries)) == flat(predictor.predict(queries))


def test_a_batch_gives_what_its_queries_give_one_by_one(predictor: LengthPredictor) -> None:
    queries = [query(number) for number in range(70)]
    taught(predictor)
    single = [found for one in queries for found in predictor.predict([one])]
    for together, alone in zip(flat(predictor.predict(queries)), flat(single), strict=True):
        # The processor may add up a batch in another order, which may turn a rounded token.
        assert together == pytest.approx(alone, rel=1e-4, abs=1)


def test_an_unknown_model_is_answered_from_what_is_known_of_others(learner: LengthPredictor) -> None:
    before = learner.predict([query(5, model="new")])
    after = taught(learner).predict([query(5, model="new")])
    assert flat(before) != flat(after)


def test_outcomes_make_predictions_better(learner: LengthPredictor) -> None:
    before = mae(learner)
    assert mae(taught(learner)) < 0.5 * before


def test_longer_answers_rank_higher_once_learned(learner: LengthPredictor) -> None:
    taught(learner)
    short, long = learner.predict([query(prompt_tokens=30), query(prompt_tokens=800)])
    assert short.rank_score < long.rank_score


def test_answers_that_were_cut_do_not_shorten_what_is_known(learner: LengthPredictor) -> None:
    taught(learner)
    (before,) = learner.predict([query(1, prompt_tokens=100)])
    cut = [LengthOutcome(query(number, prompt_tokens=100), 16, censored=True) for number in range(100)]
    learner.observe(cut)
    (after,) = learner.predict([query(1, prompt_tokens=100)])
    assert after.quantiles.p50 > 0.7 * before.quantiles.p50


def test_a_predictor_names_itself(predictor: LengthPredictor) -> None:
    (found,) = predictor.predict([query()])
    assert found.predicted_by in LENGTH_PREDICTORS


def test_shipped_model_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in Path(PACKAGED).glob("*.onnx")) < 3_000_000
