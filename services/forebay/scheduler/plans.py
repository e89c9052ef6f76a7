"""Groups what is held for a planner, and keeps the plan that came of it."""

from typing import NamedTuple

from forebay.core.units import US_PER_S
from forebay.core.waiting import Work, wait_s
from forebay.scheduler.actions import Plan
from forebay.scheduler.fleet import Fleet
from forebay.scheduler.policy.planner.base import Assignment, Group, Grouping, PlanView
from forebay.scheduler.queue import Held, HeldBook


class Asked(NamedTuple):
    """What a planner was asked about: the requests of each group, and the instances."""

    view: PlanView
    request_ids: tuple[tuple[str, ...], ...]
    instance_ids: tuple[str, ...]


class Plans:
    """At most one question a model is open; a plan holds until the next one, or until no promise is in danger."""

    def __init__(self, grouping: Grouping, fleet: Fleet, held: HeldBook) -> None:
        self.step_us = round(grouping.step_s * US_PER_S)
        self._grouping = grouping
        self._width_us = round(grouping.width_s * US_PER_S)
        self._fleet = fleet
        self._held = held
        self._asked: dict[str, Asked] = {}
        self._instances: dict[str, dict[str, str]] = {}

    def instance_of(self, model: str, request_id: str) -> str:
        """Where the plan wants the request; empty where it says nothing."""
        planned = self._instances.get(model)
        return planned.get(request_id, "") if planned else ""

    def ask(self, model: str, tokens_per_s: float, now_us: int) -> Plan | None:
        """The question for the planner where, by first deadline first, the wait would break a group's promise.

        `tokens_per_s` is the pace of all instances together. While a question is open, none.
        """
        if model in self._asked:
            return None
        asked = self._question(model, tokens_per_s, now_us)
        if asked is None or not _is_in_danger(asked.view):
            self._keep(model, {}, {})
            return None
        self._asked[model] = asked
        return Plan(model, asked.view)

    def answered(self, model: str, assignment: Assignment | None) -> None:
        """Puts a plan in force; without one the deadlines decide."""
        asked = self._asked.pop(model, None)
        if asked is None or assignment is None:
            self._keep(model, {}, {})
            return
        starts = []
        for index, queue in enumerate(assignment):
            start_s = asked.view.busy_s[index]
            for group in queue:
                starts.append((start_s, group, asked.instance_ids[index]))
                start_s += asked.view.groups[group].work_s
        ranks, instances = {}, {}
        for rank, (_, group, instance_id) in enumerate(sorted(starts)):
            for request_id in asked.request_ids[group]:
                ranks[request_id], instances[request_id] = rank, instance_id
        self._keep(model, ranks, instances)

    def _keep(self, model: str, ranks: dict[str, int], instances: dict[str, str]) -> None:
        self._instances[model] = instances
        if model in self._held.queues:
            self._held.queues[model].plan(ranks)

    def _question(self, model: str, tokens_per_s: float, now_us: int) -> Asked | None:
        lanes, queue = self._fleet.models.get(model), self._held.queues.get(model)
        if lanes is None or not queue or not lanes.ready_count or tokens_per_s <= 0:
            return None
        pace = tokens_per_s / lanes.ready_count
        ready = [index for index, blocked in enumerate(lanes.standing.blocked) if not blocked]
        busy_s = tuple(wait_s(Work(lanes.load_of(index)[1]), pace, z=0.0) for index in ready)
        most = self._grouping.size_max * self._grouping.groups_max
        groups = self._groups(queue.soonest(self._width_us, most))
        view = PlanView(tuple(_group(group, pace, now_us) for group in groups), busy_s)
        ids = tuple(tuple(held.request.request_id for held in group) for group in groups)
        return Asked(view, ids, tuple(lanes.ids[index] for index in ready))

    def _groups(self, soonest: list[Held]) -> list[list[Held]]:
        """Requests that are alike and follow each other, in parts of limited size, first come first."""
        groups: dict[tuple[int, int, str, int], list[Held]] = {}
        counts: dict[tuple[int, int, str], int] = {}
        for held in soonest:
            alike = (held.due_us // self._width_us, int(held.request.slo_class), held.request.application)
            part = counts.get(alike, 0) // self._grouping.size_max
            counts[alike] = counts.get(alike, 0) + 1
            groups.setdefault((*alike, part), []).append(held)
        return list(groups.values())[: self._grouping.groups_max]


def _group(held: list[Held], pace: float, now_us: int) -> Group:
    work = Work(sum(one.mean_tokens for one in held))
    slack_s = (min(one.due_us for one in held) - now_us) / US_PER_S
    return Group(len(held), wait_s(work, pace, z=0.0), slack_s)


def _is_in_danger(view: PlanView) -> bool:
    """Whether the running sum of waits, first deadline first on all instances, exceeds what a group has left."""
    count = len(view.busy_s)
    wait = sum(view.busy_s) / count
    for group in view.groups:
        wait += group.work_s / count
        if wait > group.slack_s:
            return True
    return False
