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
        order = np.arange(count)
        steps = np.concatenate((order[count - view.turn_index :], order[: count - view.turn_index]))
        return Route(lowest(view, steps), steps, "turn_steps")
