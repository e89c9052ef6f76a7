"""The values that parts hand to each other; `wire/convert.py` is where they become messages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class SloClass(IntEnum):
    """The promise made to a request (SageServe's classes); numbers are those of the contract."""

    INTERACTIVE_FAST = 1
    INTERACTIVE_NORMAL = 2
    DEFERRED = 3

    # Enum hashes names, in Python; a class is a key several times for each request.
    __hash__ = int.__hash__


class InstanceState(IntEnum):
    """Where an instance stands in its life; numbers are those of the contract."""

    PROVISIONING = 1
    LOADING = 2
    READY = 3
    DRAINING = 4
    STOPPED = 5
    LOST = 6


class InstanceRole(IntEnum):
    """Which classes an instance serves (Chiron's instance types); numbers are those of the contract."""

    MIXED = 1
    INTERACTIVE = 2
    BATCH = 3


class Batching(IntEnum):
    """How an instance's engine forms batches; numbers are those of the contract.

    CONTINUOUS: requests join and leave between tokens. STATIC: the engine runs one batch after the other, each as the
    scheduler put it together, and gives its answers when the longest is done.
    """

    CONTINUOUS = 1
    STATIC = 2


class Outcome(IntEnum):
    """How a request ended; numbers are those of the contract."""

    STOPPED = 1
    LENGTH = 2
    FAILED = 3
    CANCELLED = 4


@dataclass(frozen=True, slots=True)
class LengthQuantiles:
    """Predicted distribution of an answer's length in tokens; quantiles never decrease."""

    p10: int
    p50: int
    p90: int
    p97: int

    def __post_init__(self) -> None:
        if not 0 <= self.p10 <= self.p50 <= self.p90 <= self.p97:
            raise ValueError(f"length quantiles must not decrease: {self}")

    def capped(self, tokens_max: int) -> "LengthQuantiles":
        """The same distribution for an answer that is cut at `tokens_max`; 0 means no limit."""
        if tokens_max <= 0 or self.p97 <= tokens_max:
            return self
        return LengthQuantiles(*(min(q, tokens_max) for q in (self.p10, self.p50, self.p90, self.p97)))


@dataclass(frozen=True, slots=True)
class Instance:
    """One model on one Triton server; `pool` names the pool that it is scaled in (empty: the first of its model).

    `openai_address` is where the server speaks OpenAI's HTTP protocol; empty where it does not.
    """

    instance_id: str
    model: str
    grpc_address: str
    server_id: str
    metrics_url: str = ""
    state: InstanceState = InstanceState.PROVISIONING
    region: str = "local"
    profile: str = ""
    concurrency_max: int = 0
    kv_tokens_max: int = 0
    context_tokens_max: int = 0
    state_us: int = 0
    state_reason: str = ""
    role: InstanceRole = InstanceRole.MIXED
    batching: Batching = Batching.CONTINUOUS
    pool: str = ""
    openai_address: str = ""


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a scheduler knows of one request; never the answer. `prompt_head` is for prediction only.

    So are `turn_number`, which question of its conversation this is (1 the first, 0 not known), and `system_digest`,
    which names the system prompt (`system_digest` of core/prediction.py; empty for none).

    `session` names the conversation or program that the request belongs to (empty: none). `deadline_us` is the time
    from arrival until the whole answer is due (0: the promise of its class). `prefix_hashes` name the blocks that the
    prompt begins with, each hash covering all before it: equal hashes mean equal beginnings.
    """

    request_id: str
    model: str
    prompt_tokens: int
    slo_class: SloClass = SloClass.INTERACTIVE_NORMAL
    tokens_max: int = 0
    tenant: str = "default"
    application: str = ""
    prompt_head: str = field(default="", repr=False)
    temperature: float = 0.0
    region: str = "local"
    excluded_instance_ids: frozenset[str] = frozenset()
    hold_timeout_us: int = 0
    turn_number: int = 0
    system_digest: str = ""
    session: str = ""
    deadline_us: int = 0
    prefix_hashes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LengthPrediction:
    """A predicted length with who predicted it and a score that orders requests by expected length."""

    quantiles: LengthQuantiles
    rank_score: float
    mean_tokens: float
    predicted_by: str


@dataclass(frozen=True, slots=True)
class InstanceLoad:
    """What was last seen of one instance from outside; None where the server does not tell."""

    instance_id: str
    model: str
    reachable: bool
    seen_us: int = 0
    running_count: int | None = None
    waiting_count: int | None = None
    kv_utilization: float | None = None
    success_total: int = 0
    failure_total: int = 0


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """What was seen of one model: now (held, in flight) and over the last 60 s (the rest)."""

    model: str
    held_count: int = 0
    in_flight_count: int = 0
    ended_count: int = 0
    failed_count: int = 0
    ttft_p50_s: float = 0.0
    ttft_p99_s: float = 0.0
    prompt_tokens: int = 0
    response_tokens: int = 0


@dataclass(frozen=True, slots=True)
class WorkloadPoint:
    """The traffic of one window that starts at `start_us`."""

    start_us: int
    request_count: int
    prompt_tokens: int
    response_tokens: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Action: call the engine's `on_wake` at this time or later."""

    at_us: int


@dataclass(frozen=True, slots=True)
class ScoreTerm:
    """One part of an instance's score: `weight` times the `value`, which is in `unit`."""

    name: str
    unit: str
    weight: float
    value: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One instance as a router saw it; the lowest eligible score wins, which is the sum of its terms if it has any."""

    instance_id: str
    score: float
    eligible: bool
    reason: str = ""
    inputs: Mapping[str, float] = field(default_factory=dict)
    terms: tuple[ScoreTerm, ...] = ()
