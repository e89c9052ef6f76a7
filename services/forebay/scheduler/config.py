"""The scheduler's configuration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay.core.config import from_mapping
from forebay.core.promises import DEFERRED_S, PACE_DEFERRED_S, PACE_S, TTFT_FAST_S, TTFT_NORMAL_S
from forebay.core.units import US_PER_S
from forebay.core.values import SloClass

OUTCOME_BATCH_MAX = 64
"""The most outcomes that the predictor learns from at once, whichever shell tells it: reading so many takes a
millisecond, in which it answers nobody."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """Policies that are asked beside the active ones and decide nothing: a system, or policies one by one."""

    system: str = "default"
    admission: str = ""
    admission_parameters: Mapping[str, object] = field(default_factory=dict)
    orderer: str = ""
    orderer_parameters: Mapping[str, object] = field(default_factory=dict)
    router: str = ""
    router_parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TenantConfig:
    """What a tenant may use: its share where tenants compete, and its quota in tokens of prompts and answers.

    `tokens_per_minute` 0: no quota. `tokens_burst` is what it may use at once after a quiet time; 0: those of a minute.
    """

    weight: float = 1.0
    tokens_per_minute: int = 0
    tokens_burst: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError("weight must be positive")
        if min(self.tokens_per_minute, self.tokens_burst) < 0:
            raise ValueError("tokens_per_minute and tokens_burst must not be negative")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the section [scheduler] may set; times in seconds or milliseconds as the names say.

    A policy that is not named (the empty string) is that of the `system`. `shadows` are tables as in `Shadow`, by name,
    and `tenants` as in `TenantConfig`. The autoscaler hears of held requests by what is due within `waiting_quantum_s`
    of each other (QLM's request groups are of 100 s of deadlines).
    """

    system: str = "default"
    admission: str = ""
    admission_parameters: Mapping[str, object] = field(default_factory=dict)
    orderer: str = ""
    orderer_parameters: Mapping[str, object] = field(default_factory=dict)
    router: str = ""
    router_parameters: Mapping[str, object] = field(default_factory=dict)
    puller: str = ""
    puller_parameters: Mapping[str, object] = field(default_factory=dict)
    planner: str = ""
    planner_parameters: Mapping[str, object] = field(default_factory=dict)
    rescheduler: str = ""
    rescheduler_parameters: Mapping[str, object] = field(default_factory=dict)
    grouper: str = ""
    grouper_parameters: Mapping[str, object] = field(default_factory=dict)
    shadows: Mapping[str, Any] = field(default_factory=dict)
    tenants: Mapping[str, Any] = field(default_factory=dict)
    lease_ttl_s: float = 60.0
    hold_timeout_interactive_fast_s: float = 5.0
    hold_timeout_interactive_normal_s: float = 60.0
    hold_timeout_deferred_s: float = 300.0
    ttft_slo_interactive_fast_s: float = TTFT_FAST_S
    ttft_slo_interactive_normal_s: float = TTFT_NORMAL_S
    deadline_deferred_s: float = DEFERRED_S
    itl_slo_interactive_fast_s: float = PACE_S
    itl_slo_interactive_normal_s: float = PACE_S
    itl_slo_deferred_s: float = PACE_DEFERRED_S
    hold_review_s: float = 1.0
    held_count_max: int = 10_000
    zero_hold_count_max: int = 1_000
    waiting_quantum_s: float = 100.0
    retry_delay_min_s: float = 0.2
    retry_delay_max_s: float = 30.0
    loads_stale_s: float = 15.0
    decision_count_max: int = 50_000
    decision_bytes_max: int = 64 * 1024 * 1024
    resume_grace_s: float = 3.0
    predictor_deadline_ms: float = 30.0
    predictor_batch_ms: float = 2.0
    predictor_batch_count_max: int = 256
    predictor_pause_s: float = 1.0
    outcome_interval_s: float = 1.0
    queue_sample_interval_s: float = 1.0
    watch_interval_s: float = 1.0
    reconnect_delay_max_s: float = 2.0
    shutdown_grace_s: float = 5.0

    def __post_init__(self) -> None:
        self.tenant_configs()
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive")
        if not 1 <= self.lease_ttl_s <= 3_600:
            raise ValueError("lease_ttl_s must be 1 to 3,600")
        if self.retry_delay_max_s < self.retry_delay_min_s:
            raise ValueError("retry_delay_max_s must be at least retry_delay_min_s")
        if not 1 <= self.predictor_batch_count_max <= 1_024:
            raise ValueError("predictor_batch_count_max must be 1 to 1,024")
        if min(self.resume_grace_s, self.shutdown_grace_s, self.predictor_batch_ms) < 0:
            raise ValueError("resume_grace_s, shutdown_grace_s and predictor_batch_ms must not be negative")
        if not 0.1 <= self.watch_interval_s <= 60:
            raise ValueError("watch_interval_s must be 0.1 to 60")

    def tenant_configs(self) -> dict[str, TenantConfig]:
        """The tenants that differ from the rest, by name; raises ConfigError for a bad table."""
        return {
            name: from_mapping(TenantConfig, table, f"scheduler.tenants.{name}") for name, table in self.tenants.items()
        }

    def hold_timeout_us(self, slo_class: SloClass) -> int:
        """Longest time that a request of the class is held, unless it says otherwise itself."""
        return _us(
            slo_class,
            self.hold_timeout_interactive_fast_s,
            self.hold_timeout_interactive_normal_s,
            self.hold_timeout_deferred_s,
        )

    def due_us(self, slo_class: SloClass) -> int:
        """When the first token of the class is due after its arrival, of deferred work the whole answer."""
        return _us(
            slo_class, self.ttft_slo_interactive_fast_s, self.ttft_slo_interactive_normal_s, self.deadline_deferred_s
        )

    def itl_slo_us(self, slo_class: SloClass) -> int:
        """The longest mean time between two tokens that the class is promised."""
        return _us(
            slo_class, self.itl_slo_interactive_fast_s, self.itl_slo_interactive_normal_s, self.itl_slo_deferred_s
        )


def _us(slo_class: SloClass, fast_s: float, normal_s: float, deferred_s: float) -> int:
    """The one of the class, in microseconds."""
    seconds = {
        SloClass.INTERACTIVE_FAST: fast_s,
        SloClass.INTERACTIVE_NORMAL: normal_s,
        SloClass.DEFERRED: deferred_s,
    }[slo_class]
    return round(seconds * US_PER_S)


_POSITIVE = (
    "ttft_slo_interactive_fast_s",
    "ttft_slo_interactive_normal_s",
    "deadline_deferred_s",
    "itl_slo_interactive_fast_s",
    "itl_slo_interactive_normal_s",
    "itl_slo_deferred_s",
    "hold_timeout_interactive_fast_s",
    "hold_timeout_interactive_normal_s",
    "hold_timeout_deferred_s",
    "hold_review_s",
    "held_count_max",
    "zero_hold_count_max",
    "waiting_quantum_s",
    "retry_delay_min_s",
    "loads_stale_s",
    "decision_count_max",
    "decision_bytes_max",
    "predictor_deadline_ms",
    "predictor_pause_s",
    "outcome_interval_s",
    "queue_sample_interval_s",
    "reconnect_delay_max_s",
)
