"""What an orderer sees and says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest

Column: TypeAlias = npt.NDArray[np.int64]
Keys: TypeAlias = npt.NDArray[np.float64]

OUTPUT_WEIGHT = 2
"""What a token of an answer counts in units of a token of a prompt (VTC; section 3 of the summary of related work)."""
BAND_US = 2.0**48
"""Wider than any time that is compared, about nine years; a dozen bands of it are exact to the microsecond."""
CLASS_COUNT = 4
"""Bands that classes take inside a coarser one: they are numbered from 1 to 3."""


class Standing(NamedTuple):
    """What all tenants of a model, or all sessions, were served: an entry a code; read-only, tokens as `service` has.

    `charged` counts predicted answers when they start and what really came when they end. `waited_us` is how long the
    requests that were placed had been held.
    """

    served: Keys
    charged: Keys
    waited_us: Keys


@dataclass(frozen=True, slots=True)
class OrderView:
    """The held requests of one model, one entry each in no particular order; the arrays are read-only.

    `deadline_us` is until when a request may be held, `due_us` when its first token is due or, where `is_due_whole` is
    1, its whole answer. `predicted_tokens` are medians of the answer, `p90_tokens` upper bounds,
    `tokens_max` its limit (0: none); `rank_score` is the predictor's own order, small for short.

    `planned_rank` is the rank of each request's group in the plan that is in force, -1 where it says nothing; None
    without a plan.

    Service is tokens of prompts plus OUTPUT_WEIGHT times tokens of answers, of a tenant divided by its weight.
    """

    now_us: int
    arrived_us: Column
    deadline_us: Column
    predicted_tokens: Column
    prompt_tokens: Column
    slo_class: Column
    due_us: Column
    p90_tokens: Column
    tokens_max: Column
    is_due_whole: Column
    tenant_code: Column
    session_code: Column
    rank_score: Keys
    requests: Sequence[InferenceRequest]
    tenants: Standing
    sessions: Standing
    planned_rank: Keys | None = None

    @property
    def waited_s(self) -> Keys:
        """How long each has been held."""
        return (self.now_us - self.arrived_us) / US_PER_S

    @property
    def tenant_service(self) -> Keys:
        """What the tenant of each was served."""
        return self.tenants.served[self.tenant_code]

    @property
    def tenant_charged(self) -> Keys:
        """What the tenant of each was served, running answers counted as long as predicted."""
        return self.tenants.charged[self.tenant_code]

    @property
    def session_service(self) -> Keys:
        """What the session of each was served; 0 without a session."""
        return self.sessions.served[self.session_code]

    @property
    def session_waited_s(self) -> Keys:
        """How long the earlier requests of the session of each were held together; 0 without a session."""
        return self.sessions.waited_us[self.session_code] / US_PER_S


class Orderer(Protocol):
    """Says who is next."""

    def rank(self, view: OrderView) -> Keys:
        """One key a held request: the smallest goes first, and of equal keys the earliest arrival."""
        ...


def banded(bands: npt.NDArray[np.integer] | Keys, within_us: Column) -> Keys:
    """Keys that rank by band and inside a band by time; times are relative to now."""
    return np.asarray(bands * BAND_US + np.clip(within_us, -BAND_US / 2, BAND_US / 2 - 1), dtype=np.float64)
