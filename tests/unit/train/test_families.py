"""Each family that stands on the encoder trains on a few examples and opens in the predictor; the encoder is a fake."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from forebay.core.errors import ConfigError
from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.values import InferenceRequest
from forebay.predictor.build import opener
from forebay.predictor.config import Config
from forebay.predictor.lengths import trained
from forebay.predictor.lengths.encoders.extractors import Magnus, Semantic
from forebay.predictor.lengths.encoders.sentences import EMBEDDING_SIZE
from forebay.predictor.lengths.trained import Opening, open_trained
from forebay.predictor.policy.length import Relearning
from forebay.predictor.sessions import CPU
from forebay.train import magnus, semantic
from forebay.train.data import Examples
from forebay.train.family import Trained, family

MODULES = {"semantic": semantic, "magnus": magnus}


class Words:
    """Tells prompts that ask for a story from others."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = [np.full(EMBEDDING_SIZE, 0.1 if "story" in text else -0.1) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, EMBEDDING_SIZE)


@pytest.fixture(autouse=True)
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    makers: Mapping[str, type[Semantic] | type[Magnus]] = {"semantic": Semantic, "magnus": Magnus}
    for name, maker in makers.items():
        monkeypatch.setitem(trained.EXTRACTORS, name, lambda opening, maker=maker: maker(Words()))


def examples(count: int = 600) -> Examples:
    """Stories have about 400 tokens, other answers about 20."""
    rng = np.random.default_rng(2)
    queries = tuple(
        InferenceRequest(f"q{row}", "m", 20, prompt_head=f"Write: a {'story' if row % 2 else 'word'} {row}")
        for row in range(count)
    )
    tokens = np.where(np.arange(count) % 2, 400, 20) * rng.uniform(0.8, 1.25, count)
    return Examples(queries, tokens, np.array(["s"] * count), rng.integers(0, 2**62, count))


def opened(made: Trained) -> trained.OnnxModel:
    metadata = {key: str(value) for key, value in made.metadata.items()}
    model = PredictorModel(str(made.metadata["name"]), ModelKind.LENGTH, "1", metadata=metadata)
    return open_trained(model, made.content, Opening([CPU], 1))


@pytest.mark.parametrize("name", MODULES)
def test_what_was_trained_answers_in_the_predictor(name: str) -> None:
    steps: list[str] = []
    made = MODULES[name].run(examples(), 7, steps.append)
    assert len(steps) == MODULES[name].step_count()
    queries = [InferenceRequest("q", "m", 20, prompt_head=f"Write: a {kind} 9") for kind in ("story", "word")]
    long, short = opened(made).infer(queries)
    assert 250 < long[1] < 600
    assert 10 < short[1] < 40
    assert long[0] < long[2]


def test_a_trained_forest_of_magnus_learns_anew_from_outcomes_where_it_is_served() -> None:
    made = magnus.run(examples(), 7, lambda step: None)
    metadata = {key: str(value) for key, value in made.metadata.items()}
    model = PredictorModel("magnus", ModelKind.LENGTH, "1", metadata=metadata)
    policy = opener(Config(provider="cpu"))(model, made.content).policy
    assert isinstance(policy, Relearning)
    # Now stories are short and words are long.
    queries = [replace(query, request_id="", model="new") for query in examples(300).queries]
    policy.observe([LengthOutcome(query, 400 if row % 2 == 0 else 20) for row, query in enumerate(queries)])
    policy.relearn()
    story, word = policy.predict([replace(query, prompt_head=query.prompt_head + "!") for query in queries[299:297:-1]])
    assert story.quantiles.p50 < 60
    assert word.quantiles.p50 > 200


@pytest.mark.parametrize("name", MODULES)
def test_equal_examples_and_seeds_give_equal_files(name: str) -> None:
    first, second = (MODULES[name].run(examples(300), 7, lambda step: None).content for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", MODULES)
def test_examples_that_do_not_do_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="too few"):
        MODULES[name].run(examples(50), 7, lambda step: None)
    some = examples(300)
    only_features = Examples(
        some.queries, some.tokens, some.sources, some.groups, None, np.zeros((300, 2), dtype=np.float32)
    )
    with pytest.raises(ConfigError, match="only features"):
        MODULES[name].run(only_features, 7, lambda step: None)


@pytest.mark.parametrize(("name", "module"), [("preserve", "prompt_tuning"), ("finetuned", "whole")])
def test_without_torch_a_family_says_how_to_install_it(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    # What another test has imported stands in the package, too.
    for one in ("prompt_tuning", module):
        monkeypatch.delitem(sys.modules, f"forebay.train.{one}", raising=False)
        monkeypatch.delattr(f"forebay.train.{one}", raising=False)
    with pytest.raises(ConfigError, match="pip install torch"):
        family(name).run(examples(300), 7, lambda step: None)


def test_some_examples_are_shown_without_names_and_without_text() -> None:
    some = examples(300)
    shown = semantic.varied(some)
    assert len(shown) == 330
    assert sum(not query.model for query in shown.queries[:300]) == 100
    assert sum(not query.prompt_head for query in shown.queries) == 30


def test_no_prompt_is_in_two_parts() -> None:
    some = examples(600)
    shared = Examples(some.queries, some.tokens, some.sources, np.arange(600) // 3)
    held_back, validates = semantic.parts(shared)
    groups = [set(shared.groups[mask].tolist()) for mask in (held_back, validates, ~held_back & ~validates)]
    assert sum(map(len, groups)) == len(set.union(*groups))
