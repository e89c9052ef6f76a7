"""A fixed number of requests in flight an instance."""

from dataclasses import dataclass

from forebay.scheduler.policy.puller.base import CONCURRENCY_UNKNOWN, PullView


@dataclass(frozen=True, slots=True)
class FixedCap:
    """Caps each instance at `count`, or at its engine's own concurrency where `count` is 0."""

    count: int = 0

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count must not be negative")

    def cap(self, view: PullView) -> int:
        """The same cap at all times."""
        return self.count or view.concurrency_max or CONCURRENCY_UNKNOWN
