"""Checks messages against the rules that stand beside their fields in the contract."""

import math
from collections.abc import Iterator
from typing import Any, cast

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from lmaas.common.v1 import rules_pb2

from forebay.core.errors import InvalidArgument

_SPANS = {timestamp_pb2.Timestamp.DESCRIPTOR.full_name, duration_pb2.Duration.DESCRIPTOR.full_name}
_TIME_SECONDS_MAX = 253_402_300_799
"""The last second of the year 9999, where a Timestamp ends."""
_DURATION_SECONDS_MAX = 315_576_000_000
"""10,000 years, where a Duration ends."""
_NANOS = 1_000_000_000


def check(message: Message) -> None:
    """Raises InvalidArgument with one violation for each broken rule in the message or the messages inside it."""
    refuse(dict(violations_of(message)))


def refuse(violations: dict[str, str]) -> None:
    """Raises InvalidArgument with these violations; nothing where there is none."""
    if violations:
        field, text = next(iter(violations.items()))
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise InvalidArgument(f"{field} {text}{more}", violations=violations)


def violations_of(message: Message, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of field path and what is wrong with the field; empty for a message that keeps every rule."""
    yield from violations_of_fields(message, prefix)
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from _inside(field, value, prefix + field.name)


def violations_of_fields(message: Message, prefix: str = "") -> Iterator[tuple[str, str]]:
    """As `violations_of`, but of the message's own fields only, not of the messages inside it."""
    for field, rules in _rules(message.DESCRIPTOR.full_name, message):
        text = _broken(message, field, rules)
        if text:
            yield prefix + field.name, text


def _inside(field: FieldDescriptor, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if field.is_repeated:
        for index, item in enumerate(value):
            yield from violations_of(item, f"{path}[{index}].")
    else:
        yield from violations_of(value, f"{path}.")


_CACHE: dict[str, list[tuple[FieldDescriptor, rules_pb2.Rules]]] = {}


def _rules(name: str, message: Message) -> list[tuple[FieldDescriptor, rules_pb2.Rules]]:
    known = _CACHE.get(name)
    if known is None:
        extension = cast(Any, rules_pb2.rules)
        options = ((field, field.GetOptions()) for field in cast("list[FieldDescriptor]", message.DESCRIPTOR.fields))
        ruled = ((field, of) for field, of in options if of.HasExtension(extension) or _always_checked(field))
        known = [(field, of.Extensions[extension]) for field, of in ruled]
        _CACHE[name] = known
    return known


def _always_checked(field: FieldDescriptor) -> bool:
    # Enums, times and durations can hold numbers that have no value to become, whatever the rules say.
    return field.enum_type is not None or (field.message_type is not None and field.message_type.full_name in _SPANS)


def _broken(message: Message, field: FieldDescriptor, rules: rules_pb2.Rules) -> str:
    value = getattr(message, field.name)
    if field.is_repeated:
        return _broken_size(len(value), "items", rules.required, rules.max_items)
    if field.message_type is not None:
        return _broken_message(message, field, value, rules)
    if isinstance(value, str | bytes):
        length = len(value) if isinstance(value, bytes) else len(value.encode())
        return _broken_size(length, "bytes", rules.required, rules.max_len)
    if field.enum_type is not None:
        return _broken_enum(field, value, rules)
    return _broken_range(value, rules)


def _broken_message(message: Message, field: FieldDescriptor, value: Any, rules: rules_pb2.Rules) -> str:
    if not message.HasField(field.name):
        return "must be set" if rules.required else ""
    if isinstance(value, timestamp_pb2.Timestamp):
        return "" if _is_time(value) else "must lie between 1970 and 9999"
    if isinstance(value, duration_pb2.Duration):
        return (
            _broken_range(value.seconds + value.nanos / 1e9, rules) if _is_duration(value) else "is no valid duration"
        )
    return ""


def _is_time(value: timestamp_pb2.Timestamp) -> bool:
    return 0 <= value.seconds <= _TIME_SECONDS_MAX and 0 <= value.nanos < _NANOS


def _is_duration(value: duration_pb2.Duration) -> bool:
    signs_agree = value.seconds * value.nanos >= 0
    return abs(value.seconds) <= _DURATION_SECONDS_MAX and abs(value.nanos) < _NANOS and signs_agree


def _broken_size(size: int, unit: str, required: bool, most: int) -> str:
    if required and size == 0:
        return "must not be empty"
    if most and size > most:
        return f"has {size} {unit}; at most {most} are allowed"
    return ""


def _broken_enum(field: FieldDescriptor, value: int, rules: rules_pb2.Rules) -> str:
    assert field.enum_type is not None
    if rules.required and value == 0:
        return f"must be set to a {field.enum_type.name}"
    if value not in field.enum_type.values_by_number:
        return f"has the unknown value {value}"
    return ""


def _broken_range(value: float, rules: rules_pb2.Rules) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "must be a number"
    if rules.HasField("gte") and value < rules.gte:
        return f"is {value:.12g}; it must be at least {rules.gte:.12g}"
    if rules.HasField("lte") and value > rules.lte:
        return f"is {value:.12g}; it must be at most {rules.lte:.12g}"
    return ""
