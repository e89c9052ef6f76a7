"""What an instance is told beside the request: the prediction, what is due when, and what the session has had."""

import math
from collections import OrderedDict
from dataclasses import dataclass, fields

from forebay.core.instance.hints import Hints
from forebay.core.promises import PACE_S, TTFT_FAST_S, TTFT_NORMAL_S
from forebay.core.scheduling import Placement
from forebay.core.units import US_PER_MS, US_PER_S
from forebay.core.values import InferenceRequest, SloClass

SESSION_COUNT_MAX = 100_000
"""Sessions whose service is remembered; the one that was served longest ago is forgotten first."""


@dataclass(frozen=True, slots=True)
class PromiseConfig:
    """[gateway.promises]: time to the first token, and between tokens, by class; 0 promises nothing.

    The defaults are those of the scheduler (`forebay.core.promises`). Deferred work has no promise for its
    tokens. Raises ValueError for a value that makes no sense.
    """

    ttft_interactive_fast_s: float = TTFT_FAST_S
    ttft_interactive_normal_s: float = TTFT_NORMAL_S
    tpot_interactive_fast_ms: float = 1_000 * PACE_S
    tpot_interactive_normal_ms: float = 1_000 * PACE_S

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{field.name} is {value}; it must not be negative")


class Promises:
    """Makes the hints of each attempt; remembers what sessions were served."""

    def __init__(self, config: PromiseConfig) -> None:
        self._due_us = {
            SloClass.INTERACTIVE_FAST: _due_us(config.ttft_interactive_fast_s, config.tpot_interactive_fast_ms),
            SloClass.INTERACTIVE_NORMAL: _due_us(config.ttft_interactive_normal_s, config.tpot_interactive_normal_ms),
        }
        self._session_tokens: OrderedDict[str, int] = OrderedDict()

    def hints(self, request: InferenceRequest, placement: Placement, waited_us: int) -> Hints:
        """What to tell the instance of a request that waited so long since it came; at least 1 us is left to it."""
        ttft_us, tpot_us = self._due_us.get(request.slo_class, (0, 0))
        return Hints(
            predicted_tokens=placement.predicted.p50,
            predicted_tokens_p90=placement.predicted.p90,
            ttft_slo_us=max(1, ttft_us - max(0, waited_us)) if ttft_us else 0,
            tpot_slo_us=tpot_us,
            session_tokens=self._session_tokens.get(request.session, 0),
        )

    def served(self, session: str, tokens: int) -> None:
        """An answer to the session ended with so many tokens."""
        if not (session and tokens):
            return
        self._session_tokens[session] = self._session_tokens.pop(session, 0) + tokens
        if len(self._session_tokens) > SESSION_COUNT_MAX:
            self._session_tokens.popitem(last=False)


def _due_us(ttft_s: float, tpot_ms: float) -> tuple[int, int]:
    return round(ttft_s * US_PER_S), round(tpot_ms * US_PER_MS)
