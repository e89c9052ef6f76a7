"""What users of each class are promised, as simulator, autoscaler and reports know it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay.core.values import SloClass

TTFT_FAST_S, TTFT_NORMAL_S, DEFERRED_S = 1.0, 60.0, 86_400.0
"""What gateway and scheduler promise by default: the first token of the interactive classes, and the whole answer of
deferred work (SageServe, section 2 of its summary)."""
PACE_S, PACE_DEFERRED_S = 0.2, 2.0
"""The mean time between two tokens that they promise by default (section 2 of Chiron's summary)."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What one class is promised; 0 means nothing. `e2e_s` may be outlived by a request's own deadline."""

    ttft_s: float = 0.0
    tpot_ms: float = 0.0
    e2e_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tpot_ms", "e2e_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must not be negative, but a finite number, not {value!r}")


@dataclass(frozen=True, slots=True)
class Promises:
    """[slo]: the promises by class; a request meets its SLO if it finishes within all of them and its own deadline."""

    interactive_fast: Promise = field(default_factory=lambda: Promise(TTFT_FAST_S, tpot_ms=1_000 * PACE_S))
    interactive_normal: Promise = field(default_factory=lambda: Promise(TTFT_NORMAL_S, tpot_ms=1_000 * PACE_S))
    deferred: Promise = field(default_factory=Promise)

    def by_class(self) -> Mapping[SloClass, Promise]:
        """The same, by class."""
        return {
            SloClass.INTERACTIVE_FAST: self.interactive_fast,
            SloClass.INTERACTIVE_NORMAL: self.interactive_normal,
            SloClass.DEFERRED: self.deferred,
        }
