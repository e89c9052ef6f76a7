import numpy as np
import pytest
from onnx import TensorProto, helper

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.features import FEATURE_COUNT, FEATURES_VERSION
from forebay.predictor.lengths.trained import OnnxModel, Opening, open_trained
from forebay.predictor.sessions import CPU


def content(width: int = FEATURE_COUNT, name: str = "features") -> bytes:
    """A model that says the prompt's length in four copies."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", [name, "first"], ["log"], axis=1),
            helper.make_node("Exp", ["log"], ["tokens"]),
        ],
        "length",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor("first", TensorProto.INT64, [4], [0, 0, 0, 0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def opened(content: bytes, **metadata: str) -> OnnxModel:
    described = {"features_version": FEATURES_VERSION, **metadata}
    model = PredictorModel("onnx_quantile", ModelKind.LENGTH, "3", metadata=described)
    return open_trained(model, content, Opening([CPU], 1))


def queries(count: int) -> list[InferenceRequest]:
    return [InferenceRequest("q", "m", number + 1, prompt_head="Hi!") for number in range(count)]


def test_a_description_without_the_kind_of_features_means_hashed_ones() -> None:
    assert np.allclose(opened(content()).infer(queries(1)), 2.0)
    assert np.allclose(opened(content(), features="hashed").infer(queries(1)), 2.0)


def test_a_large_batch_gives_a_row_for_each_query() -> None:
    found = opened(content()).infer(queries(130))
    assert found.shape == (130, 4)
    assert np.allclose(found[:, 0], np.arange(2, 132))


def test_no_query_gives_no_row() -> None:
    assert opened(content()).infer([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("made", "metadata", "told"),
    [
        (content(), {"features": "magic"}, "'magic'.*known are: .*hashed"),
        (content(), {"features_version": "0"}, "version 0"),
        (content(7), {}, "columns {'features': 7}"),
        (content(name="words"), {}, "columns {'words'"),
    ],
)
def test_a_model_that_prompts_do_not_fit_is_refused(made: bytes, metadata: dict[str, str], told: str) -> None:
    with pytest.raises(FailedPrecondition, match=told):
        opened(made, **metadata)


def test_the_provider_is_told() -> None:
    assert opened(content()).provider == CPU
