"""How many requests a second one instance takes before its promises break, for a mix of lengths.

A decoding request is served at a pace that depends on how many others decode beside it, so the number of them is a
birth-death chain: processor sharing with state-dependent speed, whose distribution depends on the lengths by their mean
alone (Kelly, Reversibility and Stochastic Networks, 1979, section 3.3). Prompts wait for each other as in an M/G/1
queue, and slow the decodes that share iterations with them. Arrivals are taken to be Poisson; what is burstier than
that takes more room. All of it is ours; benchmarks/capability.py says how far it is from the simulator.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from forebay.core.instance import EngineProfile, compute_profile, parse_profile_name
from forebay.core.mix import Mix
from forebay.core.steady import Limits, Load, ServiceLevel, Steady, nothing
from forebay.core.units import PS_PER_S

__all__ = ["Engine", "Load", "Mix", "ServiceLevel", "engine_of"]

GRID_COUNTS = (6, 5)
"""Rates tried at once: first between none and the most, then between the last that holds and the next."""


@lru_cache(maxsize=64)
def engine_of(name: str, seats: int = 0, kv_tokens: int = 0, max_batch_tokens: int = 2_048) -> "Engine":
    """The engine of a profile of the catalog, GPU/MODEL/tpN; 0 takes the usual limits. Kept, so ask as often as needed.

    Raises ValueError for names that are not known.
    """
    parts = parse_profile_name(name)
    profile = compute_profile(*parts, max_seqs=seats or 256, max_batch_tokens=max_batch_tokens)
    return Engine(profile, seats, kv_tokens)


class Engine:
    """What one instance can do, from its profile; `seats` and `kv_tokens` 0 take the profile's."""

    def __init__(self, profile: EngineProfile, seats: int = 0, kv_tokens: int = 0) -> None:
        self.profile = profile
        self.limits = Limits(
            profile,
            np.array(profile.iteration_ps, dtype=np.float64) / PS_PER_S,
            min(seats or profile.max_seqs, profile.max_batch_tokens - 1),
            kv_tokens or profile.block_count * profile.block_size,
        )

    def capacity(self, mix: Mix, level: ServiceLevel) -> Load:
        """The highest steady rate at which the promises hold, and what the instance is like at it.

        Requests that never fit the cache are refused and miss. The rate is 0 where the promises cannot be kept at any.
        """
        served = mix.up_to(self.limits.kv_tokens)
        if served is None or served.part < level.share * mix.part:
            return nothing("kv")
        return self._capacity(served, replace(level, share=level.share * mix.part / served.part))

    def _capacity(self, mix: Mix, level: ServiceLevel) -> Load:
        state = Steady(self.limits, mix, level)
        if not (level.ttft_s or level.itl_s or level.e2e_s):
            return state.load(level.utilisation_max * state.rate_max)
        low, high = 1e-4 * state.rate_max, state.rate_max
        for count in GRID_COUNTS:
            rates = np.linspace(low, high, count + 1)
            judged = state.judge(rates)
            kept = judged.attainment >= level.share
            if not kept[0]:
                return nothing(judged.idle_limit)
            if kept.all():
                return state.load(high)
            first = int(kept.argmin())
            low, high = float(rates[first - 1]), float(rates[first])
        more, less = judged.attainment[first - 1], judged.attainment[first]
        return state.load(low + (high - low) * float((more - level.share) / (more - less)))

    def load_at(self, mix: Mix, requests_per_s: float, level: ServiceLevel = ServiceLevel()) -> Load:
        """What the instance is like at a rate; where that is more than it can do, at the most that it can."""
        served = mix.up_to(self.limits.kv_tokens)
        if served is None:
            return nothing("kv")
        state = Steady(self.limits, served, level)
        return state.load(min(requests_per_s * served.part, state.rate_max))
