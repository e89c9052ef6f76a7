"""Admits what the token bucket of the tenant has room for."""

import math
from dataclasses import dataclass

from forebay.core.units import US_PER_S
from forebay.scheduler.policy.admission.base import ADMITTED, AdmissionView, Admitted, Later


@dataclass(frozen=True, slots=True)
class TenantQuota:
    """Admits an arrival for whose prompt and predicted answer the tenant has tokens left; without a quota, always.

    Tokens that were promised to others are not left; an arrival to which a promise is due enters in any case. One that
    is larger than the whole bucket enters when the bucket is full. Who is refused is told when the tokens are there.
    """

    def admit(self, view: AdmissionView) -> Admitted | Later:
        """Now, or the exact time until the bucket has the tokens."""
        quota = view.quota
        if quota is None or quota.is_promised:
            return ADMITTED
        tokens = view.prompt_tokens + view.predicted_tokens
        short = min(tokens, quota.tokens_max) + quota.promised_tokens - quota.tokens
        if short <= 0:
            return ADMITTED
        left = max(0, math.floor(quota.tokens - quota.promised_tokens))
        return Later(
            "TENANT_QUOTA_EXHAUSTED",
            f"tenant {view.tenant!r} may use {quota.tokens_per_s * 60:.0f} tokens a minute and has "
            f"{left} left for this request of {tokens}, by prediction; come back after the delay",
            math.ceil(short / quota.tokens_per_s * US_PER_S),
            is_promise=True,
        )
