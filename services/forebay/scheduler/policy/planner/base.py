"""What a planner sees and says."""

from typing import NamedTuple, Protocol, TypeAlias


class Group(NamedTuple):
    """Held requests that are alike: one instance alone works at them for `work_s`; the first is due in `slack_s`."""

    request_count: int
    work_s: float
    slack_s: float


class PlanView(NamedTuple):
    """Groups, the one that is due first in front, and how long each instance is busy with what it has."""

    groups: tuple[Group, ...]
    busy_s: tuple[float, ...]


class Grouping(NamedTuple):
    """How a planner wants to be asked: every `step_s` while requests are held, 0 for never.

    Requests of one class and application that are due within the same `width_s` are alike; a group holds up to
    `size_max` of them, and the planner is asked about the `groups_max` groups that are due first.
    """

    step_s: float = 0.0
    width_s: float = 0.0
    size_max: int = 1
    groups_max: int = 1


Assignment: TypeAlias = tuple[tuple[int, ...], ...]
"""The groups that each instance works at, by index, in this order."""


class Planner(Protocol):
    """Says which groups go where and when; it may take long, so nobody waits for it."""

    @property
    def grouping(self) -> Grouping:
        """How it wants to be asked; always the same."""
        ...

    def plan(self, view: PlanView) -> Assignment | None:
        """Every group once; None where it finds no plan. Equal views give equal plans."""
        ...
