"""Checks made from the rules beside the contract's fields: each is broken once, and must be refused by name."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import grpc
from google.protobuf import duration_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from lmaas.common.v1 import rules_pb2

from forebay.conformance.checks import Check, Suite, Target, demand, refusal
from forebay.wire.validate import violations_of

PROMISE = (
    "Rules: servers check them before any handler runs and answer INVALID_ARGUMENT with one BadRequest field violation "
    "a broken rule."
)
UNKNOWN_FIELD = b"\xfa\xff\xff\xff\x0f\x03new"
"""Field 536,870,911, a text: one that no version of the contract has."""


def add_rules(suite: Suite, samples: Mapping[str, Message]) -> None:
    """Adds a check for every rule that a good request of each unary RPC, by the RPC's name, can break."""
    for rpc, sample in samples.items():
        for path, broken in broken_ones(sample):
            name = f"a request whose {path} {dict(violations_of(broken))[path]} is refused by that field's name"
            suite.checks.append(Check(rpc, name, PROMISE, partial(_refused, suite.service, rpc, broken, path)))


def add_tolerance(suite: Suite, rpc: str, sample: Message) -> None:
    """Adds a check that a field of a later version of the contract does no harm."""
    promise = "Proto3: fields that are not known are kept or passed over, never an error."
    name = "a field of a later version of the contract does no harm"
    suite.checks.append(Check(rpc, name, promise, partial(_tolerated, suite.service, rpc, sample)))


def broken_ones(sample: Message) -> Iterator[tuple[str, Message]]:
    """Copies of a message, each with one rule broken, by the path of the field."""
    for path, broken in _broken(sample):
        if path in dict(violations_of(broken)):
            yield path, broken


def _broken(sample: Message, prefix: str = "") -> Iterator[tuple[str, Message]]:
    for field in cast("list[FieldDescriptor]", cast(Descriptor, sample.DESCRIPTOR).fields):
        options = field.GetOptions()
        extension = cast(Any, rules_pb2.rules)
        if options.HasExtension(extension):
            for value in _bad_values(sample, field, options.Extensions[extension]):
                yield prefix + field.name, _with(sample, field, value)
        yield from _broken_inside(sample, field, prefix)


def _broken_inside(sample: Message, field: FieldDescriptor, prefix: str) -> Iterator[tuple[str, Message]]:
    """The first item of a list, or what is set, with each of its own rules broken."""
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return
    held = getattr(sample, field.name)
    if field.is_repeated and held:
        for path, item in _broken(held[0], f"{prefix}{field.name}[0]."):
            yield path, _with(sample, field, [item, *held[1:]])
    elif not field.is_repeated and sample.HasField(field.name):
        for path, item in _broken(held, f"{prefix}{field.name}."):
            yield path, _with(sample, field, item)


def _bad_values(sample: Message, field: FieldDescriptor, rules: rules_pb2.Rules) -> Iterator[Any]:
    """Values that break each of the rules; None stands for one that is not set."""
    if rules.required:
        yield None
    if field.is_repeated:
        held = list(getattr(sample, field.name))
        if rules.max_items and held:
            yield (held * (rules.max_items + 1))[: rules.max_items + 1]
        return
    if rules.max_len:
        long = "x" * (rules.max_len + 1)
        yield long.encode() if field.type == FieldDescriptor.TYPE_BYTES else long
    if rules.HasField("lte"):
        yield _number(field, rules.lte + 1)
    if rules.HasField("gte") and rules.gte > 0:
        yield _number(field, rules.gte - 1)


def _number(field: FieldDescriptor, value: float) -> Any:
    if field.message_type is not None:
        span = duration_pb2.Duration()
        span.FromMicroseconds(round(value * 1_000_000))
        return span
    return value if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT) else int(value)


def _with(sample: Message, field: FieldDescriptor, value: Any) -> Message:
    made = type(sample)()
    made.CopyFrom(sample)
    made.ClearField(field.name)
    if value is None:
        return made
    if field.is_repeated:
        getattr(made, field.name).extend(value)
    elif field.message_type is not None:
        getattr(made, field.name).CopyFrom(value)
    else:
        setattr(made, field.name, value)
    return made


async def _refused(service: str, rpc: str, broken: Message, path: str, target: Target) -> None:
    error = await refusal(_send(target, service, rpc, broken.SerializeToString()), grpc.StatusCode.INVALID_ARGUMENT)
    named = ", ".join(error.violations) or "no field"
    demand(path in error.violations, f"INVALID_ARGUMENT came, with violations of {named} instead of {path}")


async def _tolerated(service: str, rpc: str, sample: Message, target: Target) -> None:
    await _send(target, service, rpc, sample.SerializeToString() + UNKNOWN_FIELD)


async def _send(target: Target, service: str, rpc: str, content: bytes) -> bytes:
    """Sends bytes as they are: what is wrong must not be mended on the way."""
    call: Any = target.channel.unary_unary(f"/{service}/{rpc}")
    answer: bytes = await call(content, timeout=target.timeout_s)
    return answer
