"""The world of a run: the fleet, its engines, its network, its troubles, and what users are promised."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from forebay.core.instance import EngineFlags, EngineProfile, flags_of
from forebay.core.instance.batcher import make_batcher
from forebay.core.promises import Promises
from forebay.core.values import InstanceRole, SloClass

CLASS_NAMES: Mapping[int, str] = {
    SloClass.INTERACTIVE_FAST: "interactive-fast",
    SloClass.INTERACTIVE_NORMAL: "interactive-normal",
    SloClass.DEFERRED: "deferred",
}
"""The classes as the gateway's header names them."""
FAULTS = ("crash", "hang", "slow")
HORIZON_S_MAX = 1_000_000_000
INSTANCES_MAX = 100_000
ROLES = tuple(role.name.lower() for role in InstanceRole)
"""Of a group: far more than a run can hold, so that a slip of the hand is told at once."""


@dataclass(frozen=True, slots=True)
class Group:
    """Instances of one model on one kind of GPU in one region; `profile` is GPU/MODEL/tpN as in the catalog, or a
    profile file.

    The autoscaler moves the number between the bounds; where a model has several groups, it moves that of the first
    and of those that name a `pool`, and the others keep their `instances_initial`. `concurrency_max` is the engine's
    seats (0: those of [engine]).
    `gpu_hour_price` is in any currency. A `spot` group may be taken away by [spot]. Each GPU draws `busy_watts` while
    its instance holds a request and `idle_watts` while it does not; where both are 0, no energy is told. The `role` of
    a group says which classes it is there for: mixed, interactive or batch. The rates are what the autoscaler is told
    that one instance serves within its SLO (`forebay profile`; 0: nobody knows).
    """

    model: str = ""
    profile: str = ""
    region: str = "local"
    instances_initial: int = 1
    instances_min: int = 1
    instances_max: int = 1
    concurrency_target: float = 32.0
    concurrency_max: int = 0
    gpu_hour_price: float = 1.0
    spot: bool = False
    busy_watts: float = 0.0
    idle_watts: float = 0.0
    role: str = "mixed"
    pool: str = ""
    prompt_tokens_per_s: float = 0.0
    response_tokens_per_s: float = 0.0
    tokens_per_s: float = 0.0

    def __post_init__(self) -> None:
        _need(bool(self.model), "every group needs a model")
        _need(self.role in ROLES, f"group {self.model}: role must be one of {', '.join(ROLES)}, not {self.role!r}")
        _need(
            self.profile.count("/") == 2 or self.profile.endswith(".json"),
            f"group {self.model}: profile must be GPU/MODEL/tpN, such as H100/Llama-3-8B/tp1, or a profile file",
        )
        _need(bool(self.region), f"group {self.model}: region is empty; leave it out where there is only one")
        _need(self.instances_min >= 0, f"group {self.model}: instances_min must not be negative")
        for name in ("instances_initial", "instances_max"):
            most = f"group {self.model}: {name} must be at most {INSTANCES_MAX:,}"
            _need(getattr(self, name) <= INSTANCES_MAX, most)
        _need_from_0(self, "concurrency_max", "gpu_hour_price", "busy_watts")
        _need_from_0(self, "prompt_tokens_per_s", "response_tokens_per_s", "tokens_per_s")
        _need_above_0(self, "concurrency_target")
        watts = f"group {self.model}: idle_watts must be from 0 to busy_watts"
        _need(0 <= self.idle_watts <= self.busy_watts, watts)

    @property
    def pool_name(self) -> str:
        """The pool that its instances are scaled in, if they are."""
        return self.pool or self.model


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """[engine]: limits and habits of every instance; `kv_tokens` 0 takes the profile's.

    `prefix_cache_tokens` is how much prompt text an instance remembers for prefix hits (0: none). `swap_gb_per_s` is
    the link between each GPU and the host's memory, for `preemption` "swap" (0: moving a cache takes no time). The rest
    is `core.instance.EngineFlags` and a batcher, parameters after its name (`core.instance.batcher.make_batcher`);
    priorities are those that the scheduler's placements name.
    """

    batcher: str = "chunked_prefill"
    max_seqs: int = 256
    max_batch_tokens: int = 2_048
    block_size: int = 16
    kv_tokens: int = 0
    prefix_cache_tokens: int = 0
    reserve_full_prompt: bool = True
    watermark_blocks: int = 0
    no_evict: bool = False
    chunked_prefill: bool = True
    admits_ahead: bool = False
    model_tokens_max: int = 0
    frontend_ms: float = 0.0
    order: str = "fcfs"
    preemption: str = "recompute"
    swap_gb_per_s: float = 16.0
    swap_overlaps: bool = False
    batch_padding: bool = False
    batch_answers_wait: bool = False
    batch_delay_us: int = 0
    batch_given: bool = False

    def __post_init__(self) -> None:
        _need_from_0(self, "swap_gb_per_s", "kv_tokens", "prefix_cache_tokens", "frontend_ms", "batch_delay_us")
        _need_above_0(self, "max_seqs", "max_batch_tokens", "block_size")
        make_batcher(self.batcher)
        is_static = self.batcher == "static"
        _need(is_static or not self.batch_given, f"with batch_given the batcher must be static, not {self.batcher!r}")
        flags_of(self)

    def flags(self, profile: EngineProfile | None = None) -> EngineFlags:
        """How an engine of the profile admits and evicts; swapping takes no time where no profile says how long.

        Raises ValueError where caches are swapped and the profile does not say how large they are.
        """
        return flags_of(self, profile)


