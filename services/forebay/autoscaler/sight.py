"""What the policy gets to see of the whole fleet: loads, pressure, demands and forecasts put together by pool."""

from collections.abc import Iterable, Mapping

from forebay.autoscaler.config import Config
from forebay.autoscaler.demands import Demands, Key
from forebay.autoscaler.fleet import Fleet
from forebay.autoscaler.life import Life
from forebay.autoscaler.limits import Spans
from forebay.autoscaler.plan import Counts, Plan
from forebay.autoscaler.policy.autoscaler.base import FleetView, ForecastWindow, InstanceView, Needs, PoolView, Stock
from forebay.core.pressure import InstancePressure, Pressure
from forebay.core.values import InstanceLoad, ModelLoad


class Sight:
    """Keeps what was seen and heard last."""

    def __init__(self, config: Config, needs: Needs, fleet: Fleet) -> None:
        self._config = config
        self.needs = needs
        self._fleet = fleet
        self._spans = Spans.of(config)
        self.loads: Mapping[str, InstanceLoad] = {}
        self._pressure = Pressure()
        self._felt_us: int | None = None
        self._instances: Mapping[str, InstancePressure] = {}
        self.demands = Demands()

    def see(self, instances: Iterable[InstanceLoad]) -> None:
        """The servers were looked at."""
        self.loads = {load.instance_id: load for load in instances}

    def feel(self, pressure: Pressure, now_us: int) -> None:
        """The scheduler said what is on its way."""
        self._pressure, self._felt_us = pressure, now_us
        self._instances = {one.instance_id: one for one in pressure.instances}
        self.demands.observe(pressure.demands, now_us)

    def is_deaf(self, now_us: int) -> bool:
        """Whether the scheduler has not been heard of lately."""
        return self._felt_us is None or now_us - self._felt_us > self._spans.snapshot_age_us_max

    def concurrency(self, plan: Plan, rivals: list[Plan], load: ModelLoad, now_us: int) -> float:
        """The requests that one pool is to carry: what is in flight on it, and its part of what is held.

        `rivals` are all pools of the model. Held requests of a region belong to its pools, in equal parts an instance;
        where nobody tells what is where, all of them are divided like that.
        """
        if len(rivals) == 1:
            return float(load.held_count + load.in_flight_count)
        if self.is_deaf(now_us):
            return (load.held_count + load.in_flight_count) * self._share(plan, rivals)
        held = float(sum(self._held(plan, rivals, region) for region in self._regions_of(load.model)))
        return held + sum(self._in_flight(life) for life in self._fleet.of(plan.config.pool_name))

    def fleet_view(
        self,
        pools: tuple[PoolView, ...],
        others: Iterable[Plan],
        forecasts: Mapping[Key, tuple[ForecastWindow, ...]],
        memo: Mapping[str, float],
        now_us: int,
    ) -> FleetView:
        """Everything; `others` are the plans that hold, whose instances are not to be had."""
        held = list(others)
        taken = sum(life.launched for plan in held for life in self._fleet.of(plan.config.pool_name))
        return FleetView(
            now_us=now_us,
            pools=pools,
            demands=self.demands.views(self.needs.history_us, forecasts, now_us),
            waiting=() if self.is_deaf(now_us) else self._pressure.waiting,
            stocks=tuple(self._stock(held)),
            promises=self._config.promises.by_class(),
            instances_max=self._config.instances_max - taken,
            memo=memo,
        )

    def pool_view(self, plan: Plan, counts: Counts, forecast: tuple[ForecastWindow, ...], now_us: int) -> PoolView:
        """One pool."""
        ready = [life for life in self._fleet.of(plan.config.pool_name) if life.ready]
        deaf = self.is_deaf(now_us)
        instances = tuple(
            InstanceView(
                life.instance.instance_id,
                life.state_us,
                self.loads.get(life.instance.instance_id),
                None if deaf else self._instances.get(life.instance.instance_id),
            )
            for life in ready
        )
        return plan.view(counts, instances, forecast, self.needs, now_us)

    def _stock(self, held: list[Plan]) -> Iterable[Stock]:
        for stock in self._config.stocks:
            taken = sum(
                plan.config.hardware[1] * len(self._fleet.of(plan.config.pool_name))
                for plan in held
                if (plan.config.region, plan.config.hardware[0]) == (stock.region, stock.gpu)
            )
            yield Stock(stock.region, stock.gpu, stock.gpu_count - taken)

    def _regions_of(self, model: str) -> set[str]:
        return {group.region for group in self._pressure.waiting if group.model == model}

    def _held(self, plan: Plan, rivals: list[Plan], region: str) -> float:
        near = [one for one in rivals if one.config.region == region] or rivals
        if plan not in near:
            return 0.0
        model = plan.config.name
        count = sum(
            group.request_count
            for group in self._pressure.waiting
            if (group.model, group.region) == (model, region) and not group.is_stored
        )
        return count * self._share(plan, near)

    def _share(self, plan: Plan, rivals: list[Plan]) -> float:
        sizes = [len(self._fleet.of(one.config.pool_name)) for one in rivals]
        return len(self._fleet.of(plan.config.pool_name)) / sum(sizes) if sum(sizes) else 1.0 / len(rivals)

    def _in_flight(self, life: Life) -> float:
        one = self._instances.get(life.instance.instance_id)
        return float(one.interactive_count + one.deferred_count) if one else 0.0
