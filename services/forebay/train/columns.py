"""The columns of anybody's examples: what each may hold, and what stands for it where it is missing."""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from forebay.core.errors import ConfigError
from forebay.core.prediction import TOKENS_MAX

PROMPT_BYTES_MAX = 16 << 20
HEX_DIGITS = 16
SIDES = ("train", "test")
NEAR = 0.8
"""An unknown column that is so much like a known one is a slip of the pen."""

Check: TypeAlias = Callable[[Any], Any]


class NotSo(ValueError):
    """What a value must be."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: how its values are checked, what stands for it where it is missing, and what a reader is told."""

    check: Check
    default: Any
    text: str


def _whole(least: int, most: int) -> Check:
    def check(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if type(number) is not int or not least <= number <= most:
            raise NotSo(f"a whole number from {least} to {most}")
        return number

    return check


def _number(least: float, most: float) -> Check:
    def check(value: Any) -> float:
        try:
            number = float(value) if type(value) in (int, float, str) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not least <= number <= most:
            raise NotSo(f"a number from {least:g} to {most:g}")
        return number

    return check


def _text(bytes_max: int, least: int = 0) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value.encode(errors="replace")) <= bytes_max:
            raise NotSo(f"a text of {least} to {bytes_max:,} bytes")
        return value

    return check


def _flag(value: Any) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    plain = str(value).lower()
    if not isinstance(value, bool | int | str) or plain not in known:
        raise NotSo("true or false")
    return known[plain]


def _hexadecimal(value: Any) -> str:
    digits = set("0123456789abcdef")
    if not isinstance(value, str) or (value and (len(value) != HEX_DIGITS or not set(value) <= digits)):
        raise NotSo(f"{HEX_DIGITS} hexadecimal digits, or empty")
    return value


def _side(value: Any) -> str:
    if value not in SIDES:
        raise NotSo("train or test")
    return str(value)


COLUMNS: Mapping[str, Column] = {
    "prompt": Column(_text(PROMPT_BYTES_MAX), None, "the whole prompt as text"),
    "response_tokens": Column(_whole(0, TOKENS_MAX), None, "tokens of the answer"),
    "prompt_tokens": Column(_whole(1, TOKENS_MAX), 0, "tokens of the prompt; estimated from its bytes where missing"),
    "model": Column(_text(200, 1), "model", "the model that answered"),
    "application": Column(_text(128), "", "what the caller said it was doing"),
    "tenant": Column(_text(128), "default", "who paid"),
    "tokens_max": Column(_whole(0, TOKENS_MAX), 0, "limit of the answer; 0 means none"),
    "temperature": Column(_number(0, 2), 0.0, "sampling temperature"),
    "turn_number": Column(_whole(0, 2**32 - 1), 0, "turn of the conversation, 1 the first; 0 means unknown"),
    "system_digest": Column(_hexadecimal, "", "first 8 bytes of the SHA-256 of the system prompt, in hexadecimal"),
    "censored": Column(_flag, False, "whether the answer was cut, so that it is at least so long"),
    "prompt_id": Column(_text(200, 1), "", "rows with one id stay on one side of the split"),
    "split": Column(_side, "", "train or test; drawn by prompt where missing"),
    "licence": Column(_text(200), "", "licence of the prompt, for the record of the model"),
}
"""The columns of a table; those without a default are required. Others are left out, and a note says so."""
REQUIRED = tuple(name for name, column in COLUMNS.items() if column.default is None)


def checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of all columns of a row, checked. Raises ConfigError naming `where` and the column."""
    found = {}
    for name, column in COLUMNS.items():
        value = values.get(name)
        if value is None and column.default is None:
            has = ", ".join(key for key in values if isinstance(key, str)) or "nothing"
            raise ConfigError(f"{where}: {name} ({column.text}) is missing; it has {has[:200]}")
        try:
            found[name] = column.default if value is None else column.check(value)
        except NotSo as error:
            # A prompt may be secret: it is never shown.
            shown = "" if name == "prompt" else f", not {str(value)[:60]!r}"
            raise ConfigError(f"{where}: {name} must be {error}{shown}") from error
    return found


def refuse_slips(names: set[str], where: str) -> None:
    """Raises ConfigError for a column that is so much like a known one that it must be a slip of the pen."""
    for name in sorted(names - set(COLUMNS)):
        near = difflib.get_close_matches(name.casefold(), COLUMNS, n=1, cutoff=NEAR)
        if near and near[0] not in names:
            raise ConfigError(f"{where}: unknown column {name!r}; did you mean {near[0]!r}?")
