"""Profiles as plain documents, for files that carry one: all its integers, and the evidence behind them."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from forebay.core.instance.profile import EngineProfile

SCHEMA = "forebay.profile/1"

SUFFIX = ".json"
"""How the name of a profile ends that is the path of a file."""

STATUSES = ("checked", "kernel-level", "uncalibrated")

_FIELDS = {field.name: field for field in dataclasses.fields(EngineProfile)}
_TEXTS = ("name", "status")


def to_document(profile: EngineProfile, evidence: Mapping[str, object]) -> dict[str, Any]:
    """What a file says of `profile`; `evidence` is any JSON object, see `from_document`."""
    values = {name: getattr(profile, name) for name in _FIELDS}
    return {"schema": SCHEMA, "evidence": dict(evidence), **values, "iteration_ps": list(profile.iteration_ps)}


def from_document(document: object) -> tuple[EngineProfile, dict[str, Any]]:
    """The profile of a document with its evidence.

    Without errors on runs that were not fitted (`evidence.check`) the status is "uncalibrated", whatever the document
    says. Raises ValueError naming the key that is missing, unknown or cannot be.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA!r}; write profiles with: forebay calibrate --output FILE")
    values = {key: value for key, value in document.items() if key not in ("schema", "evidence")}
    _check_keys(values)
    evidence = document.get("evidence", {})
    if not isinstance(evidence, dict):
        raise ValueError("evidence must be an object")
    values["iteration_ps"] = tuple(values["iteration_ps"])
    if not evidence.get("check"):
        values["status"] = "uncalibrated"
    return EngineProfile(**values), evidence


def from_text(text: str) -> tuple[EngineProfile, dict[str, Any]]:
    """The profile of a file's text with its evidence; raises ValueError, naming the line where it is not JSON."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: not JSON: {error.msg}") from error
    return from_document(document)


def narrowed(profile: EngineProfile, max_seqs: int = 0, max_batch_tokens: int = 0, kv_tokens: int = 0) -> EngineProfile:
    """`profile` with smaller limits, and with another KV size; 0 keeps the profile's own.

    Limits beyond what was measured are cut to it, since nobody knows how long such an iteration takes.
    """
    seats = min(profile.max_seqs, max_seqs or profile.max_seqs)
    budget = min(profile.max_batch_tokens, max_batch_tokens or profile.max_batch_tokens)
    return dataclasses.replace(
        profile,
        max_seqs=seats,
        iteration_ps=profile.iteration_ps[: budget + 1],
        kv_tokens=kv_tokens or profile.kv_tokens,
    )


def _check_keys(values: Mapping[str, Any]) -> None:
    unknown = sorted(set(values) - set(_FIELDS))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(_FIELDS)}")
    for name, field in _FIELDS.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise ValueError(f"{name} is missing")
    for name, value in values.items():
        _check_value(name, value)


def _check_value(name: str, value: object) -> None:
    if name == "iteration_ps":
        if not isinstance(value, list) or any(type(entry) is not int for entry in value):
            raise ValueError("iteration_ps must be a list of whole picoseconds")
    elif name in _TEXTS:
        if not isinstance(value, str) or (name == "status" and value not in STATUSES):
            raise ValueError(f"{name} must be {'one of ' + ', '.join(STATUSES) if name == 'status' else 'a text'}")
    elif type(value) is not int:
        raise ValueError(f"{name} must be a whole number, got {value!r}")
