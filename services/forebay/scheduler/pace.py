"""How fast something happens: a rate that forgets the past smoothly."""

import math

from forebay.core.units import US_PER_S

MEMORY_S = 10.0


class Pace:
    """Amounts a second over about the last ten seconds: each amount fades with exp(-age / 10 s)."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._fresh = 0.0
        self._first_us = 0
        self._seen_us = 0

    def add(self, amount: float, now_us: int) -> None:
        """Takes an amount that happened now."""
        if not self._first_us:
            self._first_us = now_us
        if now_us != self._seen_us:
            self._fade(now_us)
        self._fresh += amount

    def per_s(self, now_us: int) -> float:
        """The rate now; 0 before the first amount and in the first tenth of a second, which says too little."""
        age_s = (now_us - self._first_us) / US_PER_S
        if not self._first_us or age_s < 0.1:
            return 0.0
        self._fade(now_us)
        # A young sum covers less than the whole memory: divide by the part of the kernel that it has seen.
        return (self._sum + self._fresh) / (MEMORY_S * -math.expm1(-age_s / MEMORY_S))

    def _fade(self, now_us: int) -> None:
        # Amounts of one instant are added up first, so that it makes no difference in how many parts they come.
        self._sum = (self._sum + self._fresh) * math.exp((self._seen_us - now_us) / US_PER_S / MEMORY_S)
        self._fresh = 0.0
        self._seen_us = now_us
