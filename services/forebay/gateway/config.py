"""The gateway's configuration: section [gateway] of forebay.toml."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.picker.config import PickerConfig
from forebay.gateway.promises import PromiseConfig
from forebay.gateway.tenants import Keys, TenantKeys

SLO_CLASSES = ("interactive-fast", "interactive-normal", "deferred")
_PROMPT_HEAD_BYTES_MAX = 8192
_ZERO_ALLOWED = ("prompt_head_bytes", "suspect_s", "grace_s")


@dataclass(frozen=True, slots=True)
class Config:
    """Limits and patience of the gateway. Raises ConfigError for a value that makes no sense."""

    region: str = "local"
    """Region that the gateway's clients are in."""
    slo_class_default: str = "interactive-normal"
    """Class of requests that name none."""
    body_bytes_max: int = 4 * 1024 * 1024
    """Largest request body; larger ones are refused before they are read."""
    body_timeout_s: float = 30.0
    """Longest time that a client may take to send the head of a request, and its body."""
    prompt_head_bytes: int = 2048
    """How much of the prompt the scheduler and predictor see, of a long one its head and its tail; 0: nothing."""
    tokens_max_default: int = 1024
    """Longest chat answer where the client sets no limit. Tokens."""
    requests_max: int = 10_000
    """Most requests in flight or waiting; more are refused with 429."""
    attempts_max: int = 3
    """Most instances that one request is tried on before its first token."""
    first_token_timeout_s: float = 120.0
    """Longest silence of an instance before the first token; then another instance is tried."""
    inter_token_timeout_s: float = 30.0
    """Longest silence of an instance between two tokens; then the answer is broken off."""
    answer_timeout_s: float = 1800.0
    """Longest time that one instance may work on an answer."""
    placement_timeout_s: float = 600.0
    """Longest wait for the scheduler's answer, its own holding included; then the gateway places by itself."""
    scheduler_timeout_s: float = 2.0
    """A scheduler that does not answer a health check within this time counts as down."""
    progress_interval_s: float = 1.0
    """How often running requests are told to the scheduler, as long as progress_rate_max allows it."""
    progress_rate_max: int = 400
    """Most progress messages a second over all requests; leases are renewed before they expire in any case."""
    fallback_queue_factor: float = 2.0
    """While the scheduler is down: most requests sent to an instance, in units of its concurrency."""
    suspect_s: float = 5.0
    """While the scheduler is down, and for what a proxy sends: how long an instance that failed is avoided."""
    grace_s: float = 15.0
    """How long running answers may take to end when the gateway stops."""
    deferred: DeferredConfig = field(default_factory=DeferredConfig)
    """How deferred work is taken, paced and kept."""
    promises: PromiseConfig = field(default_factory=PromiseConfig)
    """When tokens are due, as instances are told; only engines that order by it heed it."""
    picker: PickerConfig = field(default_factory=PickerConfig)
    """How requests that a proxy asks about are read."""

    tenants: Mapping[str, Any] = field(default_factory=dict)
    """The tenants and the digests of their keys, as in TenantKeys; without any, nobody needs a key."""

    def __post_init__(self) -> None:
        self.keys()
        unknown = sorted({*self.picker.objectives.values()} - {*SLO_CLASSES})
        if unknown:
            text = f"choose one of {', '.join(SLO_CLASSES)}"
            raise ConfigError(f"picker.objectives names the class {unknown[0]!r}; {text}")
        if self.slo_class_default not in SLO_CLASSES:
            raise ConfigError(
                f"slo_class_default is {self.slo_class_default!r}; choose one of {', '.join(SLO_CLASSES)}"
            )
        if self.prompt_head_bytes > _PROMPT_HEAD_BYTES_MAX:
            raise ConfigError(
                f"prompt_head_bytes is {self.prompt_head_bytes}; at most {_PROMPT_HEAD_BYTES_MAX} are sent"
            )
        for name in (one.name for one in dataclasses.fields(self)):
            value = getattr(self, name)
            if isinstance(value, str | DeferredConfig | PromiseConfig | PickerConfig | Mapping):
                continue
            least_ok = value >= 0 if name in _ZERO_ALLOWED else value > 0
            if not least_ok:
                raise ConfigError(f"{name} is {value}; it must be greater than 0")

    def keys(self) -> Keys:
        """Who is known by which key. Raises ConfigError for a table that makes no sense."""
        tables = self.tenants.items()
        return Keys({name: from_mapping(TenantKeys, table, f"gateway.tenants.{name}") for name, table in tables})
