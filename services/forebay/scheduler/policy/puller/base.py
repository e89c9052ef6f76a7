"""What a puller sees and says."""

from typing import NamedTuple, Protocol

from forebay.core.units import US_PER_S
from forebay.core.values import InstanceRole

UNLIMITED = 2**31 - 1
"""The cap that never binds."""
CONCURRENCY_UNKNOWN = 64
"""What the contract takes for an engine that does not tell its concurrency."""


class Measured(NamedTuple):
    """What one step of an instance showed, and what was known before.

    At most `peak_count` requests were in flight. `itl_s` is the mean time between tokens of the class with the tightest
    promise that gave some, and `itl_slo_s` that promise; both 0 where none did. `tokens_per_s` were generated while
    the peak was as now, on average over the last such steps, and `tokens_per_s_below` at the largest peak of the last
    minutes that is clearly smaller; 0 where nothing was. `itls` are pairs of a peak and the mean time between tokens of
    all classes at it, in seconds, of the last minutes. `needed_tokens_per_s` is the highest speed that a request there
    needs for its promise.
    """

    peak_count: int
    itl_s: float = 0.0
    itl_slo_s: float = 0.0
    tokens_per_s: float = 0.0
    tokens_per_s_below: float = 0.0
    itls: tuple[tuple[int, float], ...] = ()
    needed_tokens_per_s: float = 0.0

    @property
    def latency_pressure(self) -> float:
        """Above 1 where tokens come slower than promised; 0 where nothing says so."""
        return self.itl_s / self.itl_slo_s if self.itl_slo_s else 0.0

    @property
    def throughput_pressure(self) -> float:
        """Above 1 where fewer requests gave more tokens a second; 0 where nothing says so."""
        return self.tokens_per_s_below / self.tokens_per_s if self.tokens_per_s else 0.0


class PullView(NamedTuple):
    """One instance: what the scheduler has put there and what was last seen from outside, None where nothing was.

    `context_count_max` requests fit into its cache at their longest; 0 where that is not known.

    For a puller with steps, `cap` is what it said last, 0 at first, and `kv_count_max` how many requests such as those
    that are there fit into the cache, 0 where that is not known; `measured` is there when a step ended and only then.
    """

    instance_id: str
    model: str
    concurrency_max: int
    in_flight_count: int
    running_count: int | None = None
    waiting_count: int | None = None
    kv_utilization: float | None = None
    role: InstanceRole = InstanceRole.MIXED
    cap: int = 0
    kv_count_max: int = 0
    measured: Measured | None = None
    context_count_max: int = 0


class Puller(Protocol):
    """Says how many requests may be in flight on an instance."""

    def cap(self, view: PullView) -> int:
        """Most requests in flight, 0 to UNLIMITED; asked again whenever the fleet or its observed load changes."""
        ...


def step_us(puller: Puller) -> int:
    """How often a puller is told what was measured: each `step_s` where it has such a parameter, else never, 0."""
    return round(getattr(puller, "step_s", 0.0) * US_PER_S)