@dataclass(frozen=True, slots=True)
class Route:
    """The round-trip time between two regions, either way."""

    regions: tuple[str, ...] = ()
    round_trip_ms: float = 0.0

    def __post_init__(self) -> None:
        _need_from_0(self, "round_trip_ms")


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """[network]: `local_ms` is the round trip inside a region; pairs that no route names take `remote_ms`.

    `prediction_ms` is how long a length prediction takes before the scheduler hears of the arrival, `decision_ms` how
    long its one processor is busy with each answer before that takes effect, `refit_s` how long a forecaster is fitted
    before it answers, `plan_ms` how long a planner of the scheduler thinks before its plan is in force.
    """

    local_ms: float = 0.0
    remote_ms: float = 50.0
    routes: tuple[Route, ...] = ()
    prediction_ms: float = 0.0
    decision_ms: float = 0.0
    refit_s: float = 5.0
    plan_ms: float = 100.0

    def __post_init__(self) -> None:
        _need_from_0(self, "local_ms", "remote_ms", "prediction_ms", "decision_ms", "refit_s", "plan_ms")


@dataclass(frozen=True, slots=True)
class StartConfig:
    """[start]: the phases of a start, engine-model section 8; weights take their bytes over `weights_gb_per_s`.

    Each phase is drawn from a gamma distribution with its mean and `variation` as coefficient of variation (0: always
    the mean); a share `failure_share` of the starts comes to nothing. All GPUs are paid from the first phase on, and
    for `stop_s` after a drained server was told to end.
    """

    provisioning_s: float = 30.0
    image_s: float = 0.0
    runtime_s: float = 0.0
    weights_gb_per_s: float = 2.0
    warm_s: float = 15.0
    variation: float = 0.0
    failure_share: float = 0.0
    stop_s: float = 0.0

    def __post_init__(self) -> None:
        phases = ("provisioning_s", "image_s", "runtime_s", "weights_gb_per_s", "warm_s", "stop_s")
        _need_from_0(self, *phases, "variation", "failure_share")
        _need(self.failure_share <= 1, "failure_share must be from 0 to 1")

    def times(self, factor: float) -> "StartConfig":
        """The same with every phase `factor` times as long."""
        longer = {name: factor * getattr(self, name) for name in ("provisioning_s", "image_s", "runtime_s", "warm_s")}
        return replace(self, weights_gb_per_s=self.weights_gb_per_s / factor, **longer)


@dataclass(frozen=True, slots=True)
class ObservationConfig:
    """[observation]: instances are read every `scrape_s`, and readers see a snapshot `delay_s` after it was made.

    The autoscaler looks every `snapshot_s`; the live one does so every second.
    """

    scrape_s: float = 1.0
    delay_s: float = 0.0
    snapshot_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("scrape_s", "snapshot_s"):
            _need(0.001 <= getattr(self, name) < math.inf, f"{name} must be at least 0.001")
        _need_from_0(self, "delay_s")


@dataclass(frozen=True, slots=True)
class Fault:
    """[[faults]]: what happens to an instance (its place among those of the model that live then, by id) at a time.

    "crash" ends it with all that it holds, "hang" stops it for `duration_s`, "slow" multiplies its iteration times by
    `factor` for `duration_s`.
    """

    at_s: float = 0.0
    kind: str = "crash"
    model: str = ""
    place: int = 0
    duration_s: float = 60.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        _need(self.kind in FAULTS, f"fault at {self.at_s:g} s: kind must be one of {', '.join(FAULTS)}")
        _need_from_0(self, "at_s", "place", "duration_s")
        _need_above_0(self, "factor")


