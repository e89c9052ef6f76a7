"""Instances that drained away and are lent out as spot ones, until a start in their region takes them back."""

from dataclasses import dataclass, replace

from forebay.core.values import InstanceState
from forebay.simulator.config import Group
from forebay.simulator.results import FleetChange
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.machines import change_of

SPOT = "SPOT"


@dataclass(frozen=True, slots=True)
class Donated:
    """One that is lent out: it has its model's weights, and its GPUs are not for anybody else."""

    instance_id: str
    group: Group
    change: FleetChange


class Donations:
    """The spot pools of all regions, each in the order in which instances came."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lent: list[Donated] = []

    def give(self, instance_id: str, group: Group) -> bool:
        """An instance has drained; whether it is lent out, which its group's own provider may forbid."""
        if not self._context.world.donation.enabled or group.spot:
            return False
        self._context.counters["donations"] += 1
        profile = self._context.machines.profile(group)
        now_us = self._context.now_us
        change = replace(change_of(instance_id, group, profile, InstanceState.STOPPED, now_us), state=SPOT)
        self._context.changes.append(change)
        self._lent.append(Donated(instance_id, group, change))
        return True

    def same(self, group: Group) -> Donated | None:
        """The newest one that has the same weights on the same GPUs in the same region."""
        profile = self._context.machines.profile(group).name
        found = (one for one in self._at(group) if self._context.machines.profile(one.group).name == profile)
        return next((one for one in found if one.group.model == group.model), None)

    def other(self, group: Group) -> Donated | None:
        """The one there for longest of those with as many GPUs of the same kind in the same region."""
        return next(reversed(self._at(group)), None)

    def take(self, donated: Donated) -> None:
        """It is not lent out any more."""
        self._lent.remove(donated)
        end = replace(donated.change, at_us=self._context.now_us, state=InstanceState.STOPPED.name)
        self._context.changes.append(end)

    def make_room(self, group: Group, gpu_count: int) -> None:
        """`gpu_count` GPUs of the group's kind in its region serve or start; what is lent beyond the stock goes."""
        gpu = self._context.machines.profile(group).name.partition("/")[0]
        stocks = self._context.world.stocks
        stock = next((one for one in stocks if (one.region, one.gpu) == (group.region, gpu)), None)
        mine = [one for one in self._lent if (one.change.region, one.change.gpu) == (group.region, gpu)]
        while stock is not None and mine and gpu_count + sum(one.change.gpu_count for one in mine) > stock.gpu_count:
            self.take(mine.pop(0))

    def _at(self, group: Group) -> list[Donated]:
        """Those on GPUs that an instance of the group could have, the newest first."""
        profile = self._context.machines.profile(group)
        hardware = (group.region, profile.name.partition("/")[0], profile.gpu_count)
        found = [one for one in self._lent if (one.change.region, one.change.gpu, one.change.gpu_count) == hardware]
        return found[::-1]
