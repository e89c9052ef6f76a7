"""Generators of workloads, each made again from its seed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.simulator.workload.arrivals import Diurnal, Gamma, Poisson, Spikes
from forebay.simulator.workload.base import Workload
from forebay.simulator.workload.lengths import LENGTHS, Lengths, SampledLengths
from forebay.simulator.workload.programs import Programs, Sessions


class Generator(Protocol):
    """Makes workloads; its fields are its parameters."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def generate(self, seed: int = 0) -> Workload:
        """The workload of this seed: equal seeds give equal workloads."""
        ...


GENERATORS: Mapping[str, type[Generator]] = {
    "poisson": Poisson,
    "gamma": Gamma,
    "diurnal": Diurnal,
    "spikes": Spikes,
    "sessions": Sessions,
    "programs": Programs,
}


def make_generator(name: str, options: Mapping[str, object], source: Workload | None = None) -> Generator:
    """The generator of that name with its parameters from a table such as TOML's.

    `lengths` is a table too: its `kind` is one of LENGTHS, the rest are that model's parameters; "sampled" draws from
    `source`. Raises ConfigError for what is not known or cannot be.
    """
    if name not in GENERATORS:
        raise ConfigError(f"no generator {name!r}; known: {', '.join(GENERATORS)}")
    plain = {key: value for key, value in options.items() if key != "lengths"}
    generator = from_mapping(GENERATORS[name], plain, f"workload ({name})")
    return replace(generator, lengths=_lengths(options["lengths"], source)) if "lengths" in options else generator


def _lengths(table: object, source: Workload | None) -> Lengths:
    if not isinstance(table, Mapping) or table.get("kind") not in LENGTHS:
        raise ConfigError(f"lengths must be a table whose kind is one of {', '.join(LENGTHS)}; it is {table!r}")
    options = {name: value for name, value in table.items() if name != "kind"}
    if table["kind"] != "sampled":
        return from_mapping(LENGTHS[table["kind"]], options, f"lengths ({table['kind']})")
    if source is None or options:
        raise ConfigError('lengths of kind "sampled" need a workload to draw from, and have no parameters')
    return SampledLengths(source)
