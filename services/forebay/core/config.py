"""Strict configuration: a mapping becomes a frozen dataclass, and an unknown key fails with a suggestion."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from forebay.core.errors import ConfigError

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, object], section: str) -> T:
    """Builds the dataclass `cls` from the keys of one TOML section; missing keys take the defaults.

    Raises ConfigError for an unknown key (naming the nearest one), a wrong type, or a value that the class refuses; its
    `violations` map the path of what is wrong, such as `groups[1].profile`, to the complaint.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cast(Any, cls)) if field.init}
    for key in values:
        if key not in fields:
            raise _wrong(f"{section}.{key}", f"unknown key {key!r} in [{section}]{_suggestion(key, fields)}")
    converted = {key: _convert(value, fields[key], f"{section}.{key}") for key, value in values.items()}
    try:
        return cls(**converted)
    except ValueError as error:
        raise _wrong(section, f"[{section}]: {error}") from error


def _suggestion(key: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(sorted(known)) or 'none'}"


def _convert(value: object, hint: Any, where: str) -> object:
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(where, f"{where} must be a list, not {type(value).__name__}{_brackets(value)}")
        item = typing.get_args(hint)[0]
        return tuple(_convert(entry, item, f"{where}[{index}]") for index, entry in enumerate(value))
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return _checked(value, dict, where)
    if origin in (typing.Union, types.UnionType):
        return value
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_mapping(cast("type[object]", hint), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return _number(value, where)
    return _checked(value, hint, where)


def _brackets(value: object) -> str:
    return "; its header needs two brackets on each side" if isinstance(value, dict) else f" ({value!r})"


def _number(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise _wrong(where, f"{where} is too large for a number") from error


def _checked(value: object, kind: type, where: str) -> object:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(where, f"{where} must be {kind.__name__}, not {type(value).__name__} ({value!r})")
    return value


def _wrong(path: str, message: str) -> ConfigError:
    return ConfigError(message, violations={path: message})
