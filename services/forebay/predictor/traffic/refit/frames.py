"""Values as bytes between two of our own processes: JSON and plain arrays, dataclasses by name, never code."""

import dataclasses
import importlib
import io
import json
import struct
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from forebay.predictor.traffic.series import Floats

HEAD = struct.Struct("<4sQQ")
MAGIC = b"FBR1"
FRAME_BYTES_MAX = 256 << 20
"""More than a refit of the longest history takes, far less than a machine has."""
ARRAY_KINDS = "biuf"
PLAIN = (str, int, float, bool, type(None))


class FrameError(Exception):
    """What came is no frame of ours, or what is to go cannot be told in one."""


def pack(value: object) -> bytes:
    """One frame with the value: plain values, lists, tuples, mappings, arrays of numbers and dataclasses of these.

    Raises FrameError where the value holds anything else.
    """
    arrays: list[Floats] = []
    text = json.dumps(_told(value, arrays)).encode()
    block = io.BytesIO()
    np.savez(block, allow_pickle=False, **{f"a{index}": array for index, array in enumerate(arrays)})
    return HEAD.pack(MAGIC, len(text), block.tell()) + text + block.getvalue()


def sizes(head: bytes) -> tuple[int, int]:
    """How many bytes of text and of arrays follow a head. Raises FrameError where it is no head, or says too much."""
    magic, text_count, array_count = HEAD.unpack(head)
    if magic != MAGIC or text_count + array_count > FRAME_BYTES_MAX:
        raise FrameError("what came is not a frame")
    return text_count, array_count


def unpack(text: bytes, arrays: bytes, modules: Collection[str]) -> Any:
    """The value of a frame; dataclasses must be of `modules` or of what lies in them.

    Raises FrameError for anything else, whatever the bytes are.
    """
    try:
        with np.load(io.BytesIO(arrays), allow_pickle=False) as kept:
            found = {name: kept[name] for name in kept.files}
        return _read(json.loads(text), found, modules)
    except FrameError:
        raise
    except Exception as error:
        # The many ways in which bytes can be wrong have as many errors.
        raise FrameError(f"what came cannot be read ({type(error).__name__}: {error})") from error


def _told(value: object, arrays: list[Floats]) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in PLAIN:
        return value
    if isinstance(value, np.ndarray):
        return {"array": _kept(value, arrays)}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_told(one, arrays) for one in value]}
    if isinstance(value, Mapping):
        return {"dict": [[_told(key, arrays), _told(one, arrays)] for key, one in value.items()]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        told = {one.name: _told(getattr(value, one.name), arrays) for one in dataclasses.fields(value) if one.init}
        return {"value": kind, "fields": told}
    raise FrameError(f"{type(value).__name__} is not a plain value")


def _kept(array: Any, arrays: list[Floats]) -> int:
    if array.dtype.kind not in ARRAY_KINDS:
        raise FrameError(f"an array of {array.dtype} is not plain")
    arrays.append(array)
    return len(arrays) - 1


def _read(told: Any, arrays: Mapping[str, Any], modules: Collection[str]) -> Any:
    if not isinstance(told, dict):
        return told
    readers: Mapping[str, Callable[[Any], Any]] = {
        "array": lambda index: arrays[f"a{index}"],
        "list": lambda rest: [_read(one, arrays, modules) for one in rest],
        "tuple": lambda rest: tuple(_read(one, arrays, modules) for one in rest),
        "dict": lambda rest: {_read(key, arrays, modules): _read(one, arrays, modules) for key, one in rest},
        "value": lambda kind: _kind(kind, modules)(
            **{name: _read(one, arrays, modules) for name, one in told["fields"].items()}
        ),
    }
    name = next(iter(told))
    return readers[name](told[name])


def _kind(name: str, modules: Collection[str]) -> Any:
    module, _, path = name.partition(":")
    if not any(module == one or module.startswith(f"{one}.") for one in modules):
        raise FrameError(f"{name} is of a module that frames may not name")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise FrameError(f"{name} is not a dataclass")
    return found
