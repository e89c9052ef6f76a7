import asyncio

from forebay.scheduler.actions import Plan
from forebay.scheduler.planning import Planning
from forebay.scheduler.policy.planner.base import Assignment, Group, Grouping, PlanView
from forebay.scheduler.policy.planner.qlm import Qlm

VIEW = PlanView((Group(3, 2.0, 5.0),), (0.0, 9.0))


class Fails:
    """A planner that is broken."""

    grouping = Grouping()

    def plan(self, view: PlanView) -> Assignment:
        raise RuntimeError("no solver")


async def answer_of(planning: Planning) -> Assignment | None:
    answered: asyncio.Future[Assignment | None] = asyncio.get_running_loop().create_future()
    planning.solve(Plan("m", VIEW), answered.set_result)
    assert not answered.done()
    return await answered


async def test_a_plan_is_made_aside() -> None:
    assert await answer_of(Planning(Qlm())) == ((0,), ())


async def test_a_planner_that_fails_has_no_plan() -> None:
    assert await answer_of(Planning(Fails())) is None
