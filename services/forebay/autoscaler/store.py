"""The port through which the fleet survives a restart, and its adapter in memory."""

from typing import Protocol

from forebay.core.fleet import FleetState, Member, ScalingDecision
from forebay.core.values import InstanceState


class Store(Protocol):
    """Keeps one fleet. Calls block and come one at a time."""

    def load(self) -> FleetState:
        """Everything that is kept; the empty state when there is nothing. Raises Unavailable."""
        ...

    def save(self, change: FleetState) -> None:
        """Keeps the settings, members and decisions of a change, all or none; stopped members are forgotten.

        Saving the same change again changes nothing. Only the newest decisions are kept. Raises Unavailable.
        """
        ...


class MemoryStore:
    """Keeps the fleet as long as the process lives."""

    def __init__(self, decision_count_max: int) -> None:
        self._decision_count_max = decision_count_max
        self._state = FleetState()

    def load(self) -> FleetState:
        """Everything that is kept."""
        return self._state

    def save(self, change: FleetState) -> None:
        """Keeps a change."""
        members = {member.instance.instance_id: member for member in (*self._state.members, *change.members)}
        decisions = {decision.decision_id: decision for decision in (*self._state.decisions, *change.decisions)}
        newest = sorted(decisions.values(), key=order)[-self._decision_count_max :]
        self._state = FleetState(change.settings, tuple(filter(_is_kept, members.values())), tuple(newest))


def order(decision: ScalingDecision) -> tuple[int, int]:
    """Decisions in the order they were taken."""
    return (decision.decided_us, int(decision.decision_id.rpartition("-")[2]))


def _is_kept(member: Member) -> bool:
    return member.instance.state is not InstanceState.STOPPED
