"""What pushes back on each instance: the pace of its answers and the tokens it makes, step by step."""

from collections.abc import Callable

from forebay.core.units import US_PER_S
from forebay.core.values import SloClass
from forebay.scheduler.leases import Lease
from forebay.scheduler.policy.puller.base import Measured

MEMORY_US = 300 * US_PER_S
"""How long what was measured at a number of requests is compared with."""
BELOW_SHARE = 2 / 3
"""How many requests at most, of those of now, make a throughput to compare with: between levels that are close to each
other it always looks flat, and growth would die out long before the knee."""
SMOOTHING = 0.5
"""How much of the throughput at a number of requests is that of its newest step."""


class Gauge:
    """One instance since its last step, and its throughput by the most requests that were in flight in a step."""

    __slots__ = ("_paces", "_since_us", "_throughputs", "_tokens")

    def __init__(self, now_us: int) -> None:
        self._since_us = now_us
        self._tokens = 0
        self._paces: dict[SloClass, list[int]] = {}
        self._throughputs: dict[int, tuple[float, int]] = {}

    def moved(self, lease: Lease, tokens: int, now_us: int) -> None:
        """Takes new tokens of a lease; the time before its first report is no time between tokens."""
        self._tokens += tokens
        if lease.moved_us:
            pace = self._paces.setdefault(lease.request.slo_class, [0, 0])
            pace[0] += now_us - lease.moved_us
            pace[1] += tokens
        lease.moved_us = now_us

    def step(self, peak_count: int, itl_slo_us: Callable[[SloClass], int], now_us: int) -> Measured | None:
        """Ends a step and begins the next; None where nothing was measured."""
        elapsed_us, tokens, paces = now_us - self._since_us, self._tokens, self._paces
        self._since_us, self._tokens, self._paces = now_us, 0, {}
        if elapsed_us <= 0 or not tokens or not peak_count:
            return None
        made = self._throughput(peak_count, tokens * US_PER_S / elapsed_us, now_us)
        known = [count for count in self._throughputs if count <= BELOW_SHARE * peak_count]
        below = self._throughputs[max(known)][0] if known else 0.0
        if not paces:
            return Measured(peak_count, 0.0, 0.0, made, below)
        slo_us = min(itl_slo_us(slo_class) for slo_class in paces)
        tightest = [pace for slo_class, pace in paces.items() if itl_slo_us(slo_class) == slo_us]
        itl_us = sum(pace[0] for pace in tightest) / sum(pace[1] for pace in tightest)
        return Measured(peak_count, itl_us / US_PER_S, slo_us / US_PER_S, made, below)

    def _throughput(self, peak_count: int, made: float, now_us: int) -> float:
        recent = now_us - MEMORY_US
        self._throughputs = {count: one for count, one in self._throughputs.items() if one[1] >= recent}
        known = self._throughputs.get(peak_count)
        smooth = made if known is None else known[0] + SMOOTHING * (made - known[0])
        self._throughputs[peak_count] = smooth, now_us
        return smooth
