"""A model's configuration and metadata as Triton shows them, and what a load may override."""

from collections.abc import Iterable

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2

from forebay.core.errors import InvalidArgument
from forebay.emulator.config import ModelSpec
from forebay.emulator.generate import INPUTS, OUTPUTS
from forebay.emulator.options import SETTINGS, with_settings
from forebay.emulator.tensors import Tensor

BACKEND = "vllm"
VERSION = "1"
_TYPES = {"BYTES": "TYPE_STRING", "BOOL": "TYPE_BOOL", "UINT32": "TYPE_UINT32"}


def model_config(spec: ModelSpec) -> model_config_pb2.ModelConfig:
    """The configuration of a decoupled text model; every field of `spec` but its name is a parameter."""
    config = model_config_pb2.ModelConfig(name=spec.name, backend=BACKEND, default_model_filename="model.py")
    config.model_transaction_policy.decoupled = True
    config.version_policy.latest.num_versions = 1
    config.instance_group.add(name=f"{spec.name}_0", count=1, kind="KIND_MODEL")
    for tensor in INPUTS.values():
        config.input.add(
            name=tensor.name, data_type=_TYPES[tensor.datatype], dims=[tensor.size], optional=not tensor.required
        )
    for tensor in OUTPUTS.values():
        config.output.add(name=tensor.name, data_type=_TYPES[tensor.datatype], dims=[tensor.size])
    for name in SETTINGS:
        value = getattr(spec, name)
        config.parameters[name].string_value = str(value).lower() if isinstance(value, bool) else str(value)
    return config


def model_metadata(spec: ModelSpec) -> service_pb2.ModelMetadataResponse:
    """Names, types and shapes of a model's inputs and outputs."""
    answer = service_pb2.ModelMetadataResponse(name=spec.name, versions=[VERSION], platform=BACKEND)
    answer.inputs.extend(_describe(INPUTS.values()))
    answer.outputs.extend(_describe(OUTPUTS.values()))
    return answer


def override(spec: ModelSpec, config_json: str) -> ModelSpec:
    """`spec` with the parameters of a load's `config`, a model configuration as JSON.

    Parameters that the emulator does not know are left alone, as Triton does. Raises InvalidArgument.
    """
    config = model_config_pb2.ModelConfig()
    try:
        json_format.Parse(config_json, config, ignore_unknown_fields=True)
        given = {name: value.string_value for name, value in config.parameters.items() if name in SETTINGS}
        return with_settings(spec, given)
    except (json_format.ParseError, ValueError) as error:
        raise InvalidArgument(str(error)) from error


def _describe(tensors: Iterable[Tensor]) -> Iterable[service_pb2.ModelMetadataResponse.TensorMetadata]:
    for tensor in tensors:
        yield service_pb2.ModelMetadataResponse.TensorMetadata(
            name=tensor.name, datatype=tensor.datatype, shape=[tensor.size]
        )
