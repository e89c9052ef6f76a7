"""An experiment: one trace, one world, several policies, over seeds and loads; read strictly from a TOML file."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.core.promises import Promises
from forebay.simulator.arms import check_arm
from forebay.simulator.config import (
    CLASS_NAMES,
    ClientConfig,
    DonationConfig,
    EngineConfig,
    Fault,
    Group,
    Knob,
    MigrationConfig,
    NetworkConfig,
    ObservationConfig,
    OracleConfig,
    PolicyConfig,
    Prefill,
    SpotConfig,
    StartConfig,
    Stock,
    StudentConfig,
    World,
)
from forebay.simulator.oracles.bound import refusal
from forebay.simulator.oracles.search import BEST_FLEET
from forebay.simulator.profiles import profile_of
from forebay.simulator.statistics import MEASURES, STATES
from forebay.simulator.summary import ALL
from forebay.simulator.toml_lines import Path as KeyPath
from forebay.simulator.toml_lines import key_lines, nearest_line, parse_path
from forebay.simulator.trace_config import TraceConfig, check_options, locate

_ROOT = "experiment"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")
_NAME_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Arm:
    """[[policies]]: one way to run the services, in the tables of forebay.toml. An `oracle` knows what nobody can.

    `engine` changes the world's [engine] for this arm, such as its batcher, which is a policy inside the instance.
    """

    name: str = ""
    oracle: bool = False
    scheduler: Mapping[str, object] = field(default_factory=dict)
    autoscaler: Mapping[str, object] = field(default_factory=dict)
    predictor: Mapping[str, object] = field(default_factory=dict)
    gateway: Mapping[str, object] = field(default_factory=dict)
    engine: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; give letters, digits and ' ._+-', such as 'least requests'")
        _need(len(self.name) <= _NAME_LENGTH_MAX, f"name has more than {_NAME_LENGTH_MAX} characters; shorten it")

    @property
    def slug(self) -> str:
        """The name as part of a path."""
        return self.name.replace(" ", "_")

    @property
    def policy(self) -> PolicyConfig:
        """What a run is told of it."""
        return PolicyConfig(self.name, self.scheduler, self.autoscaler, self.predictor, self.gateway)


@dataclass(frozen=True, slots=True)
class Experiment:
    """Everything in the file. Each policy runs at each load with each seed; `loads` multiply the trace's rate.

    A seed draws what the trace leaves open and every random choice of the run; policies meet the same requests under
    equal seeds. `direct` compares routers alone, several times as fast: every request is placed at once on a fixed
    fleet that nobody watches, and nobody reports progress (`simulator.direct`, which says what it cannot do).

    `columns` are the measures that the printed tables show, by key, over all classes or of one:
    "attainment/interactive-fast" (empty: the usual ones).
    """

    name: str = ""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    loads: tuple[float, ...] = (1.0,)
    direct: bool = False
    horizon_s: float = 0.0
    trace: TraceConfig = field(default_factory=TraceConfig)
    groups: tuple[Group, ...] = ()
    stocks: tuple[Stock, ...] = ()
    prefill: tuple[Prefill, ...] = ()
    engine: EngineConfig = field(default_factory=EngineConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    start: StartConfig = field(default_factory=StartConfig)
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    faults: tuple[Fault, ...] = ()
    knobs: tuple[Knob, ...] = ()
    spot: SpotConfig = field(default_factory=SpotConfig)
    donation: DonationConfig = field(default_factory=DonationConfig)
    clients: ClientConfig = field(default_factory=ClientConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    slo: Promises = field(default_factory=Promises)
    migration: MigrationConfig = field(default_factory=MigrationConfig)
    oracle: OracleConfig = field(default_factory=OracleConfig)
    policies: tuple[Arm, ...] = ()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        is_plain = self.name.isprintable() and not set(self.name) & set("/\\") and self.name.strip(". ")
        _need(bool(is_plain), f"name is {self.name!r}, which cannot name a folder; leave out slashes")
        _need(len(self.name) <= _NAME_LENGTH_MAX, f"name has more than {_NAME_LENGTH_MAX} characters; shorten it")
        _need(bool(self.policies), "there is no policy; add a [[policies]] with a name")
        _need(bool(self.seeds), "seeds is empty; give at least one, such as [1, 2, 3, 4, 5]")
        _need(all(seed >= 0 for seed in self.seeds), "seeds must not be negative")
        _need(
            bool(self.loads) and all(1e-6 <= load < 1e6 for load in self.loads),
            "loads must be numbers above 0 (from 1e-6 to below 1e6), such as [1.0]",
        )
        _need(self.horizon_s >= 0, "horizon_s must not be negative")
        _need(len(set(self.seeds)) == len(self.seeds), "seeds must differ from each other")
        # Their runs are kept under these digits.
        apart = len({f"{load:g}" for load in self.loads}) == len(self.loads)
        _need(apart, "loads must differ from each other in their first six digits")
        slugs = [arm.slug.lower() for arm in self.arms]
        for arm in self.policies:
            _need(slugs.count(arm.slug.lower()) == 1, f"two policies have the name {arm.name!r}; names must differ")
        for column in self.columns:
            _check_column(column)
        self.world  # noqa: B018 - raises where the world cannot be
        for index in range(len(self.policies)):
            self.world_of(index)
        _need(not (self.direct and self.oracle.search), "direct runs have no fleet to search; leave out one of the two")
        reason = refusal(self.world) if self.oracle.search else ""
        _need(not reason, f"[oracle] search: {reason}")

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The policies, and the best fleet where one is searched; what it is made of differs from run to run."""
        return (*self.policies, Arm(BEST_FLEET, oracle=True)) if self.oracle.search else self.policies

    def world_of(self, index: int) -> World:
        """The world of one policy: the common one, but for what that policy says of the engine."""
        changed = {**dataclasses.asdict(self.engine), **self.policies[index].engine}
        engine = from_mapping(EngineConfig, changed, f"{_ROOT}.policies[{index}].engine")
        return dataclasses.replace(self.world, engine=engine)

    @property
    def world(self) -> World:
        """What no policy decides."""
        return World(**{known.name: getattr(self, known.name) for known in dataclasses.fields(World)})


