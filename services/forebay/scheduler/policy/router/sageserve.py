"""SageServe's routing over regions, with the release of deferred work by utilisation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.core.units import US_PER_S
from forebay.core.values import SloClass
from forebay.scheduler.policy.router.base import Hold, Ints, Route, RouteView, Scores, Term, lowest

AWAY = 1e9
"""What an instance outside the chosen region costs: more tokens than ever wait."""


@dataclass(frozen=True, slots=True)
class SageServe:
    """The first region on the request's list that is less full than `utilization_max`, else the least full of all.

    How full a region is: the tokens in the caches of the model's instances there, as last seen and with the prompts put
    there since, over those that they have room for. The list of a region stands in `preferences`; regions that it
    leaves out follow by name, and without a list the request's own region comes first. Inside the region: the fewest
    prompt tokens that wait, a request counting one token more. (SageServe's summary, section 8; its published code.)

    Deferred work waits for a region below `release_one_below`: each request that ends there, and each review of what is
    held, lets one go there, below `release_two_below` two. After `promote_after_s` it is routed as interactive.
    (Section 9. The published code has one and two the other way round, `is_release_reversed`, and no promotion, 0.)
    """

    utilization_max: float = 0.70
    preferences: Mapping[str, Any] = field(default_factory=dict)
    release_one_below: float = 0.60
    release_two_below: float = 0.50
    is_release_reversed: bool = False
    promote_after_s: float = 36_000.0

    def __post_init__(self) -> None:
        if not 0 <= self.release_two_below <= self.release_one_below:
            raise ValueError("release_two_below must be from 0 to release_one_below")
        if min(self.utilization_max, self.promote_after_s) < 0:
            raise ValueError("utilization_max and promote_after_s must not be negative")
        for region, listed in self.preferences.items():
            if not isinstance(listed, Sequence) or isinstance(listed, str):
                raise ValueError(f"preferences of region {region!r} must be a list of regions")

    def route(self, view: RouteView) -> Route | Hold:
        """The region first, then the instance; deferred work may have to wait."""
        names, codes = _coded(view.regions or ("",) * len(view.instance_ids))
        used = _utilization(view, codes, len(names))
        is_open = np.bincount(codes[view.eligible], minlength=len(names)) > 0
        ranked = [code for code in self._order(view.region, names) if is_open[code]]
        if view.slo_class is not SloClass.DEFERRED or self._is_promoted(view):
            free = used < self.utilization_max
            chosen = next((code for code in ranked if free[code]), min(ranked, key=lambda code: used[code]))
            return self._inside(view, codes != chosen)
        allowed = self._allowed(used) > _released(view, codes, len(names))
        released = next((code for code in ranked if allowed[code]), None)
        if released is None:
            return Hold("no region is idle enough for deferred work", is_for_class=True)
        return self._inside(view, codes != released)

    def _inside(self, view: RouteView, is_away: npt.NDArray[np.bool_]) -> Route:
        waiting: Scores = view.prompt_tokens_pending + view.in_flight_count
        terms = (
            Term("outside the chosen region", "instances", AWAY, is_away),
            Term("prompts that wait, and one a request", "tokens", 1.0, waiting),
        )
        scores = AWAY * is_away + waiting
        return Route(lowest(view, scores), scores, terms=terms)

    def _is_promoted(self, view: RouteView) -> bool:
        waited_s = (view.now_us - view.arrived_us) / US_PER_S
        return 0 < self.promote_after_s <= waited_s

    def _allowed(self, used: npt.NDArray[np.float64]) -> Ints:
        """How many deferred requests each region may get between two signals."""
        low, lower = used < self.release_one_below, used < self.release_two_below
        counts: Ints = 2 * low - lower if self.is_release_reversed else low.astype(np.int64) + lower
        return counts

    def _order(self, region: str, names: tuple[str, ...]) -> list[int]:
        listed = [name for name in self.preferences.get(region, (region,)) if name in names]
        return [names.index(name) for name in dict.fromkeys([*listed, *names])]


@lru_cache(maxsize=64)
def _coded(regions: tuple[str, ...]) -> tuple[tuple[str, ...], Ints]:
    """The names of the regions in order, and which one each instance is in."""
    names = tuple(sorted(set(regions)))
    codes = np.array([names.index(region) for region in regions], dtype=np.int64)
    codes.setflags(write=False)
    return names, codes


def _utilization(view: RouteView, codes: Ints, count: int) -> npt.NDArray[np.float64]:
    """How full each region's caches are; instances that take nothing and are not full are not there yet, or leave."""
    seen = view.observed
    counts = view.eligible | (view.in_flight_count >= view.concurrency_cap)
    room = np.bincount(codes, seen.kv_tokens_max * counts, minlength=count)
    held = (seen.kv_utilization * seen.kv_tokens_max + view.unseen_prompt_tokens) * counts
    shares: npt.NDArray[np.float64] = np.bincount(codes, held, minlength=count) / np.maximum(room, 1)
    return shares


def _released(view: RouteView, codes: Ints, count: int) -> npt.NDArray[np.float64]:
    """How many deferred requests each region got since its last signal."""
    counts = np.zeros(len(codes)) if view.released_count is None else view.released_count.astype(np.float64)
    sums: npt.NDArray[np.float64] = np.bincount(codes, counts, minlength=count).astype(np.float64)
    return sums