@dataclass(frozen=True, slots=True)
class Knob:
    """[[knobs]]: from `at_s` on the GPUs of an instance run at `frequency`, a share of their full clock, and its engine
    plans with `max_seqs` seats and `max_batch_tokens` an iteration, which are at most those of [engine].

    0 leaves a setting as it is. `place` is as in [[faults]], and -1 means all instances of the model, those that start
    later too; an empty model means all models. All iterations take 1/`frequency` as long, which is too much where
    memory is the limit. Who runs is not evicted for a lack of seats.
    """

    at_s: float = 0.0
    model: str = ""
    place: int = -1
    frequency: float = 0.0
    max_seqs: int = 0
    max_batch_tokens: int = 0

    def __post_init__(self) -> None:
        _need_from_0(self, "at_s", "max_seqs", "max_batch_tokens")
        _need(self.place >= -1, f"knob at {self.at_s:g} s: place must be -1 (all) or from 0 on")
        _need(0 <= self.frequency <= 2, f"knob at {self.at_s:g} s: frequency must be above 0 and at most 2")
        turns = self.frequency or self.max_seqs or self.max_batch_tokens
        _need(turns > 0, f"knob at {self.at_s:g} s turns nothing: give frequency, max_seqs or max_batch_tokens")


@dataclass(frozen=True, slots=True)
class Prefill:
    """[[prefill]]: instances that compute a model's prompts, and first tokens, for the instances of its groups.

    A cache follows its request over a link of `link_gb_per_s` at each GPU (0: in no time), one after the other from
    each of these. They are there from start to end, have the limits of [engine], and no service knows of them; their
    GPUs count as idle, and where a group has watts as idle ones.
    """

    model: str = ""
    profile: str = ""
    instances: int = 1
    link_gb_per_s: float = 25.0

    def __post_init__(self) -> None:
        Group(self.model, self.profile)
        _need(self.instances >= 1, f"prefill {self.model}: instances must be at least 1")
        _need_from_0(self, "link_gb_per_s")


@dataclass(frozen=True, slots=True)
class SpotConfig:
    """[spot]: instances of spot groups are taken away at random, on average `reclaims_per_hour` each, with a notice.

    There is no machine for a share `refusal_share` of their starts, beside those of [start], and the others begin
    `delay_s` late on average (exponential), which counts as provisioning.
    """

    reclaims_per_hour: float = 0.0
    notice_s: float = 30.0
    refusal_share: float = 0.0
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        _need_from_0(self, "reclaims_per_hour", "notice_s", "refusal_share", "delay_s")
        _need(self.refusal_share <= 1, "refusal_share must be from 0 to 1")


@dataclass(frozen=True, slots=True)
class DonationConfig:
    """[donation]: what the autoscaler drains away is lent out as a spot instance of its region, and not paid for.

    A start takes one of the same model and GPUs back, ready after `reclaim_s`, else as many GPUs of the same kind with
    another model on them, ready after `redeploy_s`, else it is a cold start. Both are gamma distributed with
    `variation` as coefficient of variation, and each is refused in a share `refusal_share` of the tries, beside the
    failures of [start]. Spot groups are not lent out. Times are those of SageServe's published configuration
    (its summary, section 7).
    """

    enabled: bool = False
    reclaim_s: float = 65.0
    redeploy_s: float = 155.0
    variation: float = 0.0
    refusal_share: float = 0.0

    def __post_init__(self) -> None:
        _need_from_0(self, "reclaim_s", "redeploy_s", "variation", "refusal_share")
        _need(self.refusal_share <= 1, "refusal_share must be from 0 to 1")


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """[clients]: what clients do with a refusal that says when to come back, up to `attempts_max` tries in all."""

    attempts_max: int = 1

    def __post_init__(self) -> None:
        _need_above_0(self, "attempts_max")


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """[student]: a smaller model answers this share of the requests before they reach the gateway.

    Its answers take `latency_s` at any load and have `quality`, where those of the instances have 1. It runs apart and
    costs nothing here. Who is answered early is drawn once a request: a larger share holds all of a smaller one.
    """

    share: float = 0.0
    latency_s: float = 0.5
    quality: float = 0.8

    def __post_init__(self) -> None:
        _need(0 <= self.share <= 1, "share must be from 0 to 1")
        _need_from_0(self, "latency_s")
        _need(0 <= self.quality <= 1, "quality must be from 0 to 1")


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """[oracle]: `search` looks for the best fleet at each load with each seed, and adds it as one more oracle.

    It tries up to `run_count_max` schedules of instances by window of `window_s`, each a run of its own, for the fewest
    GPU-hours with which a share `attainment` of the requests of each class of each model meets its SLO. Without a
    search, regret is told against the fewest GPU-hours that are proven to be needed for that share.
    """

    search: bool = False
    attainment: float = 0.99
    window_s: float = 300.0
    run_count_max: int = 60

    def __post_init__(self) -> None:
        _need(0 < self.attainment <= 1, "attainment must be above 0 and at most 1")
        _need(self.window_s > 0, "window_s must be above 0")
        _need(self.run_count_max >= 1, "run_count_max must be at least 1")


