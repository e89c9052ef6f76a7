"""The token buckets of tenants, and the promises that were given to come back."""

from bisect import insort
from collections.abc import Mapping

from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest
from forebay.scheduler.config import TenantConfig
from forebay.scheduler.policy.admission.base import Quota

PROMISE_KEPT_US = 10 * US_PER_S
"""How long after its time a promise still holds: HTTP tells whole seconds, and the way takes time too."""
PROMISE_SLACK = 1.2
"""How much larger a request may be predicted when it comes back: predictors learn in the meantime."""
PROMISE_COUNT_MAX = 1_000
"""Most promises of a tenant that are kept; who sends more refused requests than that is told the same, unkept."""


class Bucket:
    """Tokens that a tenant may use: full at first, refilled evenly, and owing when answers are longer than predicted.

    A promise is one admission, of a request as large, at a time that was told. It is kept whatever else was admitted or
    settled since, so that what is told is true; its tokens are set aside until then.
    """

    def __init__(self, config: TenantConfig) -> None:
        self.tokens_per_s = config.tokens_per_minute / 60
        self.tokens_max = float(config.tokens_burst or config.tokens_per_minute)
        self._tokens = self.tokens_max
        self._seen_us = 0
        self._promises: list[tuple[int, float]] = []

    def look(self, tokens: float, now_us: int) -> Quota:
        """What an arrival of so many tokens finds."""
        self._refill(now_us)
        self._promises = [one for one in self._promises if one[0] + PROMISE_KEPT_US >= now_us]
        promised = sum(one[1] for one in self._promises)
        is_promised = self._kept(tokens, now_us) is not None
        return Quota(self._tokens, self.tokens_max, self.tokens_per_s, promised, is_promised)

    def promise(self, tokens: float, due_us: int) -> None:
        """An arrival was told to come back then."""
        if len(self._promises) < PROMISE_COUNT_MAX:
            insort(self._promises, (due_us, tokens))

    def take(self, tokens: float, now_us: int) -> None:
        """Tokens are used; where a promise of as many is due, this keeps it."""
        self._refill(now_us)
        self._tokens -= tokens
        kept = self._kept(tokens, now_us)
        if kept is not None:
            self._promises.remove(kept)

    def give(self, tokens: float, now_us: int) -> None:
        """Tokens come back that were not used, or are owed where there are less than none."""
        self._refill(now_us)
        self._tokens = min(self.tokens_max, self._tokens + tokens)

    def _kept(self, tokens: float, now_us: int) -> tuple[int, float] | None:
        wanted = min(tokens, self.tokens_max)
        due = (one for one in self._promises if one[0] <= now_us and wanted <= one[1] * PROMISE_SLACK)
        return next(due, None)

    def _refill(self, now_us: int) -> None:
        passed_s = (now_us - self._seen_us) / US_PER_S
        self._tokens = min(self.tokens_max, self._tokens + passed_s * self.tokens_per_s)
        self._seen_us = now_us


class Quotas:
    """The buckets of the tenants that have a quota, and what each request in the house was charged.

    A request is charged its prompt and its predicted answer when it is admitted, and what really came when it ends.
    """

    def __init__(self, tenants: Mapping[str, TenantConfig]) -> None:
        self._buckets = {name: Bucket(one) for name, one in tenants.items() if one.tokens_per_minute}
        self._charged: dict[str, int] = {}

    def look(self, tenant: str, tokens: int, now_us: int) -> Quota | None:
        """What an arrival of the tenant, of so many tokens, finds; None without a quota."""
        bucket = self._buckets.get(tenant)
        return bucket.look(tokens, now_us) if bucket else None

    def promise(self, tenant: str, tokens: int, due_us: int) -> None:
        """An arrival of the tenant was told to come back then."""
        bucket = self._buckets[tenant]
        bucket.promise(min(tokens, bucket.tokens_max), due_us)

    def charge(self, request: InferenceRequest, tokens: int, now_us: int) -> None:
        """A request is admitted."""
        bucket = self._buckets.get(request.tenant)
        if bucket:
            bucket.take(tokens, now_us)
            self._charged[request.request_id] = tokens

    def settle(self, request: InferenceRequest, used_tokens: int, now_us: int) -> None:
        """A request ended after so many tokens; one that was not charged changes nothing."""
        charged = self._charged.pop(request.request_id, None)
        if charged is not None:
            self._buckets[request.tenant].give(charged - used_tokens, now_us)
