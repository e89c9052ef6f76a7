"""The newest decisions, for those who ask why."""

from collections import OrderedDict
from collections.abc import Iterable

from forebay.core.errors import InvalidArgument, NotFound
from forebay.core.fleet import ScalingDecision


class DecisionLog:
    """Keeps the newest `capacity` decisions; older ones are forgotten."""

    def __init__(self, capacity: int, decisions: Iterable[ScalingDecision] = ()) -> None:
        self._capacity = capacity
        self._decisions: OrderedDict[str, ScalingDecision] = OrderedDict()
        for decision in decisions:
            self.add(decision)

    def add(self, decision: ScalingDecision) -> None:
        """Takes the newest decision."""
        self._decisions[decision.decision_id] = decision
        if len(self._decisions) > self._capacity:
            self._decisions.popitem(last=False)

    def get(self, decision_id: str) -> ScalingDecision:
        """One decision. Raises NotFound when it is unknown or forgotten."""
        decision = self._decisions.get(decision_id)
        if decision is None:
            raise NotFound(f"no decision {decision_id!r} is kept; ListDecisions shows the newest {self._capacity}")
        return decision

    def page(self, model: str, size: int, after_id: str) -> tuple[tuple[ScalingDecision, ...], str]:
        """Up to `size` decisions, newest first, those older than `after_id` if given, and where to go on.

        Raises InvalidArgument when `after_id` is unknown or forgotten.
        """
        if after_id and after_id not in self._decisions:
            raise InvalidArgument("the page_token is too old; start again without one")
        found: list[ScalingDecision] = []
        skipping = bool(after_id)
        for decision in reversed(self._decisions.values()):
            if not skipping and model in ("", decision.model):
                found.append(decision)
            skipping = skipping and decision.decision_id != after_id
            if len(found) > size:
                return tuple(found[:size]), found[size - 1].decision_id
        return tuple(found), ""
