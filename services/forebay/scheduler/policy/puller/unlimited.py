"""Sends everything at once and leaves queueing to the instances."""

from dataclasses import dataclass

from forebay.scheduler.policy.puller.base import UNLIMITED, PullView


@dataclass(frozen=True, slots=True)
class Unlimited:
    """Sets no bound: a request is held only while no instance takes requests."""

    def cap(self, view: PullView) -> int:
        """Always the cap that never binds."""
        return UNLIMITED
