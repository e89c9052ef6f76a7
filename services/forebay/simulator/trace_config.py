"""Where an experiment's requests come from: a file or a generator, and what is done to them before a run."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.simulator.config import CLASS_NAMES
from forebay.simulator.traces import FORMATS, guess
from forebay.simulator.workload.alter import HOWS
from forebay.simulator.workload.generators import GENERATORS, make_generator

DATA = "data:"
"""What a path begins with that is looked up in the folder of public data."""
SAMPLES = "samples:"
"""What a path begins with that comes with Forebay."""
KINDS = {"prompts": "file of prompts", "errors": "file of prompts"}
"""What a key names, where it is no trace."""
MADE_HERE = (".forebay", "prompts")
"""Where `benchmarks.NAME_prompts` puts the prompts NAME.jsonl, which may not be handed on."""


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """[trace]: either `path` (and its `format` where it cannot be told), or `generator`; `options` are either's own.

    A path is relative to the experiment's file; `data:` before it stands for the folder of public data (FOREBAY_DATA),
    `samples:` for what comes with Forebay. `start_s` and `duration_s` cut a window (0: to the end), `limit` keeps the
    first requests of it (0: all) and `tokens_max` shortens prompts until prompt and answer fit (0: never).

    `prompts` is a file of prompts with known answer lengths, which take the place of the trace's own lengths: only then
    does a predictor that reads text have something to read. Arrivals and texts are then of different origin.

    `errors` is such a file with predictions, whose errors are drawn anew for requests that have no text ("resampled
    error"); without either there is nothing that the predictor "recorded" could say.

    `model` sends all of them to one model; the shares draw models, classes, regions and tenants by seed; without them
    the trace's own stay. `deadlines_s` are those of drawn classes; where `keep_classes` names some, the requests of the
    others are left out, so that one sees the same requests with and without company. `shuffle_s` exchanges lengths
    among the requests of each window of that length by seed (0: never), so that seeds differ where a file leaves
    nothing else open. A load is met by `load_by`: "stretch" divides all times, "copies" keeps the times and repeats or
    thins the requests.
    """

    format: str = ""
    path: str = ""
    generator: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    start_s: float = 0.0
    duration_s: float = 0.0
    limit: int = 0
    prompts: str = ""
    errors: str = ""
    tokens_max: int = 0
    model: str = ""
    model_shares: Mapping[str, float] = field(default_factory=dict)
    class_shares: Mapping[str, float] = field(default_factory=dict)
    region_shares: Mapping[str, float] = field(default_factory=dict)
    tenant_shares: Mapping[str, float] = field(default_factory=dict)
    deadlines_s: Mapping[str, float] = field(default_factory=dict)
    keep_classes: tuple[str, ...] = ()
    shuffle_s: float = 0.0
    load_by: str = "stretch"

    def __post_init__(self) -> None:
        _need(bool(self.generator) != bool(self.path), "give either a generator or a path")
        _need(bool(self.path) or not self.format, "format belongs to a path; a generator has none")
        _need_known("format", self.format, FORMATS)
        _need_known("generator", self.generator, GENERATORS)
        for name in ("start_s", "duration_s", "limit", "tokens_max", "shuffle_s"):
            _need(0 <= getattr(self, name) < math.inf, f"{name} must not be negative, but a finite number")
        _need(self.load_by in HOWS, f"load_by must be one of {', '.join(HOWS)}, not {self.load_by!r}")
        _need(not (self.prompts and self.errors), "prompts have predictions of their own; leave out errors")
        _need(not (self.model and self.model_shares), "model and model_shares exclude each other")
        for name in ("model_shares", "class_shares", "region_shares", "tenant_shares"):
            _need_shares(name, getattr(self, name))
        for name in ("class_shares", "deadlines_s", "keep_classes"):
            unknown = sorted(set(getattr(self, name)) - set(CLASS_NAMES.values()))
            known = ", ".join(CLASS_NAMES.values())
            _need(not unknown, f"{name} has no class {', '.join(unknown)}; known: {known}")
        for name, value in self.deadlines_s.items():
            _need(_is_number(value) and value >= 0, f"deadlines_s.{name} must be seconds of 0 or more, not {value!r}")
        _need(bool(self.class_shares) or not self.deadlines_s, "deadlines_s need class_shares beside them")


def check_options(trace: TraceConfig, where: str) -> None:
    """Raises ConfigError for options that the reader or the generator does not take, at the path `where`.options."""
    try:
        if trace.generator:
            make_generator(trace.generator, trace.options)
        else:
            from_mapping(FORMATS[trace.format], trace.options, f"{where}.options")
    except (ConfigError, ValueError) as error:
        raise ConfigError(str(error), violations={f"{where}.options": str(error)}) from error


def locate(trace: TraceConfig, folder: Path, data: Path | None, samples: Path) -> TraceConfig:
    """The same trace with absolute paths and its format; relative paths are sought in `folder`.

    Raises ConfigError for a file that is not there, saying where it was sought, or whose format cannot be told.
    """
    places = {DATA: data, SAMPLES: samples}
    if trace.prompts:
        trace = dataclasses.replace(trace, prompts=str(_found("prompts", trace.prompts, folder, places)))
    if trace.errors:
        trace = dataclasses.replace(trace, errors=str(_found("errors", trace.errors, folder, places)))
    if not trace.path:
        return trace
    found = _found("path", trace.path, folder, places)
    try:
        return dataclasses.replace(trace, path=str(found), format=trace.format or guess(found))
    except ConfigError as error:
        raise _at("path", error.message) from error


def _found(key: str, name: str, folder: Path, places: Mapping[str, Path | None]) -> Path:
    base, rest = folder, name
    for prefix, place in places.items():
        if not name.startswith(prefix):
            continue
        if place is None:
            raise _at(key, f"{name} needs the public data, which is not here; set FOREBAY_DATA to its folder")
        base, rest = place, name.removeprefix(prefix)
    found = (base / rest).resolve()
    if not found.exists():
        raise _at(key, f"there is no {KINDS.get(key, 'trace')} {found}; {key} is {name!r}{_made_by(found)}")
    return found


def _made_by(path: Path) -> str:
    """How to make a file of prompts that the repository's own experiments expect."""
    is_made_here = path.parent.parts[-2:] == MADE_HERE
    return f"; make it once: python -m benchmarks.{path.stem}_prompts" if is_made_here else ""


def _at(key: str, text: str) -> ConfigError:
    return ConfigError(text, violations={f"experiment.trace.{key}": text})


def _need_shares(name: str, shares: Mapping[str, object]) -> None:
    for key, value in shares.items():
        _need(
            _is_number(value) and 0 <= float(str(value)) < math.inf,
            f"{name}.{key} must be a share of 0 or more, not {value!r}",
        )
    _need(not shares or sum(float(str(value)) for value in shares.values()) > 0, f"{name} must not all be 0")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _need_known(kind: str, name: str, known: Mapping[str, object]) -> None:
    _need(not name or name in known, f"no {kind} {name!r}; known: {', '.join(known)}")


def _need(holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(text)
