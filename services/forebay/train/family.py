"""What the command line asks of a family of trained length models: one function from examples to an ONNX file."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast, runtime_checkable

from forebay.core.errors import ConfigError
from forebay.train.data import Examples

OnStep: TypeAlias = Callable[[str], None]
"""Told the name of each step that is done."""

FAMILIES: dict[str, str] = {
    "fast": "forebay.train.fast",
    "magnus": "forebay.train.magnus",
    "semantic": "forebay.train.semantic",
    "preserve": "forebay.train.preserve",
    "finetuned": "forebay.train.finetuned",
}
"""The module of each family; it has the members of `Family` and is imported only when it trains."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model as ONNX with what the predictor must know to run it.

    `metadata` has at least "name" (the policy: onnx_quantile, magnus, …), "features" (the extractor),
    "features_version" and "settings"; whoever writes the model adds version, digests, data and scores.
    """

    content: bytes
    metadata: Mapping[str, object]


class Family(Protocol):
    """The members of a family's module."""

    def step_count(self) -> int:
        """How often one `run` calls `on_step`."""
        ...

    def run(self, examples: Examples, seed: int, on_step: OnStep) -> Trained:
        """Fits on these examples and nothing else; equal examples and seeds give equal content on one machine.

        What calibration needs is held back from `examples` by `groups`, so that no prompt fits and calibrates. Raises
        ConfigError when the examples do not do, such as too few, or prompts without their text.
        """
        ...


@runtime_checkable
class Continuing(Family, Protocol):
    """The members of the module of a family that can also learn on from one of its models."""

    def run_from(self, start: bytes, examples: Examples, seed: int, on_step: OnStep) -> Trained:
        """As `run`, from where the model `start` ended. Raises ConfigError where that is none of this family."""
        ...


def family(name: str) -> Family:
    """The family of this name. Raises ConfigError for an unknown one, or where a package that it needs is missing."""
    if name not in FAMILIES:
        raise ConfigError(f"--family: there is no family {name!r}; known: {', '.join(FAMILIES)}")
    try:
        return cast(Family, importlib.import_module(FAMILIES[name]))
    except ImportError as error:
        missing = error.name or str(error)
        if missing == FAMILIES[name]:
            raise ConfigError(f"--family {name}: this build cannot train it; take another family") from error
        raise ConfigError(f"--family {name} needs {missing}, which is not here; run: make dev") from error
