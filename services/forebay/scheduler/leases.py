"""The leases that are open: which request runs where, how far it is, and when its permission ends."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from forebay.core.scheduling import LeaseStatus, Placement
from forebay.core.values import InferenceRequest, SloClass
from forebay.scheduler.deadlines import Deadlines

OVERRUN_STEP = 0.2
"""An answer that outlives its prediction D is taken to need 0.2 D more, again and again (PreServe, section 4.3.1)."""


@dataclass(slots=True)
class Lease:
    """One request that runs; `remaining_tokens` is what the fleet's arrays carry for it.

    It gave tokens last at `moved_us`, 0 where it gave none or nobody measures.
    """

    placement: Placement
    request: InferenceRequest
    gateway_id: str
    tokens_max: int
    opened_us: int
    expire_us: int
    generated_tokens: int = 0
    remaining_tokens: int = 0
    moved_us: int = 0


class LeaseBook:
    """Open leases by id and by request, with their expiry."""

    def __init__(self, ttl_us: int) -> None:
        self.ttl_us = ttl_us
        self.count_by_model: Counter[str] = Counter()
        self.count_by_class: Counter[tuple[str, SloClass]] = Counter()
        self.deadlines = Deadlines()
        self._by_id: dict[str, Lease] = {}
        self._by_request: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, lease_id: str) -> Lease | None:
        """The open lease of this id."""
        return self._by_id.get(lease_id)

    def of_request(self, request_id: str) -> Lease | None:
        """The open lease of this request."""
        return self._by_request.get(request_id)

    def of_gateway(self, gateway_id: str) -> list[Lease]:
        """The open leases that this gateway got."""
        return [lease for lease in self._by_id.values() if lease.gateway_id == gateway_id]

    def newest_first(self) -> Iterator[Lease]:
        """The open leases, the one that was opened last first."""
        return reversed(self._by_id.values())

    def add(self, lease: Lease) -> None:
        """Opens a lease; its request must have none."""
        lease_id = lease.placement.lease_id
        self._by_id[lease_id] = lease
        self._by_request[lease.request.request_id] = lease
        self.deadlines.set(lease_id, lease.expire_us)
        self.count_by_model[lease.request.model] += 1
        self.count_by_class[lease.request.model, lease.request.slo_class] += 1

    def renew(self, lease: Lease, now_us: int) -> None:
        """Gives a lease its whole time to live again."""
        lease.expire_us = now_us + self.ttl_us
        self.deadlines.set(lease.placement.lease_id, lease.expire_us)

    def remove(self, lease: Lease) -> None:
        """Ends a lease."""
        lease_id = lease.placement.lease_id
        del self._by_id[lease_id]
        del self._by_request[lease.request.request_id]
        self.deadlines.drop(lease_id)
        self.count_by_model[lease.request.model] -= 1
        self.count_by_class[lease.request.model, lease.request.slo_class] -= 1

    def expired(self, now_us: int) -> list[Lease]:
        """The leases that end now; the caller removes them."""
        return [self._by_id[lease_id] for lease_id in self.deadlines.due(now_us)]

    def statuses(self, instance_id: str) -> list[LeaseStatus]:
        """What runs on one instance, or everywhere for an empty id; by lease id."""
        chosen = (one for one in self._by_id.values() if not instance_id or one.placement.instance_id == instance_id)
        return sorted(map(_status, chosen), key=lambda status: status.lease_id)


def remaining_tokens(median: int, generated: int, tokens_max: int) -> int:
    """Tokens expected after `generated` ones of an answer whose median was `median`; 0 only at its limit."""
    horizon = median
    if generated >= median:
        step = max(1, round(OVERRUN_STEP * median))
        horizon = median + ((generated - median) // step + 1) * step
    if tokens_max and horizon > tokens_max:
        horizon = tokens_max
    return horizon - generated if horizon > generated else 0


def _status(lease: Lease) -> LeaseStatus:
    placement = lease.placement
    return LeaseStatus(
        placement.lease_id,
        placement.request_id,
        placement.instance_id,
        lease.request.model,
        lease.expire_us,
        lease.generated_tokens,
        placement.predicted,
    )
