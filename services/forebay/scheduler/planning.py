"""Asks the planner aside, so that no decision waits for a plan."""

import asyncio
import logging
from collections.abc import Callable

from forebay.scheduler.actions import Plan
from forebay.scheduler.policy.planner.base import Assignment, Planner

log = logging.getLogger(__name__)


class Planning:
    """One planner in a thread of its own; a plan that fails is none, and the deadlines decide."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._tasks: set[asyncio.Task[None]] = set()

    def solve(self, asked: Plan, reply: Callable[[Assignment | None], None]) -> None:
        """Calls `reply` once, later."""
        task = asyncio.create_task(self._solve(asked, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _solve(self, asked: Plan, reply: Callable[[Assignment | None], None]) -> None:
        assignment = None
        try:
            assignment = await asyncio.to_thread(self._planner.plan, asked.view)
        except Exception as error:
            log.warning("no plan", extra={"fields": {"model": asked.model, "error": repr(error)}})
        reply(assignment)