@dataclass(frozen=True, slots=True)
class MigrationConfig:
    """[migration]: what a move costs, where a rescheduler moves running requests.

    At a bandwidth of 0 copies take no time, and without downtime either a move is free.
    A request is down for `downtime_ms` and the time of its last copy. `stages_max` and `last_blocks_max` are those of
    Llumnix (OSDI 2024, arXiv 2406.03243), which reports a downtime of 20-30 ms at any length. `kv_bytes_per_token` 0
    means: what follows from the profile's model.
    """

    bandwidth_gb_per_s: float = 1.0
    downtime_ms: float = 30.0
    stages_max: int = 3
    last_blocks_max: int = 16
    kv_bytes_per_token: int = 0

    def __post_init__(self) -> None:
        _need_from_0(self, "bandwidth_gb_per_s", "downtime_ms", "kv_bytes_per_token")
        _need_above_0(self, "stages_max", "last_blocks_max")


@dataclass(frozen=True, slots=True)
class Stock:
    """[[stocks]]: GPUs of one kind in one region that all groups which are scaled may have together."""

    region: str = "local"
    gpu: str = ""
    gpu_count: int = 0

    def __post_init__(self) -> None:
        _need(bool(self.gpu), "every stock needs a gpu, such as 'H100'")
        _need_from_0(self, "gpu_count")


@dataclass(frozen=True, slots=True)
class World:
    """Everything about a run that no policy decides. `horizon_s` ends the run (0: when the last request has ended)."""

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
    horizon_s: float = 0.0

    def __post_init__(self) -> None:
        _need(bool(self.groups), "the fleet is empty; add a [[groups]] with model and profile")
        models = [group.model for group in self.groups]
        for what, named in (("prefill", self.prefill), ("knobs", self.knobs)):
            for one in named:
                known = f"models of groups: {', '.join(models)}"
                _need(one.model in ("", *models), f"[[{what}]]: no group has the model {one.model!r}; {known}")
        for knob in self.knobs:
            self._check_budget(knob)
        _need_from_0(self, "horizon_s")
        _need(
            self.horizon_s < HORIZON_S_MAX, f"horizon_s must be below {HORIZON_S_MAX:,}; 0 ends with the last request"
        )
        caching = self.prefill and self.engine.prefix_cache_tokens
        _need(not caching, "[[prefill]] instances have no prefix cache; leave out prefix_cache_tokens in [engine]")

    def _check_budget(self, knob: Knob) -> None:
        """An iteration holds all who decode, and prompts that are not cut into chunks."""
        if not knob.max_batch_tokens:
            return
        seats = max(group.concurrency_max or self.engine.max_seqs for group in self.groups)
        _need(self.engine.chunked_prefill, "[[knobs]] max_batch_tokens needs chunked_prefill in [engine]")
        _need(
            seats < knob.max_batch_tokens,
            f"[[knobs]] max_batch_tokens must be above the {seats} seats of an engine, not {knob.max_batch_tokens}",
        )


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """One arm of a comparison: the same tables as in forebay.toml for each service, checked by its own `Config`."""

    name: str = ""
    scheduler: Mapping[str, object] = field(default_factory=dict)
    autoscaler: Mapping[str, object] = field(default_factory=dict)
    predictor: Mapping[str, object] = field(default_factory=dict)
    gateway: Mapping[str, object] = field(default_factory=dict)


def _need(holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(text)


def _need_from_0(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _need(0 <= value < math.inf, f"{name} must not be negative, but a finite number, not {value!r}")


def _need_above_0(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _need(0 < value < math.inf, f"{name} must be a finite number above 0, not {value!r}")
