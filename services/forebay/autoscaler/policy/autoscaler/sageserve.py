"""SageServe's long-term scaling: an hourly plan from a forecast, spent at once, by utilisation, or as the gap tells."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from forebay.autoscaler.planning.linear import Effort
from forebay.autoscaler.planning.pools import Pool, table_of
from forebay.autoscaler.planning.solve import solve
from forebay.autoscaler.planning.utilization import utilization
from forebay.autoscaler.policy.autoscaler.base import (
    Arrived,
    Choice,
    DemandView,
    FleetChoice,
    FleetView,
    ForecastWindow,
    Needs,
    PoolView,
)
from forebay.core.units import US_PER_S
from forebay.core.values import InstanceRole, SloClass

STRATEGIES = ("lt_i", "lt_u", "lt_ua")
COUNTS = ("total", "prompt")
QUANTILES = ("p10", "p50", "p90", "p97")
EFFORT = Effort()
HOUR_S = 3_600.0


class Area(NamedTuple):
    """What utilisation and forecasts are told for: the pools of a model in a region that serve the same classes."""

    model: str
    role: InstanceRole
    region: str

    @property
    def served(self) -> str:
        """The model with the role, the unit that the program knows as a model."""
        return f"{self.model}/{self.role.name.lower()}"


@dataclass(frozen=True, slots=True)
class SageServe:
    """Each `period_s` the integer program says how many instances each pool gains or loses; see docs/policies.

    The first plan waits until traffic was seen for a window.

    rho, by model, region and window: the forecast of the interactive classes until the period and `lead_s` are over,
    plus `buffer_share` of the deferred tokens a second of the last hour. theta: a pool's measured rate times
    `headroom`. Strategy `lt_i` applies the plan at once. With `lt_u` it is a budget, spent one instance an area and
    `step_s`: one is added above `out_above` and one removed below `in_below` of the caches. With `lt_ua`, in the last
    `free_s` of the period, traffic of more than `ratio_above` times its forecast allows additions beyond the budget,
    and less than `ratio_below` removals. Defaults are the paper's as summaries report them (summary, sections 4 to 6);
    the published code's values stand beside each on the policy's page. With `free_makes_debt` what is added beyond a
    budget of nothing leaves it at -1, so there is one an hour, which is taken back when the caches empty (the code).
    """

    strategy: str = "lt_ua"
    period_s: float = HOUR_S
    window_s: float = 300.0
    lead_s: float = 600.0
    quantile: str = "p50"
    counts: str = "total"
    buffer_share: float = 0.10
    headroom: float = 1.0
    local_share: float = 1.0
    floor: int = 0
    step_s: float = 60.0
    wait_share: float = 1.0
    out_above: float = 0.70
    in_below: float = 0.30
    removes_at_once: bool = False
    override_above: float = 0.0
    free_s: float = 1_200.0
    ratio_above: float = 5.0
    ratio_below: float = 0.5
    free_needs_utilization: bool = True
    free_makes_debt: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("strategy", self.strategy, STRATEGIES),
            ("counts", self.counts, COUNTS),
            ("quantile", self.quantile, QUANTILES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if min(self.period_s, self.window_s, self.step_s, self.headroom) <= 0:
            raise ValueError("period_s, window_s, step_s and headroom must be positive")
        if not 0 <= self.in_below < self.out_above or not 0 <= self.local_share <= 1:
            raise ValueError("in_below must be from 0 to less than out_above, and local_share from 0 to 1")
        if min(self.lead_s, self.buffer_share, self.floor, self.wait_share, self.free_s) < 0:
            raise ValueError("lead_s, buffer_share, floor, wait_share and free_s must not be negative")

    @property
    def needs(self) -> Needs:
        """An hour of what arrived, and forecasts of each region and class until the plan's end."""
        count = ceil((self.period_s + self.lead_s) / self.window_s)
        return Needs(int(HOUR_S * US_PER_S), int(self.window_s * US_PER_S), count, by_demand=True)

    def plan(self, view: FleetView) -> FleetChoice:
        """The plan anew where a period has begun, then what this step takes of it."""
        memo, warnings = dict(view.memo), tuple[str, ...]()
        now = _Now(self, view)
        period = float(view.now_us // int(self.period_s * US_PER_S))
        is_new = memo.get("period") != period and any(map(self._is_forecast, view.demands))
        if is_new:
            memo = {key: value for key, value in memo.items() if key.startswith("due/")}
            warnings = now.planned(memo)
            memo["period"] = period
        choices: dict[str, Choice] = {}
        for area, pools in now.areas.items():
            choices |= now.step(area, pools, memo, is_new)
        return FleetChoice(choices, memo, warnings)

    def _is_forecast(self, demand: DemandView) -> bool:
        """Whether there is a forecast that rests on more than the first moments."""
        seen_us = demand.arrived[-1].at_us - demand.arrived[0].at_us if demand.arrived else 0
        return bool(demand.forecast) and seen_us >= self.window_s * US_PER_S


@dataclass(frozen=True, slots=True)
class LtI(SageServe):
    """The plan at once."""

    strategy: str = "lt_i"


@dataclass(frozen=True, slots=True)
class LtU(SageServe):
    """The plan as a budget."""

    strategy: str = "lt_u"


@dataclass(frozen=True, slots=True)
class LtUa(SageServe):
    """The plan as a budget, lifted where the forecast was wrong."""

    strategy: str = "lt_ua"


class _Now:
    """One call of the policy: what it sees, put in order."""

    def __init__(self, policy: SageServe, view: FleetView) -> None:
        self.policy = policy
        self.view = view
        self.areas: dict[Area, list[PoolView]] = defaultdict(list)
        for pool in view.pools:
            self.areas[Area(pool.model, pool.role, pool.region)].append(pool)
        self.roles: dict[str, set[InstanceRole]] = defaultdict(set)
        for area in self.areas:
            self.roles[area.model].add(area.role)

    def planned(self, memo: dict[str, float]) -> tuple[str, ...]:
        """Writes the budgets of all pools and the forecasts of all areas into `memo`; returns what cannot be had."""
        policy, view = self.policy, self.view
        rated = [pool for pool in view.pools if self._rate(pool) > 0]
        unknown = tuple(
            f"pool {pool.pool} is not planned: its rate is not known; set its tokens_per_s"
            for pool in view.pools
            if pool not in rated
        )
        if not rated:
            return unknown
        demands = self._demands()
        stocks = {(stock.region, stock.gpu): stock.gpu_count for stock in view.stocks}
        for pool in view.pools:
            if pool not in rated and (pool.region, pool.gpu) in stocks:
                stocks[pool.region, pool.gpu] -= pool.active_count * pool.gpu_count
        table = table_of(list(self._rows(rated)), demands, stocks, policy.local_share)
        solution = solve(table.program, EFFORT)
        counts = table.counts(solution)
        for pool in rated:
            memo[f"budget/{pool.pool}"] = float(counts[pool.pool] - pool.active_count)
            memo[f"plan/{pool.pool}"] = float(counts[pool.pool])
        first = min(demand.forecast[0].start_us for demand in view.demands if demand.forecast)
        for (served, region), rates in demands.items():
            number = first // int(policy.window_s * US_PER_S)
            memo |= {f"forecast/{served}/{region}/{number + window}": rate for window, rate in enumerate(rates)}
        short = (
            f"{one.model} {'in ' + one.region if one.region else 'anywhere'}: {one.tokens_per_s:.0f} tokens/s cannot "
            f"be served; {one.bound_by}"
            for one in solution.shortages
        )
        return (*unknown, *short)

    def step(self, area: Area, pools: Sequence[PoolView], memo: dict[str, float], is_new: bool) -> dict[str, Choice]:
        """What the pools of one area should have now."""
        used, ratio = self._used(pools), self._ratio(area, memo) if self._is_free() else -1.0
        wanted = {pool.pool: pool.instances_wanted for pool in pools}
        text = "no forecast yet, so the first fleet holds"
        if "period" in memo:
            text = f"{used:.0%} of the caches in use" if used >= 0 else "no server tells how full its cache is"
            if is_new:
                self._at_once(pools, wanted, memo)
            if self.policy.strategy != "lt_i" and used >= 0:
                self._move(area, pools, wanted, (used, ratio), memo)
        inputs = {"utilization": used, "observed_to_forecast": ratio}
        return {pool.pool: self._choice(pool, wanted[pool.pool], text, inputs, memo) for pool in pools}

    # The plan

    def _demands(self) -> dict[tuple[str, str], list[float]]:
        """Tokens/s by served model and region, a window each: rho."""
        policy = self.policy
        count = policy.needs.forecast_count
        found: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * count)
        for demand in self.view.demands:
            owner = self._owner(demand)
            if owner is None:
                continue
            if demand.slo_class is SloClass.DEFERRED and owner[1] is not InstanceRole.BATCH:
                rates = [policy.buffer_share * self._tokens(demand.rate(int(HOUR_S * US_PER_S)))] * count
            else:
                rates = self._forecast(demand, count)
            key = (Area(*owner, demand.region).served, demand.region)
            found[key] = [one + more for one, more in zip(found[key], rates, strict=True)]
        return dict(found)

    def _owner(self, demand: DemandView) -> tuple[str, InstanceRole] | None:
        """Whose pools a demand is: those of its class where the model has such, else the mixed ones."""
        special = InstanceRole.BATCH if demand.slo_class is SloClass.DEFERRED else InstanceRole.INTERACTIVE
        roles = self.roles.get(demand.model, set())
        role = next((role for role in (special, InstanceRole.MIXED, InstanceRole.INTERACTIVE) if role in roles), None)
        return None if role is None else (demand.model, role)

    def _forecast(self, demand: DemandView, count: int) -> list[float]:
        """Where nothing is forecast, what arrives now goes on."""
        if not demand.forecast:
            return [self._tokens(demand.rate(int(self.policy.window_s * US_PER_S)))] * count
        rates = [self._expected(window) for window in demand.forecast[:count]]
        return [*rates, *[rates[-1]] * (count - len(rates))]

    def _expected(self, window: ForecastWindow) -> float:
        number = QUANTILES.index(self.policy.quantile)
        tokens = window.prompt_tokens[number]
        if self.policy.counts == "total":
            tokens += window.response_tokens[number]
        return tokens / self.policy.window_s

    def _tokens(self, rate: Arrived) -> float:
        return rate.prompt_tokens + (rate.response_tokens if self.policy.counts == "total" else 0.0)

    def _rate(self, pool: PoolView) -> float:
        known = pool.capability
        rate = known.tokens_per_s if self.policy.counts == "total" else known.prompt_tokens_per_s
        return self.policy.headroom * rate

    def _rows(self, pools: Sequence[PoolView]) -> Iterator[Pool]:
        floors = self._floors(pools)
        for pool in pools:
            price = pool.hour_price
            yield Pool(
                name=pool.pool,
                model=Area(pool.model, pool.role, pool.region).served,
                region=pool.region,
                gpu=pool.gpu,
                instances=pool.active_count,
                rate=self._rate(pool),
                price=price,
                start=price * pool.lead.p50_us / (HOUR_S * US_PER_S),
                gpu_count=pool.gpu_count,
                least=min(pool.instances_max, max(pool.instances_min, floors.get(pool.pool, 0))),
                most=pool.instances_max,
            )

    def _floors(self, pools: Sequence[PoolView]) -> dict[str, int]:
        """The floor of an area is that of its pool which serves most for its price."""
        best: dict[Area, PoolView] = {}
        for pool in pools:
            area = Area(pool.model, pool.role, pool.region)
            if area not in best or self._worth(pool) > self._worth(best[area]):
                best[area] = pool
        return {pool.pool: self.policy.floor for pool in best.values()}

    def _worth(self, pool: PoolView) -> float:
        price = pool.hour_price
        return self._rate(pool) / price if price > 0 else float("inf")

    # The step

    def _at_once(self, pools: Sequence[PoolView], wanted: dict[str, int], memo: dict[str, float]) -> None:
        """What is applied without waiting for utilisation: everything, or the removals."""
        for pool in pools:
            budget = int(memo.get(f"budget/{pool.pool}", 0.0))
            if budget and (self.policy.strategy == "lt_i" or (self.policy.removes_at_once and budget < 0)):
                wanted[pool.pool] = int(memo[f"plan/{pool.pool}"])
                memo[f"budget/{pool.pool}"] = 0.0

    def _move(
        self,
        area: Area,
        pools: Sequence[PoolView],
        wanted: dict[str, int],
        seen: tuple[float, float],
        memo: dict[str, float],
    ) -> None:
        """One instance more or less, where it is time for that and the budget or the gap allows it."""
        due = f"due/{area.served}/{area.region}"
        now_us = self.view.now_us
        if now_us < memo.get(due, 0.0):
            return
        budgets = {pool.pool: int(memo.get(f"budget/{pool.pool}", 0.0)) for pool in pools}
        lacking = any(pool.active_count < wanted[pool.pool] for pool in pools)
        leaving = any(pool.active_count > wanted[pool.pool] for pool in pools)
        change = 0 if lacking else self._gain(list(budgets.values()), *seen)
        change = change or (0 if leaving else self._loss(list(budgets.values()), *seen))
        pool = self._which(pools, budgets, wanted, change)
        if not change or pool is None:
            return
        wanted[pool.pool] += change
        if change * budgets[pool.pool] > 0 or (change > 0 and self.policy.free_makes_debt):
            memo[f"budget/{pool.pool}"] = float(budgets[pool.pool] - change)
        wait_us = self.policy.wait_share * pool.lead.p50_us if change > 0 else 0.0
        memo[due] = now_us + self.policy.step_s * US_PER_S + wait_us

    def _gain(self, budgets: Sequence[int], used: float, ratio: float) -> int:
        policy = self.policy
        full, has_budget = used > policy.out_above, max(budgets) > 0
        allowed = not policy.free_makes_debt or not any(budgets)
        beyond = self._is_free() and ratio > policy.ratio_above and (full or not policy.free_needs_utilization)
        override = 0 < policy.override_above < used
        return int((full and has_budget) or (allowed and (beyond or override)))

    def _loss(self, budgets: Sequence[int], used: float, ratio: float) -> int:
        policy = self.policy
        beyond = self._is_free() and 0 <= ratio < policy.ratio_below
        return -int(used < policy.in_below and (min(budgets) < 0 or beyond))

    def _which(
        self, pools: Sequence[PoolView], budgets: Mapping[str, int], wanted: Mapping[str, int], change: int
    ) -> PoolView | None:
        """The pool with most of the budget left, or else that which serves most (least) for its price."""
        if change > 0:
            growing = [pool for pool in pools if wanted[pool.pool] < pool.instances_max]
            return max(growing, key=lambda one: (max(0, budgets[one.pool]), self._worth(one), one.pool), default=None)
        shrinking = [pool for pool in pools if wanted[pool.pool] > pool.instances_min]
        return min(shrinking, key=lambda one: (min(0, budgets[one.pool]), self._worth(one), one.pool), default=None)

    def _is_free(self) -> bool:
        policy = self.policy
        left_us = int(policy.period_s * US_PER_S) - self.view.now_us % int(policy.period_s * US_PER_S)
        return policy.strategy == "lt_ua" and left_us <= policy.free_s * US_PER_S

    def _used(self, pools: Sequence[PoolView]) -> float:
        """The utilisation of an area; -1 where nobody tells, 1 where somebody waits and nothing is there."""
        if not any(pool.active_count for pool in pools):
            return float(any(pool.concurrency and pool.concurrency[-1][1] > 0 for pool in pools))
        used = utilization((one.load, pool.kv_tokens) for pool in pools for one in pool.instances)
        return -1.0 if used is None else used

    def _ratio(self, area: Area, memo: Mapping[str, float]) -> float:
        """What arrives over what was forecast for this window when the plan was made; -1 where nothing was."""
        window_us = int(self.policy.window_s * US_PER_S)
        expected = memo.get(f"forecast/{area.served}/{area.region}/{self.view.now_us // window_us}", 0.0)
        if expected <= 0:
            return -1.0
        mine = (demand for demand in self.view.demands if demand.region == area.region)
        observed = 0.0
        for demand in mine:
            if self._owner(demand) == (area.model, area.role):
                rate = self._tokens(demand.rate(window_us))
                is_buffered = demand.slo_class is SloClass.DEFERRED and area.role is not InstanceRole.BATCH
                observed += self.policy.buffer_share * rate if is_buffered else rate
        return observed / expected

    def _choice(
        self, pool: PoolView, wanted: int, text: str, inputs: Mapping[str, float], memo: Mapping[str, float]
    ) -> Choice:
        budget = memo.get(f"budget/{pool.pool}", 0.0)
        told = {**inputs, "budget": budget, "planned": memo.get(f"plan/{pool.pool}", -1.0)}
        if "period" in memo:
            text += f"; the plan is {told['planned']:.0f} and {abs(budget):.0f} of it are still to be "
            text += "removed" if budget < 0 else "added"
        flip = f"above {self.policy.out_above:.0%} one is added, below {self.policy.in_below:.0%} removed, if budgeted"
        return Choice(wanted, wanted, text, told, {}, "" if self.policy.strategy == "lt_i" else flip)