def read(path: Path, data: Path | None = None, samples: Path = Path()) -> Experiment:
    """The experiment in a file, checked, with the path of its trace made absolute.

    `data` is the folder of public data and `samples` that of the samples that ship. Raises ConfigError naming the line
    and the key of what is wrong.
    """
    text = _text(path)
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not TOMLDecodeError alone: numbers of thousands of digits and deep nesting fail otherwise.
        raise ConfigError(_with_line(path, str(error))) from error
    if "trace" not in tables and {known.name for known in dataclasses.fields(Experiment)} >= set(tables):
        raise ConfigError(f"{path}: there is no [trace]; add one with a path or a generator")
    try:
        experiment = from_mapping(Experiment, {"name": path.stem, **tables}, _ROOT)
        trace = locate(experiment.trace, path.resolve().parent, data, samples)
        check_options(trace, f"{_ROOT}.trace")
        for index, group in enumerate(experiment.groups):
            _check_group(group, f"{_ROOT}.groups[{index}]")
        for index, prefill in enumerate(experiment.prefill):
            _check_prefill(prefill, f"{_ROOT}.prefill[{index}]")
        for index, arm in enumerate(experiment.policies):
            check_arm(arm.policy, f"{_ROOT}.policies[{index}]")
            _check_swap(experiment.world_of(index))
        return dataclasses.replace(experiment, trace=trace)
    except ConfigError as error:
        raise _located(error, path, key_lines(text)) from error


def _check_column(column: str) -> None:
    key, _, slo_class = column.partition("/")
    known = [measure.key for measure in (*MEASURES, *STATES)]
    _need(key in known, f"columns has {column!r}, but there is no measure {key!r}; known: {', '.join(known)}")
    classes = ["", ALL, *CLASS_NAMES.values()]
    _need(slo_class in classes, f"columns has {column!r}; after the slash goes one of {', '.join(classes[1:])}")


def _check_group(group: Group, where: str) -> None:
    """Raises ConfigError for a profile that the catalog cannot make and for bounds that contradict each other."""
    try:
        profile_of(group.profile)
    except ValueError as error:
        raise ConfigError(f"[[groups]]: {error}", violations={f"{where}.profile": str(error)}) from error
    if not group.instances_min <= group.instances_initial <= group.instances_max:
        text = (
            f"[[groups]]: {group.model} has {group.instances_initial} instances at first, which must be from "
            f"instances_min ({group.instances_min}) to instances_max ({group.instances_max})"
        )
        raise ConfigError(text, violations={f"{where}.instances_initial": text})


def _check_prefill(prefill: Prefill, where: str) -> None:
    """Raises ConfigError for a profile that the catalog cannot make or that does not tell how large caches are."""
    try:
        profile = profile_of(prefill.profile)
        if prefill.link_gb_per_s:
            profile.kv_transfer_ps(1, 1)
    except ValueError as error:
        raise ConfigError(f"[[prefill]]: {error}", violations={f"{where}.profile": str(error)}) from error


def _check_swap(world: World) -> None:
    """Raises ConfigError where caches are swapped whose size no profile tells."""
    try:
        for group in world.groups:
            world.engine.flags(profile_of(group.profile))
    except ValueError as error:
        text = f"[engine]: {error}; measure it, or set swap_gb_per_s = 0"
        raise ConfigError(text, violations={f"{_ROOT}.engine.preemption": text}) from error


def _located(error: ConfigError, path: Path, lines: Mapping[KeyPath, int]) -> ConfigError:
    """The error with the line of the key that it complains of."""
    message = error.message.replace(f"[{_ROOT}]", "the experiment").replace(f"{_ROOT}.", "")
    key = parse_path(next(iter(error.violations), _ROOT))[1:]
    line = nearest_line(lines, _refined(key, lines, message))
    return ConfigError(f"{path}:{line}: {message}" if line else f"{path}: {message}", violations=error.violations)


def _refined(table: KeyPath, lines: Mapping[KeyPath, int], message: str) -> KeyPath:
    """The key inside the table that the message names first, where the complaint is about the whole table."""
    inside = [path for path in lines if len(path) == len(table) + 1 and path[: len(table)] == table]
    found = [(where.start(), path) for path in inside if (where := re.search(rf"\b{path[-1]}\b", message))]
    return min(found)[1] if found else table


def _with_line(path: Path, message: str) -> str:
    found = re.search(r" \(at line (\d+), column \d+\)", message)
    if found is None:
        return f"{path}: not TOML: {message}"
    return f"{path}:{found[1]}: not TOML: {message.replace(found[0], '')}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the experiment {path}: {error}") from error


def _need(holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(text)
