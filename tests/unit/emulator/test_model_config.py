"""A model's configuration says what it is, and a load's configuration changes it."""

import json

import pytest
from google.protobuf import json_format

from forebay.core.errors import InvalidArgument
from forebay.emulator.config import ModelSpec
from forebay.emulator.model_config import model_config, model_metadata, override
from forebay.emulator.options import SETTINGS

SPEC = ModelSpec("m", "H100/Llama-3-8B", max_seqs=7, no_evict=True)


def test_the_configuration_is_that_of_a_decoupled_text_model() -> None:
    config = model_config(SPEC)
    assert (config.name, config.backend, config.max_batch_size) == ("m", "vllm", 0)
    assert config.model_transaction_policy.decoupled
    assert [tensor.name for tensor in config.input if not tensor.optional] == ["text_input"]
    assert config.output[0].name == "text_output"
    assert set(config.parameters) == set(SETTINGS)


def test_the_metadata_has_the_same_tensors() -> None:
    metadata, config = model_metadata(SPEC), model_config(SPEC)
    assert [tensor.name for tensor in metadata.inputs] == [tensor.name for tensor in config.input]
    assert [tensor.name for tensor in metadata.outputs] == [tensor.name for tensor in config.output]
    assert list(metadata.versions) == ["1"]


def test_a_configuration_read_back_changes_nothing() -> None:
    text = json_format.MessageToJson(model_config(SPEC), preserving_proto_field_name=True)
    assert override(SPEC, text) == SPEC


def test_parameters_of_a_load_win_and_unknown_ones_are_left_alone() -> None:
    parameters = {"profile": {"string_value": "L4/Llama-3-8B"}, "max_seqs": {"string_value": "9"}}
    text = json.dumps({"name": "m", "parameters": {**parameters, "gpu_memory": {"string_value": "x"}}})
    assert override(SPEC, text) == ModelSpec("m", "L4/Llama-3-8B", max_seqs=9, no_evict=True)


@pytest.mark.parametrize(
    "text",
    [
        "{zz",
        '{"parameters": {"max_seqs": {"string_value": "many"}}}',
        '{"parameters": {"kv_tokens": {"string_value": "-1"}}}',
    ],
)
def test_a_configuration_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        override(SPEC, text)
