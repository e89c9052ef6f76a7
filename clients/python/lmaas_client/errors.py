"""Turns a failed call into one exception with the reason, the broken fields and the time to come back."""

from typing import Any, cast

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from google.protobuf.message import Message

_DETAILS_KEY = "grpc-status-details-bin"
_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {"int32": _FIELD.TYPE_INT32, "string": _FIELD.TYPE_STRING}


class ForebayError(Exception):
    """A call that failed.

    code: the gRPC status. reason: stable and UPPER_SNAKE_CASE, empty where the server gave none. retry_after_s: seconds
    to wait before trying again, or None where waiting does not help. violations: what is wrong, by field.
    """

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode,
        reason: str = "",
        retry_after_s: float | None = None,
        violations: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.violations = violations or {}


def from_call(error: grpc.RpcError) -> ForebayError:
    """The exception for a failed call, blocking or asynchronous."""
    call = cast(Any, error)
    code: grpc.StatusCode = call.code()
    found = ForebayError(call.details() or code.name, code)
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            _read_details(value, found)
    return found


def _read_details(packed: bytes, error: ForebayError) -> None:
    for detail in _parse("Status", packed).details:
        kind = detail.type_url.rpartition(".")[2]
        if kind == "ErrorInfo":
            error.reason = _parse("ErrorInfo", detail.value).reason
        elif kind == "RetryInfo":
            delay = _parse("RetryInfo", detail.value).retry_delay
            error.retry_after_s = delay.seconds + delay.nanos / 1e9
        elif kind == "BadRequest":
            broken = _parse("BadRequest", detail.value).field_violations
            error.violations = {one.field: one.description for one in broken}


def _parse(name: str, data: bytes) -> Any:
    message = _CLASSES[name]()
    message.ParseFromString(data)
    return message


def _classes() -> dict[str, type[Message]]:
    """The four messages of google.rpc that errors use, in a pool of their own.

    Their package is not a dependency of this client, and the process may have loaded it for another reason.
    """
    file = descriptor_pb2.FileDescriptorProto(name="lmaas_client/errors.proto", package="lmaas_client", syntax="proto3")
    file.dependency.extend(["google/protobuf/any.proto", "google/protobuf/duration.proto"])
    _add(file, "Status", code=(1, "int32"), message=(2, "string"), details=(3, "*.google.protobuf.Any"))
    _add(file, "ErrorInfo", reason=(1, "string"), domain=(2, "string"))
    _add(file, "RetryInfo", retry_delay=(1, ".google.protobuf.Duration"))
    _add(file, "FieldViolation", field=(1, "string"), description=(2, "string"))
    _add(file, "BadRequest", field_violations=(1, "*.lmaas_client.FieldViolation"))
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, duration_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    names = ("Status", "ErrorInfo", "RetryInfo", "BadRequest")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"lmaas_client.{name}")) for name in names}


def _add(file: descriptor_pb2.FileDescriptorProto, name: str, **fields: tuple[int, str]) -> None:
    message = file.message_type.add(name=name)
    for field, (number, kind) in fields.items():
        label = _FIELD.LABEL_REPEATED if kind.startswith("*") else _FIELD.LABEL_OPTIONAL
        kind = kind.removeprefix("*")
        added = message.field.add(name=field, number=number, label=label, type=_TYPES.get(kind, _FIELD.TYPE_MESSAGE))
        if kind.startswith("."):
            added.type_name = kind


_CLASSES = _classes()
