"""The packaged sentence encoder is what we take it for."""

import numpy as np
import pytest

from forebay.core.errors import FailedPrecondition
from forebay.predictor.lengths.encoders.files import WEIGHTS, read
from forebay.predictor.lengths.encoders.sentences import EMBEDDING_SIZE, SentenceEncoder, open_encoder
from forebay.predictor.lengths.encoders.tokens import WordPieces, padded
from forebay.predictor.sessions import CPU

TEXTS = ("How do I bake bread?", "What is the recipe for a loaf?", "Fix the bug in this Java method.", "")


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    try:
        return open_encoder((CPU,), 1)
    except FailedPrecondition as error:
        pytest.skip(error.message)


def test_embeddings_have_length_one_and_texts_alike_are_near(encoder: SentenceEncoder) -> None:
    rows = encoder.embed(TEXTS)
    assert rows.shape == (len(TEXTS), EMBEDDING_SIZE)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2


def test_hostile_texts_are_embedded(encoder: SentenceEncoder) -> None:
    assert np.isfinite(encoder.embed(["\0", "\ud800", "🙂" * 3_000, "x" * 1_000_000, "你好" * 2_000])).all()


@pytest.mark.slow
def test_our_graph_of_the_published_weights_is_the_packaged_encoder(encoder: SentenceEncoder) -> None:
    from forebay.predictor.sessions import OnnxSession
    from forebay.train.preserve import HEAD_COUNT, INSTALL_WEIGHTS, embedding_onnx
    from forebay.train.transformer import read_weights

    try:
        weights = read_weights(read(WEIGHTS, INSTALL_WEIGHTS)[1])
    except FailedPrecondition as error:
        pytest.skip(error.message)
    ids, mask = padded(WordPieces().ids(TEXTS))
    states = OnnxSession(embedding_onnx(weights, HEAD_COUNT), [CPU], 1).run({"ids": ids, "mask": mask})
    means = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    own = means / np.linalg.norm(means, axis=1, keepdims=True)
    # The packaged one has weights of 8 bits.
    assert ((own * encoder.embed(TEXTS)).sum(axis=1) > 0.99).all()
