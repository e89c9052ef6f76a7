"""What a puller sees and says."""

from typing import NamedTuple, Protocol

UNLIMITED = 2**31 - 1
"""The cap that never binds."""


class PullView(NamedTuple):
    """One instance: what the scheduler has put there and what was last seen from outside, None where nothing was."""

    instance_id: str
    model: str
    concurrency_max: int
    in_flight_count: int
    running_count: int | None = None
    waiting_count: int | None = None
    kv_utilization: float | None = None


class Puller(Protocol):
    """Says how many requests may be in flight on an instance."""

    def cap(self, view: PullView) -> int:
        """Most requests in flight, 0 to UNLIMITED; asked again whenever the fleet or its observed load changes."""
        ...
