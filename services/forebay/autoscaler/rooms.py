"""Measures the room of each pool: what budget, stock, servers, steps, dwell and load leave of it now."""

from collections.abc import Callable, Mapping

from forebay.autoscaler.config import Config, ModelConfig, StockConfig
from forebay.autoscaler.fleet import Fleet
from forebay.autoscaler.limits import Spans
from forebay.autoscaler.placement import free_servers
from forebay.autoscaler.plan import Counts, Plan
from forebay.autoscaler.room import UNLIMITED, Room, spare
from forebay.autoscaler.sight import Sight

FUTILE_COUNT = 3
"""After so many failures in a row nobody else gives up an instance for the next start."""


class Rooms:
    """Knows the whole fleet, so that no pool takes what another has; a pool in trouble takes nothing from another."""

    def __init__(self, config: Config, fleet: Fleet, plans: Mapping[str, Plan], sight: Sight) -> None:
        self._config = config
        self._fleet = fleet
        self._plans = plans
        self._sight = sight
        self._spans = Spans.of(config)

    def of(self, plan: Plan, counts: Counts, now_us: int) -> Room:
        """The room of one pool."""
        model, step_max = plan.config, self._config.step_instances_max
        started, retired = plan.steps(now_us - self._spans.tick_us)
        return Room(
            active=counts.active,
            total=counts.total,
            bounds=plan.bounds,
            budget_left=self._config.instances_max - self._used(),
            slots_left=len(free_servers(model, self._config, self._fleet)) if model.servers else UNLIMITED,
            stock_left=self._stock_left(model),
            start_max=step_max - started,
            drain_max=step_max - retired,
            step_max=step_max,
            waiting=now_us < plan.retry_us,
            floor=int(self._is_needed(plan, now_us)),
            spare=counts.starting + self._spare(plan, now_us),
            dwelling=plan.is_dwelling(self._spans, now_us),
        )

    def _used(self) -> int:
        """What counts towards the budget: all that was launched, and what others are told to have or have already."""
        pulled = sum(self._had(plan) for plan in self._plans.values() if plan.config.is_pulled)
        return sum(life.launched for life in self._fleet) + pulled

    def _had(self, plan: Plan) -> int:
        """How many instances a pool has, or may be about to have."""
        lives = self._fleet.of(plan.config.pool_name)
        if not plan.config.is_pulled:
            return sum(life.launched for life in lives)
        return max(plan.told or 0, sum(not life.launched for life in lives))

    def least(self, plan: Plan, now_us: int) -> int:
        """The fewest active instances that a pool must have now: by its bounds, and one where requests wait for it."""
        return max(plan.bounds.instances_min, int(self._is_needed(plan, now_us)))

    def giver(self, plan: Plan, counts: Callable[[str], Counts], now_us: int) -> Plan | None:
        """The pool that gives up an instance so that `plan` gets what it must have; None where that does not help.

        It has most above its own least, and keeps one while requests run on it; what others start is not ours to give.
        Nobody gives while something leaves anyway, nor for a pool whose starts fail again and again.
        """
        there = counts(plan.config.pool_name)
        if there.active >= self.least(plan, now_us) or plan.failure_count > FUTILE_COUNT:
            return None
        room = self.of(plan, there, now_us)
        if min(room.budget_left, room.stock_left) > 0 or room.waiting or room.total >= room.bounds.instances_max:
            return None
        rivals = [
            one
            for one in self._plans.values()
            if one is not plan and not one.config.is_pulled and (room.budget_left <= 0 or _alike(one, plan))
        ]
        if any(life.leaving for one in rivals for life in self._fleet.of(one.config.pool_name)):
            return None

        def surplus(one: Plan) -> int:
            in_use = int(one.load.in_flight_count > 0)
            return counts(one.config.pool_name).active - max(in_use, self.least(one, now_us))

        best = max(rivals, key=surplus, default=None)
        return best if best is not None and surplus(best) > 0 else None

    def _spare(self, plan: Plan, now_us: int) -> int:
        lives, fresh_us = self._fleet.of(plan.config.pool_name), now_us - self._spans.snapshot_age_us_max
        return spare(lives, self._sight.loads, fresh_us, self._config.survivors_load_max)

    def _is_needed(self, plan: Plan, now_us: int) -> bool:
        """Whether requests wait for the model, and this is the pool that is to have an instance for them.

        It is the one with the most instances; of those that have none, the first that may have one and whose next
        start need not wait.
        """
        if not plan.has_waiting(self._spans, now_us):
            return False
        rivals = [one for one in self._plans.values() if one.config.name == plan.config.name]

        def rank(one: Plan) -> tuple[int, bool]:
            lives = self._fleet.of(one.config.pool_name)
            able = one.bounds.instances_max > 0 and now_us >= one.retry_us and self._stock_left(one.config) > 0
            return (max(one.told or 0, sum(life.starting or life.ready for life in lives)), able)

        return max(rivals, key=rank) is plan

    def _stock_left(self, model: ModelConfig) -> int:
        """How many instances the GPUs of its kind in its region suffice for, beside all that is there."""
        gpu, gpu_count = model.hardware
        stock = next((one for one in self._config.stocks if (one.region, one.gpu) == (model.region, gpu)), None)
        return UNLIMITED if stock is None else (stock.gpu_count - self._taken(stock)) // gpu_count

    def _taken(self, stock: StockConfig) -> int:
        plans = (plan for plan in self._plans.values() if plan.config.region == stock.region)
        return sum(plan.config.hardware[1] * self._had(plan) for plan in plans if plan.config.hardware[0] == stock.gpu)


def _alike(one: Plan, other: Plan) -> bool:
    """Whether two pools take the same GPUs of the same region."""
    return (one.config.region, one.config.hardware[0]) == (other.config.region, other.config.hardware[0])
