"""The fleet as the autoscaler keeps it: bounds, decisions, members, and the whole of what survives a restart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from forebay.core.values import Batching, Instance, InstanceRole, InstanceState

NUMBERED: Mapping[str, type[IntEnum]] = {"state": InstanceState, "role": InstanceRole, "batching": Batching}
"""The fields of an instance that are kept as numbers."""


def instance_of(values: Mapping[str, Any]) -> Instance:
    """An instance from its fields as they are kept; those that are missing take their defaults.

    Raises TypeError for an unknown field and ValueError for an unknown number.
    """
    return Instance(**{**values, **{name: kind(values[name]) for name, kind in NUMBERED.items() if name in values}})


class Origin(IntEnum):
    """Where an instance comes from, which says who may end it: the autoscaler ends only what it launched."""

    LAUNCHED = 1
    REGISTERED = 2
    FOUND = 3


@dataclass(frozen=True, slots=True)
class Bounds:
    """Fewest and most instances of one pool of a model (empty: its first); those that start and drain count too."""

    model: str
    instances_min: int
    instances_max: int
    pool: str = ""


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """One change of the fleet that was wanted, with what was seen. `mode` names the actuator in force.

    `flip` says what would have changed the decision, where the policy tells.
    """

    decision_id: str
    model: str
    decided_us: int
    instances_before: int
    instances_wanted: int
    instances_after: int
    policy: str
    mode: str
    reason: str
    inputs: Mapping[str, float] = field(default_factory=dict)
    pool: str = ""
    flip: str = ""


@dataclass(frozen=True, slots=True)
class ModelFleet:
    """One pool's part of the fleet in numbers; `lead_p50_us` and `lead_p90_us` are how long its starts take.

    `bound_by` is the limit that keeps it from what is wanted; `role` is None where nobody scales the pool.
    """

    model: str
    bounds: Bounds
    instances_wanted: int
    ready_count: int
    starting_count: int
    draining_count: int
    last_decision_id: str = ""
    pool: str = ""
    reason: str = ""
    flip: str = ""
    lead_p50_us: int = 0
    lead_p90_us: int = 0
    bound_by: str = ""
    region: str = ""
    gpu: str = ""
    gpu_count: int = 0
    role: InstanceRole | None = None


@dataclass(frozen=True, slots=True)
class ForecastBand:
    """What one window is expected to bring to a model, as totals of the window: each p10, p50, p90 and p97."""

    model: str
    start_us: int
    window_us: int
    requests: tuple[float, float, float, float]
    prompt_tokens: tuple[float, float, float, float]
    response_tokens: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PoolAdvice:
    """What one decision would do to one pool; `bound_by` is the limit that keeps it from what is wanted."""

    model: str
    pool: str
    instances_before: int
    instances_wanted: int
    instances_after: int
    bound_by: str = ""
    reason: str = ""
    flip: str = ""
    inputs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Advice:
    """What one decision would do; `warnings` are for the operator."""

    policy: str
    pools: tuple[PoolAdvice, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """One instance of the fleet with what a restart must know of it.

    `ttl_us` is how long a registration holds without a heartbeat (0: for ever); `was_ready` tells whether requests can
    ever have been placed on it.
    """

    instance: Instance
    origin: Origin
    ttl_us: int = 0
    was_ready: bool = False


@dataclass(frozen=True, slots=True)
class StartTime:
    """How long one start took until requests were taken, and how much of that until its server answered at all."""

    at_us: int
    took_us: int
    provision_us: int = 0


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What holds for the whole fleet: bounds, targets and newest starts by pool, the mode in force, and two counters.

    `ordinal` numbers launched servers, `revision` the changes of the fleet; an empty `mode` means none was ever set.
    """

    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    wanted: Mapping[str, int] = field(default_factory=dict)
    mode: str = ""
    ordinal: int = 0
    revision: int = 0
    starts: Mapping[str, tuple[StartTime, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Term:
    """Who leads: `holder` is one process, `address` where it listens, `until_us` when its word runs out.

    `token` grows with every change of the leader: what an earlier one still wants to write is refused.
    """

    holder: str = ""
    address: str = ""
    token: int = 0
    until_us: int = 0


@dataclass(frozen=True, slots=True)
class FleetState:
    """The settings, members and decisions (oldest first) that a store keeps, or those of them that changed."""

    settings: FleetSettings = field(default_factory=FleetSettings)
    members: tuple[Member, ...] = ()
    decisions: tuple[ScalingDecision, ...] = ()
