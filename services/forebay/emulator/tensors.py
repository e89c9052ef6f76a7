"""Triton's tensors: checks of a request against a model's inputs, with Triton's own words, and bytes in and out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tritonclient.grpc import service_pb2

from forebay.core.errors import InvalidArgument

_SIZES = {"BOOL": 1, "UINT32": 4}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One declared input or output; `size` is its only dimension, -1 for any."""

    name: str
    datatype: str
    size: int = 1
    required: bool = False


def read_inputs(message: service_pb2.ModelInferRequest, declared: Mapping[str, Tensor]) -> dict[str, bytes]:
    """The first element of each input by name, as bytes.

    Raises InvalidArgument for an input that is missing, unknown, or of another type, shape or size.
    """
    values: dict[str, bytes] = {}
    for position, given in enumerate(message.inputs):
        _check_declared(message, given, declared)
        raw = message.raw_input_contents[position] if message.raw_input_contents else _typed(given)
        values[given.name] = _first(message, given, raw)
    _check_complete(message, values, declared)
    return values


def check_outputs(message: service_pb2.ModelInferRequest, declared: Mapping[str, Tensor]) -> frozenset[str]:
    """The outputs that the client asks for; all where it names none. Raises InvalidArgument for an unknown one."""
    for wanted in message.outputs:
        if wanted.name not in declared:
            raise InvalidArgument(f"unexpected inference output '{wanted.name}' for model '{message.model_name}'")
    return frozenset(wanted.name for wanted in message.outputs) or frozenset(declared)


def add_output(message: service_pb2.ModelInferResponse, tensor: Tensor, value: bytes) -> None:
    """Append one output of one element."""
    message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=(1,))
    message.raw_output_contents.append(value)


def text_bytes(text: str) -> bytes:
    """A BYTES tensor of one element."""
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def uint32_bytes(value: int) -> bytes:
    """A UINT32 tensor of one element."""
    return value.to_bytes(4, "little")


def _check_declared(
    message: service_pb2.ModelInferRequest,
    given: service_pb2.ModelInferRequest.InferInputTensor,
    declared: Mapping[str, Tensor],
) -> None:
    model = message.model_name
    tensor = declared.get(given.name)
    if tensor is None:
        raise InvalidArgument(f"unexpected inference input '{given.name}' for model '{model}'")
    if given.datatype != tensor.datatype:
        raise _refusal(
            message,
            f"inference input '{given.name}' data-type is '{given.datatype}', "
            f"but model '{model}' expects '{tensor.datatype}'",
        )
    if list(given.shape) != [tensor.size]:
        found = ",".join(str(size) for size in given.shape)
        raise _refusal(
            message,
            f"unexpected shape for input '{given.name}' for model '{model}'. Expected [{tensor.size}], got [{found}]. ",
        )


def _check_complete(
    message: service_pb2.ModelInferRequest, values: Mapping[str, bytes], declared: Mapping[str, Tensor]
) -> None:
    missing = [tensor.name for tensor in declared.values() if tensor.required and tensor.name not in values]
    if missing:
        raise _refusal(
            message,
            f"expected number of inputs between {_required_count(declared)} and {len(declared)} but got {len(values)} "
            f"inputs for model '{message.model_name}'. Got input(s) {list(values)}, but missing required input(s) "
            f"{missing}. Please provide all required input(s).",
        )


def _required_count(declared: Mapping[str, Tensor]) -> int:
    return sum(tensor.required for tensor in declared.values())


def _typed(given: service_pb2.ModelInferRequest.InferInputTensor) -> bytes:
    """The bytes that the typed contents of an input would have as raw contents."""
    if given.datatype == "BYTES":
        return b"".join(len(item).to_bytes(4, "little") + item for item in given.contents.bytes_contents)
    return bytes(given.contents.bool_contents)


def _first(
    message: service_pb2.ModelInferRequest, given: service_pb2.ModelInferRequest.InferInputTensor, raw: bytes
) -> bytes:
    if given.datatype == "BYTES":
        size = int.from_bytes(raw[:4], "little")
        if len(raw) != 4 + size:
            raise _refusal(
                message,
                f"expected 1 string for inference input '{given.name}', got {max(0, len(raw) - 4)} bytes",
            )
        return raw[4:]
    if len(raw) != _SIZES[given.datatype]:
        raise _refusal(
            message,
            f"input byte size mismatch for input '{given.name}' for model '{message.model_name}'. "
            f"Expected {_SIZES[given.datatype]}, got {len(raw)}",
        )
    return raw


def _refusal(message: service_pb2.ModelInferRequest, text: str) -> InvalidArgument:
    return InvalidArgument(f"[request id: {message.id or '<id_unknown>'}] {text}")


def by_name(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """The tensors with their names as keys, in their order."""
    return {tensor.name: tensor for tensor in tensors}
