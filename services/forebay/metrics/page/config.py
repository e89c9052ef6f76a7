"""What can be set of the live page: [metrics.page]."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from forebay.core.promises import DEFERRED_S, PACE_S, TTFT_FAST_S, TTFT_NORMAL_S, Promise
from forebay.core.values import SloClass


@dataclass(frozen=True, slots=True)
class PageConfig:
    """How often the page changes, and the promises that it measures; every value must be above zero.

    The promises are those of gateway and scheduler by default: time to the first token, the mean time between tokens,
    and the whole answer of deferred work.
    """

    interval_s: float = 1.0
    call_timeout_s: float = 1.5
    viewer_count_max: int = 64
    ttft_interactive_fast_s: float = TTFT_FAST_S
    ttft_interactive_normal_s: float = TTFT_NORMAL_S
    tpot_interactive_ms: float = 1_000 * PACE_S
    answer_deferred_s: float = DEFERRED_S

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}; it must be a number above 0")

    def promises(self) -> Mapping[SloClass, Promise]:
        """What each class is promised."""
        tpot_ms = self.tpot_interactive_ms
        return {
            SloClass.INTERACTIVE_FAST: Promise(ttft_s=self.ttft_interactive_fast_s, tpot_ms=tpot_ms),
            SloClass.INTERACTIVE_NORMAL: Promise(ttft_s=self.ttft_interactive_normal_s, tpot_ms=tpot_ms),
            SloClass.DEFERRED: Promise(e2e_s=self.answer_deferred_s),
        }
