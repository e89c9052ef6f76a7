"""Reads what an ONNX file says of itself and refuses what no model of ours is, before any of it is run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import QUANTILE_LEVELS

OPSETS: Mapping[str, range] = {"": range(11, 22), "ai.onnx.ml": range(1, 6)}
"""Sets of operators that models may use, with the versions that onnxruntime runs and our exports have."""
IR_VERSIONS = range(4, 12)
INPUTS_MAX = 8
INPUT_TYPES = frozenset({1, 6, 7})
"""float32, int32 and int64 by their numbers in TensorProto.DataType."""
OUTPUT_TYPES = frozenset({1})
ENDLESS = frozenset({"Loop", "Scan"})
"""Operators that may run for ever."""
DEPTH_MAX = 8
_EXTERNAL = 1

_WHOLE, _BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_INT64, descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_MESSAGES: dict[str, dict[str, tuple[int, int | str]]] = {
    "Model": {
        "ir_version": (1, _WHOLE),
        "graph": (7, "Graph"),
        "opset_import": (8, "OperatorSet"),
        "training_info": (20, _BYTES),
        "functions": (25, _BYTES),
    },
    "OperatorSet": {"domain": (1, _BYTES), "version": (2, _WHOLE)},
    "Graph": {
        "node": (1, "Node"),
        "initializer": (5, "Tensor"),
        "input": (11, "Value"),
        "output": (12, "Value"),
        "sparse_initializer": (15, "Sparse"),
    },
    "Node": {"op_type": (4, _BYTES), "attribute": (5, "Attribute"), "domain": (7, _BYTES)},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, "Graph"),
        "tensors": (10, "Tensor"),
        "graphs": (11, "Graph"),
        "sparse_tensor": (22, "Sparse"),
        "sparse_tensors": (23, "Sparse"),
    },
    "Tensor": {"external_data": (13, _BYTES), "data_location": (14, _WHOLE)},
    "Sparse": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Value": {"name": (1, _BYTES), "type": (2, "Type")},
    "Type": {"tensor_type": (1, "TensorType")},
    "TensorType": {"elem_type": (1, _WHOLE), "shape": (2, "Shape")},
    "Shape": {"dim": (1, "Dimension")},
    "Dimension": {"dim_value": (1, _WHOLE)},
}
"""The part of onnx.proto that is looked at: fields by name with their numbers; all others are passed over."""
_SINGLE = frozenset({"g", "graph", "indices", "shape", "t", "tensor_type", "type", "values"})


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its element type by ONNX's number, and its shape with 0 where any size will do."""

    element_type: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What a file says of itself."""

    ir_version: int
    opsets: Mapping[str, int]
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    operators: frozenset[tuple[str, str]]
    """Domain and name of each operator, also of those in graphs inside."""
    has_external_data: bool
    has_own_code: bool
    """Functions or training steps of its own."""


def check(content: bytes) -> None:
    """Refuses what is not a plain model that gives tokens at the quantile levels.

    Raises FailedPrecondition with the reason NOT_ONNX, EXTERNAL_DATA, OPSET_UNSUPPORTED, OPERATOR_REFUSED or
    SIGNATURE_WRONG. Nothing of the file is run, and no other file is opened.
    """
    found = inspect(content)
    for reason, problem in _problems(found):
        raise FailedPrecondition(f"the ONNX file {problem}; train again with `forebay train length`", reason=reason)


def inspect(content: bytes) -> OnnxFile:
    """What the file says of itself. Raises FailedPrecondition with the reason NOT_ONNX when it is none."""
    try:
        model = _Model.FromString(content)
    except DecodeError as error:
        raise _not_onnx() from error
    if not model.HasField("graph") or not model.opset_import or not model.graph.node:
        raise _not_onnx()
    graphs = list(_graphs(model.graph, DEPTH_MAX))
    return OnnxFile(
        ir_version=model.ir_version,
        opsets={_domain(one.domain): one.version for one in model.opset_import},
        inputs=_ports(model.graph.input),
        outputs=_ports(model.graph.output),
        operators=frozenset((_domain(node.domain), _text(node.op_type)) for graph in graphs for node in graph.node),
        has_external_data=any(_is_external(tensor) for graph in graphs for tensor in _tensors(graph)),
        has_own_code=bool(model.functions or model.training_info),
    )


def _problems(found: OnnxFile) -> Iterator[tuple[str, str]]:
    if found.has_external_data:
        yield "EXTERNAL_DATA", "keeps its weights in other files"
    if found.has_own_code:
        yield "OPERATOR_REFUSED", "has functions or training steps of its own"
    yield from (("OPSET_UNSUPPORTED", problem) for problem in _wrong_versions(found))
    for domain, name in sorted(found.operators):
        if domain not in OPSETS or name in ENDLESS:
            yield "OPERATOR_REFUSED", f"uses the operator {name[:60]!r} of {domain[:60] or 'ai.onnx'!r}"
    yield from (("SIGNATURE_WRONG", problem) for problem in _wrong_ports(found))


def _wrong_versions(found: OnnxFile) -> Iterator[str]:
    if found.ir_version not in IR_VERSIONS:
        yield f"has IR version {found.ir_version}; {_span(IR_VERSIONS)} can be run"
    # A set that is not used may be named: operators are looked at one by one.
    for domain, version in found.opsets.items():
        if domain in OPSETS and version not in OPSETS[domain]:
            yield f"has opset {version} of {domain or 'ai.onnx'}; {_span(OPSETS[domain])} can be run"


def _wrong_ports(found: OnnxFile) -> Iterator[str]:
    if len(found.outputs) != 1:
        yield f"has {len(found.outputs)} outputs; there must be one"
    for port in found.outputs.values():
        if port.element_type not in OUTPUT_TYPES or port.shape[1:] != (len(QUANTILE_LEVELS),):
            yield f"gives {list(port.shape)}; it must give {len(QUANTILE_LEVELS)} numbers a prompt, as float32"
    if not 1 <= len(found.inputs) <= INPUTS_MAX:
        yield f"has {len(found.inputs)} inputs; 1 to {INPUTS_MAX} can be given"
    for name, port in found.inputs.items():
        if port.element_type not in INPUT_TYPES or not port.shape or port.shape[0] != 0:
            yield f"has an input {name[:60]!r} that takes no batch of numbers"


def _graphs(graph: Any, depth: int) -> Iterator[Any]:
    if depth == 0:
        raise FailedPrecondition("the ONNX file nests its graphs too deep", reason="OPERATOR_REFUSED")
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inside = [attribute.g] if attribute.HasField("g") else []
            for one in (*inside, *attribute.graphs):
                yield from _graphs(one, depth - 1)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    yield from _of_sparse(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            yield from _of_sparse((attribute.sparse_tensor, *attribute.sparse_tensors))


def _of_sparse(some: Iterable[Any]) -> Iterator[Any]:
    for one in some:
        yield one.values
        yield one.indices


def _is_external(tensor: Any) -> bool:
    return bool(tensor.external_data) or tensor.data_location == _EXTERNAL


def _ports(values: Sequence[Any]) -> dict[str, Port]:
    return {_text(value.name): _port(value.type.tensor_type) for value in values}


def _port(kind: Any) -> Port:
    return Port(kind.elem_type, tuple(int(dimension.dim_value) for dimension in kind.shape.dim))


def _domain(name: bytes) -> str:
    return _text(name) if name != b"ai.onnx" else ""


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _span(versions: range) -> str:
    return f"{versions.start} to {versions.stop - 1}"


def _not_onnx() -> FailedPrecondition:
    return FailedPrecondition("the file is not an ONNX model; train or restore it", reason="NOT_ONNX")


def _make() -> Any:
    """The class that parses a model; its fields are those of `_MESSAGES`."""
    file = descriptor_pb2.FileDescriptorProto(name="forebay_onnx.proto", package="forebay.onnx", syntax="proto2")
    kind = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, type_) in fields.items():
            is_single = type_ == _WHOLE or field in _SINGLE or field in ("domain", "op_type", "name")
            label = kind.LABEL_OPTIONAL if is_single or field == "sparse_tensor" else kind.LABEL_REPEATED
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(type_, str):
                added.type, added.type_name = kind.TYPE_MESSAGE, f".forebay.onnx.{type_}"
            else:
                added.type = type_  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("forebay.onnx.Model"))


_Model = _make()
