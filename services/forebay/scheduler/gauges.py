"""What pushes back on each instance: the pace of its answers and the tokens it makes, step by step."""

from collections.abc import Callable, Iterable

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

    __slots__ = ("_itls", "_paces", "_since_us", "_throughputs", "_tokens")

    def __init__(self, now_us: int) -> None:
        self._since_us = now_us
        self._tokens = 0
        self._paces: dict[SloClass, list[int]] = {}
        self._throughputs: dict[int, tuple[float, int]] = {}
        self._itls: dict[int, tuple[float, int]] = {}

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
        made = _smoothed(self._throughputs, peak_count, tokens * US_PER_S / elapsed_us, now_us)
        known = [count for count in self._throughputs if count <= BELOW_SHARE * peak_count]
        below = self._throughputs[max(known)][0] if known else 0.0
        if not paces:
            return Measured(peak_count, 0.0, 0.0, made, below)
        slo_us = min(itl_slo_us(slo_class) for slo_class in paces)
        tightest = [pace for slo_class, pace in paces.items() if itl_slo_us(slo_class) == slo_us]
        _smoothed(self._itls, peak_count, _itl_s(paces.values()), now_us)
        itls = tuple(sorted((count, one[0]) for count, one in self._itls.items()))
        return Measured(peak_count, _itl_s(tightest), slo_us / US_PER_S, made, below, itls)


def needed_tokens_per_s(leases: Iterable[Lease], itl_slo_us: Callable[[SloClass], int], now_us: int) -> float:
    """The highest speed that one of the requests needs: that of its class, or what is left by its own deadline."""
    return max((_needed(lease, itl_slo_us(lease.request.slo_class), now_us) for lease in leases), default=0.0)


def _needed(lease: Lease, itl_slo_us: int, now_us: int) -> float:
    own_us = lease.request.deadline_us
    if not own_us:
        return US_PER_S / itl_slo_us
    left_us = lease.opened_us - lease.placement.held_us + own_us - now_us
    # What is late already cannot be helped by sending others away.
    return lease.remaining_tokens * US_PER_S / left_us if left_us > 0 else 0.0


def _itl_s(paces: Iterable[list[int]]) -> float:
    """The mean time between tokens of some classes."""
    elapsed_us, tokens = map(sum, zip(*paces, strict=True))
    return elapsed_us / tokens / US_PER_S


def _smoothed(known: dict[int, tuple[float, int]], peak_count: int, value: float, now_us: int) -> float:
    """Takes the value of a step at a peak, forgets old ones, and gives the smooth value at this peak."""
    for count in [count for count, one in known.items() if one[1] < now_us - MEMORY_US]:
        del known[count]
    before = known.get(peak_count)
    smooth = value if before is None else before[0] + SMOOTHING * (value - before[0])
    known[peak_count] = smooth, now_us
    return smooth
