"""Each eligible instance in turn."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.router.base import Route, RouteView, lowest


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Goes on after the instance that the model's last request got, in the order of ids."""

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its steps from the turn."""
        count = len(view.instance_ids)
        steps = (np.arange(count, dtype=np.int32) - view.turn_index) % count
        return Route(lowest(steps, view.eligible), steps, "turn_steps")
