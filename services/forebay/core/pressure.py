"""What the scheduler tells the autoscaler: the load that is on its way, by instance, by demand and by deadline."""

from dataclasses import dataclass

from forebay.core.values import SloClass


@dataclass(frozen=True, slots=True)
class InstancePressure:
    """One instance as the scheduler anticipates it.

    `peak_share` is the most of its KV cache that what it has is expected to hold within the next
    `Pressure.horizon_iterations`, `over_share` the share of these iterations in which that is above 95 % (0 and 0 where
    the size of the cache is not known). `cap` is the in-flight limit in force (0: none).
    """

    instance_id: str
    interactive_count: int = 0
    deferred_count: int = 0
    peak_share: float = 0.0
    over_share: float = 0.0
    prefill_tokens: int = 0
    remaining_tokens: float = 0.0
    cap: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """All that has arrived of one model, region and class since the scheduler began; totals only grow.

    `response_tokens` are as predicted at arrival (expected values), since the answers are not there yet.
    """

    model: str
    region: str
    slo_class: SloClass
    request_count: int = 0
    prompt_tokens: int = 0
    response_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class WaitingGroup:
    """Held requests of one model, region and class that are due at about the same time, the first at `due_us`.

    Their answers are `mean_tokens` long together, with `variance`: sums over the requests, so groups add up. Those that
    are stored (`is_stored`) wait at a gateway until it sends them, the others at the scheduler for room.
    """

    model: str
    region: str
    slo_class: SloClass
    due_us: int
    oldest_us: int
    request_count: int = 0
    prompt_tokens: int = 0
    mean_tokens: float = 0.0
    variance: float = 0.0
    is_stored: bool = False


@dataclass(frozen=True, slots=True)
class Pressure:
    """What one or all replicas of the scheduler say, at about one time."""

    at_us: int = 0
    horizon_iterations: int = 100
    instances: tuple[InstancePressure, ...] = ()
    demands: tuple[Demand, ...] = ()
    waiting: tuple[WaitingGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceAnticipation:
    """What one instance is expected to hold now, after one step, after two and so on; tokens.

    `kv_tokens_max` is the size of its cache (0: unknown).
    """

    instance_id: str
    model: str
    kv_tokens: tuple[int, ...] = ()
    kv_tokens_max: int = 0


@dataclass(frozen=True, slots=True)
class Anticipation:
    """The load that is expected if nothing new is placed, in steps of so many iterations of the engines."""

    at_us: int
    step_iterations: int
    instances: tuple[InstanceAnticipation, ...] = ()


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job of deferred requests, as a gateway sees it in its store: the tokens are means of one request.

    `remaining_count` requests have no answer, in the whole store; `in_flight_count` of them went to the scheduler by
    this gateway. `tokens_max` 0: no limit.
    """

    job_id: str
    model: str
    region: str
    deadline_us: int
    created_us: int
    remaining_count: int
    in_flight_count: int = 0
    prompt_tokens: int = 1
    tokens_max: int = 0
