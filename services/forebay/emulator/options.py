"""The texts of a command line or of a model's parameters as configuration values."""

import dataclasses
from collections.abc import Iterable, Mapping

from forebay.core.errors import ConfigError
from forebay.emulator.config import ColdStart, ModelSpec

PHASES = ("provisioning", "image", "runtime", "weights")
UNMEASURED = ColdStart(provisioning_s=30.0, runtime_s=15.0, weights_s=-1.0)
"""The cold start where nobody measured one: 30 s, 15 s, and the weights at 2 GB/s."""

SETTINGS = {field.name: str(field.type) for field in dataclasses.fields(ModelSpec) if field.name != "name"}


def parse_model(text: str, settings: Mapping[str, str]) -> ModelSpec:
    """`NAME` or `NAME=PROFILE` with the settings of all models. Raises ConfigError."""
    name, _, profile = text.partition("=")
    try:
        return with_settings(ModelSpec(name), {**({"profile": profile} if profile else {}), **settings})
    except ValueError as error:
        raise ConfigError(f"model {text!r}: {error}") from error


def with_settings(spec: ModelSpec, settings: Mapping[str, str]) -> ModelSpec:
    """`spec` with settings given as texts. Raises ValueError for an unknown name or a value of another type."""
    for name in settings:
        if name not in SETTINGS:
            raise ValueError(f"unknown setting {name!r}; known: {', '.join(SETTINGS)}")
    changes = {name: _convert(text, SETTINGS[name]) for name, text in settings.items()}
    return dataclasses.replace(spec, **changes)  # type: ignore[arg-type]


def parse_pairs(texts: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as a mapping. Raises ConfigError."""
    pairs = [text.partition("=") for text in texts]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise ConfigError(f"{key!r} is not KEY=VALUE")
    return {key: value for key, _, value in pairs}


def parse_cold_start(text: str) -> ColdStart:
    """`PHASE=SECONDS,...`, or "auto" for the durations where nobody measured any. Raises ConfigError."""
    if text == "auto":
        return UNMEASURED
    pairs = parse_pairs(part for part in text.split(",") if part)
    unknown = sorted(set(pairs) - set(PHASES))
    if unknown:
        raise ConfigError(f"unknown cold-start phase {unknown[0]!r}; known: {', '.join(PHASES)}")
    try:
        return ColdStart(**{f"{phase}_s": -1.0 if value == "auto" else float(value) for phase, value in pairs.items()})
    except ValueError as error:
        raise ConfigError(f"cold start {text!r}: {error}") from error


def _convert(text: str, type_name: str) -> object:
    if type_name.endswith("bool'>"):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() == "true"
    return int(text) if type_name.endswith("int'>") else text
