"""Checks messages against the rules that stand beside their fields in the contract."""

import math
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias, cast

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from lmaas.common.v1 import rules_pb2

from forebay.core.errors import InvalidArgument

Check: TypeAlias = Callable[[Message], str]
_SPANS = {timestamp_pb2.Timestamp.DESCRIPTOR.full_name, duration_pb2.Duration.DESCRIPTOR.full_name}
_TIME_SECONDS_MAX = 253_402_300_799
"""The last second of the year 9999, where a Timestamp ends."""
_DURATION_SECONDS_MAX = 315_576_000_000
"""10,000 years, where a Duration ends."""
_NANOS = 1_000_000_000


def check(message: Message) -> None:
    """Raises InvalidArgument with one violation for each broken rule in the message or the messages inside it."""
    if not suffices(message):
        refuse(dict(violations_of(message)))


def refuse(violations: dict[str, str]) -> None:
    """Raises InvalidArgument with these violations; nothing where there is none."""
    if violations:
        field, text = next(iter(violations.items()))
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise InvalidArgument(f"{field} {text}{more}", violations=violations)


def suffices(message: Message) -> bool:
    """Whether the message surely keeps every rule, as most do; where it may not, `violations_of` tells."""
    rules = _rules(message)
    if not rules.glance(message):
        return False
    for name, is_repeated in rules.inner:
        if is_repeated:
            if not all(map(suffices, getattr(message, name))):
                return False
        elif message.HasField(name) and not suffices(getattr(message, name)):
            return False
    return True


