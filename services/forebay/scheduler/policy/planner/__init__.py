"""Planner: in which order, and on which instances, groups of held requests go."""

from forebay.scheduler.policy.planner.base import Planner
from forebay.scheduler.policy.planner.none import NoPlan
from forebay.scheduler.policy.planner.qlm import Qlm

PLANNERS: dict[str, type[Planner]] = {
    "none": NoPlan,
    "qlm": Qlm,
}
