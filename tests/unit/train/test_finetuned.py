"""An encoder that learnt as a whole answers in onnxruntime as in torch, and can be learnt on from; needs torch."""

from collections.abc import Sequence

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; run: pip install torch==2.13.0")

from forebay.core.errors import ConfigError  # noqa: E402
from forebay.core.values import InferenceRequest  # noqa: E402
from forebay.predictor import onnx_file  # noqa: E402
from forebay.predictor.lengths.encoders.plain import PLAIN_COUNT, plain  # noqa: E402
from forebay.predictor.lengths.encoders.tokens import padded  # noqa: E402
from forebay.predictor.sessions import CPU, OnnxSession  # noqa: E402
from forebay.train import finetuned, whole  # noqa: E402
from forebay.train.data import Examples  # noqa: E402
from forebay.train.export_finetuned import Frame, to_onnx  # noqa: E402
from forebay.train.finetuned import FIT_STEPS, framed, run, run_from  # noqa: E402
from forebay.train.network import shifts  # noqa: E402
from forebay.train.transformer import weights_of  # noqa: E402
from forebay.train.whole import Settings  # noqa: E402
from tests.unit.train.test_preserve import HEADS, small_weights  # noqa: E402

COUNT = 400
NORMS = {".LayerNorm.weight": 1.0, ".LayerNorm.bias": 0.0}
WEIGHTS = {
    name: np.full_like(value, NORMS[ending]) if (ending := name[name.rfind(".LayerNorm") :]) in NORMS else value
    for name, value in small_weights().items()
}
"""Norms that norm: small random ones would leave all prompts alike."""

SETTINGS = Settings(learning_rate=5e-4, epoch_count_max=30)
ONCE = Settings(learning_rate=5e-4, epoch_count_max=1)


class Pieces:
    """Splits a prompt into numbers below the small vocabulary."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[1, *(int(word) for word in text.split()), 2] for text in texts]


def examples(count: int = COUNT, model: str = "m", long: int = 30) -> Examples:
    """Answers to prompts with this word have about 400 tokens, others about 20."""
    rng = np.random.default_rng(4)
    words = [[int(rng.integers(3, 29)), long if row % 2 else 31] for row in range(count)]
    queries = tuple(
        InferenceRequest(f"q{row}", model, 20, prompt_head=" ".join(map(str, words[row]))) for row in range(count)
    )
    tokens = np.where(np.arange(count) % 2, 400, 20) * rng.uniform(0.8, 1.25, count)
    return Examples(queries, tokens, np.array(["s"] * count), rng.integers(0, 2**62, count))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder of three small layers that learns fast in place of the published one."""
    monkeypatch.setattr(finetuned, "WordPieces", Pieces)
    monkeypatch.setattr(finetuned, "read", lambda *arguments: ("", b""))
    monkeypatch.setattr(finetuned, "read_weights", lambda content: dict(WEIGHTS))
    monkeypatch.setattr(finetuned, "HEAD_COUNT", HEADS)
    monkeypatch.setattr(whole, "Settings", lambda: SETTINGS)


def answers(content: bytes, some: Examples) -> np.ndarray:
    ids, mask = padded(Pieces().ids([query.prompt_head for query in some.queries]))
    feeds = {"ids": ids, "mask": mask, "plain": plain(some.queries)}
    return np.asarray(OnnxSession(content, [CPU], 1).run(feeds))


def test_onnxruntime_answers_as_torch_does() -> None:
    some = examples()
    frame, rows = framed(some, np.ones(COUNT, dtype=bool))
    ids = Pieces().ids([query.prompt_head for query in some.queries])
    shown = whole.Shown(ids, rows.features, rows.logs, rows.is_cut)
    model = whole.fit(dict(WEIGHTS), HEADS, shown, ONCE, 1, lambda share: None)
    moved = Frame(frame.means, frame.factors, frame.centre, frame.scale, np.float32([-0.1, 0.0, 0.05, 0.1]))
    found = answers(to_onnx({**WEIGHTS, **model.weights()}, moved, HEADS), some)
    expected = whole.predict(model, ids, rows.features) + moved.shifts
    roots = np.clip(frame.centre + frame.scale * expected, 0, None)
    np.testing.assert_allclose(np.sqrt(found), roots, atol=1e-3)
    assert (np.diff(found, axis=1) >= 0).all()


def test_a_family_learns_what_a_word_means_and_tells_how_far_it_is() -> None:
    steps: list[str] = []
    made = run(examples(), 7, steps.append)
    onnx_file.check(made.content)
    tokens = answers(made.content, examples())[:, 1]
    assert (tokens[1::2] > 250).mean() > 0.95
    assert (tokens[::2] < 60).mean() > 0.95
    assert steps == ["tokens", *["layers"] * FIT_STEPS, "export"]
    assert made.metadata["name"] == "finetuned"


def test_learning_goes_on_from_an_earlier_model(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(examples(), 7, lambda step: None).content
    monkeypatch.setattr(whole, "Settings", lambda: ONCE)
    few = examples(220, model="other")
    alone, after = (
        np.abs(np.sqrt(answers(made.content, examples())[:, 1]) - np.sqrt(examples().tokens)).mean()
        for made in (run(few, 7, lambda step: None), run_from(first, few, 7, lambda step: None))
    )
    assert after < 0.7 * alone


def test_weights_come_back_from_a_model_as_they_went_in() -> None:
    frame = Frame(np.zeros(5, np.float32), np.ones(5, np.float32), 0.0, 1.0, np.zeros(4, np.float32))
    size = WEIGHTS["embeddings.LayerNorm.bias"].shape[0]
    given = {
        **WEIGHTS,
        "known.weight": np.full((size, 5), 0.5, np.float32),
        "head.weight": np.full((4, 2 * size + 5), 0.25, np.float32),
        "head.bias": np.arange(4, dtype=np.float32),
    }
    found = weights_of(to_onnx(given, frame, HEADS))
    for name, value in given.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("content", [b"", b"no model", to_onnx])
def test_a_start_that_is_no_model_of_the_family_is_refused(content: object) -> None:
    if callable(content):
        frame = Frame(np.zeros(5, np.float32), np.ones(5, np.float32), 0.0, 1.0, np.zeros(4, np.float32))
        size = WEIGHTS["embeddings.LayerNorm.bias"].shape[0]
        head = {"head.weight": np.zeros((4, 2 * size + 5), np.float32), "head.bias": np.zeros(4, np.float32)}
        content = to_onnx({**WEIGHTS, "known.weight": np.zeros((size, 5), np.float32), **head}, frame, HEADS)
    assert isinstance(content, bytes)
    with pytest.raises(ConfigError, match="--start"):
        run_from(content, examples(), 1, lambda step: None)


def test_levels_move_so_that_their_share_of_unseen_answers_lies_below() -> None:
    found = np.zeros((1_000, 4), dtype=np.float32)
    targets = np.linspace(0, 1, 1_000).astype(np.float32)
    np.testing.assert_allclose(shifts(found, targets, np.zeros(1_000, bool)), [0.1, 0.5, 0.9, 0.97], atol=1e-3)


def test_where_all_answers_are_cut_nothing_moves() -> None:
    assert not shifts(np.ones((3, 4), np.float32), np.ones(3, np.float32), np.ones(3, bool)).any()


def test_what_is_known_beside_the_text_has_its_columns() -> None:
    frame, rows = framed(examples(), np.ones(COUNT, dtype=bool))
    assert rows.features.shape == (COUNT, PLAIN_COUNT)
    assert len(frame.means) == PLAIN_COUNT