def violations_of(message: Message, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of field path and what is wrong with the field; empty for a message that keeps every rule."""
    rules = _rules(message)
    if not rules.glance(message):
        yield from _own(rules, message, prefix)
    for name, is_repeated in rules.inner:
        value = getattr(message, name)
        if is_repeated:
            for index, item in enumerate(value):
                yield from violations_of(item, f"{prefix}{name}[{index}].")
        elif message.HasField(name):
            yield from violations_of(value, f"{prefix}{name}.")


def violations_of_fields(message: Message, prefix: str = "") -> Iterator[tuple[str, str]]:
    """As `violations_of`, but of the message's own fields only, not of the messages inside it."""
    yield from _own(_rules(message), message, prefix)


def _own(rules: "_Rules", message: Message, prefix: str) -> Iterator[tuple[str, str]]:
    for name, broken in rules.own:
        text = broken(message)
        if text:
            yield prefix + name, text


class _Rules(NamedTuple):
    """What is checked of a type: its own fields by name, and the fields that hold messages with rules of their own.

    A `glance` says of most good messages, in a third of the time that the checks take, that their own fields are good.
    """

    own: Sequence[tuple[str, Check]]
    inner: Sequence[tuple[str, bool]]
    glance: Callable[[Message], bool]


_CACHE: dict[str, _Rules] = {}


def _rules(message: Message) -> _Rules:
    known = _CACHE.get(message.DESCRIPTOR.full_name)
    return known or _learn(cast(Descriptor, message.DESCRIPTOR))


def _learn(descriptor: Descriptor) -> _Rules:
    """Makes the checks of a type once: reading options at each message would take longer than the checks."""
    extension = cast(Any, rules_pb2.rules)
    fields = cast("list[FieldDescriptor]", descriptor.fields)
    options = ((field, field.GetOptions()) for field in fields)
    ruled = [
        (field, of.Extensions[extension])
        for field, of in options
        if of.HasExtension(extension) or _always_checked(field)
    ]
    own, glance = tuple((field.name, _check_of(field, rules)) for field, rules in ruled), _glance_of(ruled)
    # First known without what is inside, so that a type which holds itself comes to an end.
    _CACHE[descriptor.full_name] = _Rules(own, (), glance)
    inner = tuple((field.name, field.is_repeated) for field in fields if _holds_rules(field))
    _CACHE[descriptor.full_name] = found = _Rules(own, inner, glance)
    return found


def _glance_of(ruled: Sequence[tuple[FieldDescriptor, rules_pb2.Rules]]) -> Callable[[Message], bool]:
    """Sees whether texts and lists are within sizes, numbers within ranges, and nothing is set that needs more."""
    sizes: dict[str, tuple[float, float]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    closer = {field.name: rules.required for field, rules in ruled if field.message_type and not field.is_repeated}
    for field, rules in ruled:
        if field.is_repeated:
            sizes[field.name] = int(rules.required), rules.max_items or math.inf
        elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            # A character has four bytes at most: most texts need not be encoded to be measured.
            sizes[field.name] = int(rules.required), rules.max_len // 4 or math.inf
        elif field.enum_type is not None:
            ranges[field.name] = _known_values(field, rules.required)
        elif field.name not in closer:
            ranges[field.name] = _bounds(rules)
    return _glance(sizes, ranges, closer)


def _glance(
    sizes: dict[str, tuple[float, float]], ranges: dict[str, tuple[float, float]], closer: dict[str, bool]
) -> Callable[[Message], bool]:
    sized, sizes_min, sizes_max = _reader(tuple(sizes)), *_columns(sizes)
    numbers, least, most = _reader(tuple(ranges)), *_columns(ranges)
    is_always_closer = any(closer.values())

    def suffices(message: Message) -> bool:
        for value, low, high in zip(sized(message), sizes_min, sizes_max, strict=True):
            if not low <= len(value) <= high:
                return False
        for value, low, high in zip(numbers(message), least, most, strict=True):
            if not low <= value <= high:
                return False
        return not (is_always_closer or any(map(message.HasField, closer)))

    return suffices


def _columns(bounds: dict[str, tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The lower and the upper bounds; whole ones as int, which compares with int in half the time."""
    whole = [[int(one) if math.isfinite(one) and one == int(one) else one for one in pair] for pair in bounds.values()]
    return [low for low, _ in whole], [high for _, high in whole]


def _reader(names: tuple[str, ...]) -> Callable[[Message], tuple[Any, ...]]:
    """Reads fields; one name alone would be read as it is, and none not at all."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda message: ()
    read = attrgetter(*names)
    return lambda message: (read(message),)


def _known_values(field: FieldDescriptor, required: bool) -> tuple[float, float]:
    """The numbers up to which an enum has no gap; a number beyond needs a closer look."""
    assert field.enum_type is not None
    known = field.enum_type.values_by_number
    return int(required), next(number for number in range(len(known) + 1) if number not in known) - 1


def _bounds(rules: rules_pb2.Rules) -> tuple[float, float]:
    least = rules.gte if rules.HasField("gte") else -math.inf
    return least, rules.lte if rules.HasField("lte") else math.inf


def _holds_rules(field: FieldDescriptor) -> bool:
    inside = field.message_type
    if inside is None or inside.GetOptions().map_entry or inside.full_name in _SPANS:
        return False
    if inside is field.containing_type:
        return True
    found = _CACHE.get(inside.full_name) or _learn(inside)
    return bool(found.own or found.inner)


def _always_checked(field: FieldDescriptor) -> bool:
    # Enums, times and durations can hold numbers that have no value to become, whatever the rules say.
    return field.enum_type is not None or (field.message_type is not None and field.message_type.full_name in _SPANS)


def _check_of(field: FieldDescriptor, rules: rules_pb2.Rules) -> Check:
    """What is wrong with the field of a message; empty where nothing is."""
    read = attrgetter(field.name)
    if field.is_repeated:
        return lambda message: _broken_size(len(read(message)), "items", rules.required, rules.max_items)
    if field.message_type is not None:
        return lambda message: _broken_message(message, field, read(message), rules)
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return _check_of_text(read, rules.required, rules.max_len)
    if field.enum_type is not None:
        return lambda message: _broken_enum(field, read(message), rules)
    return _check_of_number(read, rules)


def _check_of_text(read: Callable[[Message], Any], required: bool, most: int) -> Check:
    def broken(message: Message) -> str:
        value = read(message)
        size = len(value) if isinstance(value, bytes) else len(value.encode())
        return _broken_size(size, "bytes", required, most)

    return broken


def _check_of_number(read: Callable[[Message], Any], rules: rules_pb2.Rules) -> Check:
    least, most = _bounds(rules)
    # What is no number is not within any bounds.
    return lambda message: "" if least <= read(message) <= most else _broken_range(read(message), rules)


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
