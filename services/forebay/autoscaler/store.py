"""The port through which the fleet survives a restart, and its adapter in memory."""

from dataclasses import replace
from typing import Protocol

from forebay.core.errors import NotLeader
from forebay.core.fleet import FleetState, Member, ScalingDecision, Term
from forebay.core.units import US_PER_S
from forebay.core.values import InstanceState

RETRY_AFTER_US = US_PER_S


class Store(Protocol):
    """Keeps one fleet. Calls block and come one at a time."""

    def load(self) -> FleetState:
        """Everything that is kept; the empty state when there is nothing. Raises Unavailable."""
        ...

    def save(self, change: FleetState, token: int) -> None:
        """Keeps the settings, members and decisions of a change, all or none; stopped members are forgotten.

        Saving the same change again changes nothing. Only the newest decisions are kept. Raises Unavailable, and
        NotLeader where `token` is not that of the term: then nothing is kept.
        """
        ...

    def claim(self, wish: Term, ttl_us: int, now_us: int) -> Term:
        """Leads for `ttl_us` from now on, or tells who does; the claim and its answer are one step.

        A wish with the token of the term renews it. Any other begins a new term, with a greater token, where the last
        one has run out, or, for a wish with token 0, is that of a process which listened at the same address and so is
        gone. A wish for `ttl_us` 0 ends the term that has its token. Raises Unavailable.
        """
        ...


class MemoryStore:
    """Keeps the fleet as long as the process lives."""

    def __init__(self, decision_count_max: int) -> None:
        self._decision_count_max = decision_count_max
        self._state = FleetState()
        self._term = Term()

    def load(self) -> FleetState:
        """Everything that is kept."""
        return self._state

    def save(self, change: FleetState, token: int) -> None:
        """Keeps a change."""
        check(self._term, token)
        members = {member.instance.instance_id: member for member in (*self._state.members, *change.members)}
        decisions = {decision.decision_id: decision for decision in (*self._state.decisions, *change.decisions)}
        newest = sorted(decisions.values(), key=order)[-self._decision_count_max :]
        self._state = FleetState(change.settings, tuple(filter(_is_kept, members.values())), tuple(newest))

    def claim(self, wish: Term, ttl_us: int, now_us: int) -> Term:
        """Leads, or tells who does."""
        self._term = next_term(self._term, wish, ttl_us, now_us)
        return self._term


def next_term(term: Term, wish: Term, ttl_us: int, now_us: int) -> Term:
    """The term after a claim: the wish's own, renewed or new, or the one that is."""
    until_us = now_us + ttl_us
    if wish.token and wish.token == term.token:
        return replace(term, until_us=until_us)
    is_over = now_us >= term.until_us
    is_heir = wish.address == term.address and wish.holder != term.holder and not wish.token
    return replace(wish, token=term.token + 1, until_us=until_us) if ttl_us and (is_over or is_heir) else term


def check(term: Term, token: int) -> None:
    """Raises NotLeader unless the token is that of the term."""
    if token != term.token:
        raise NotLeader(f"the autoscaler at {term.address} leads this fleet; ask it", retry_after_us=RETRY_AFTER_US)


def order(decision: ScalingDecision) -> tuple[int, int]:
    """Decisions in the order they were taken."""
    return (decision.decided_us, int(decision.decision_id.rpartition("-")[2]))


def _is_kept(member: Member) -> bool:
    return member.instance.state is not InstanceState.STOPPED
