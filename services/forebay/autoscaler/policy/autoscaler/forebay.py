"""Forebay: work that cannot wait sets the level, work that can wait fills the valleys, and nobody pays for the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

import numpy as np

from forebay.autoscaler.planning.expectation import Expectation, Experience
from forebay.autoscaler.planning.outlook import Traffic, fewest, instances_for, scaled, steady, together
from forebay.autoscaler.planning.pools import Pool, Table, table_of
from forebay.autoscaler.planning.solve import solve
from forebay.autoscaler.policy.autoscaler.base import Choice, FleetChoice, FleetView, Needs, PoolView, Quantiles
from forebay.core.pressure import InstancePressure
from forebay.core.promises import Promise
from forebay.core.units import US_PER_S
from forebay.core.values import SloClass
from forebay.core.water import water_level

US_PER_HOUR = 3_600 * US_PER_S
_NEVER = 1e-9
"""The rate of a pool that nobody knows the rate of: it counts for nothing."""


class Need(NamedTuple):
    """Instances' worth of work, of the first pool's kind: what is expected, what arrives now, and the level."""

    coming: int
    now: int
    level: float


class Outlook(NamedTuple):
    """One model: the pool that work is measured by, needs of its regions (none with one pool) and of all, the mix."""

    measure: PoolView
    local: Mapping[str, Need]
    whole: Need
    mix: Traffic
    known: Experience


@dataclass(frozen=True, slots=True)
class Forebay:
    """The fewest instances whose next one would cost more than the SLOs that it saves.

    For each model, in instances' worth of work (`planning/outlook.py`):
    - *coming*: the forecast of what does not wait, over the next two lead times. One lead, because what is needed then
      must be asked for now; two, because an instance that is needed again within a lead costs more to start than to
      keep. Of the whole distribution, not of a quantile: n is the fewest for which one more is not worth its price,
      with `miss_price` what missing an instance's worth of work costs, in prices of that instance. By how much it is
      off now it is taken to be off then too.
    - *now*: what arrived over `reaction_s`, and what is held, neither of which asks a forecast. As many instances as
      would be full up to `brim` of what is expected of them (the load anticipator's peaks) are a floor.
    - *level*: work that waits and can is poured over the median forecast of all else, until it is done by its
      deadlines with `margin` of the time to spare (`core/water.py`). It asks for an instance only where the level lies
      above the rest.

    The most of the three is wanted. A pool shrinks to the most that was wanted within `keep_leads` lead times, or
    `keep_s_max`: who gives an instance up and needs it again pays for a drain and a start, and for what is missed
    meanwhile.

    Rates are those of an instance that is alone, and instances that share a queue can do more: how full their caches
    get, up to `fill`, tells how much more, down to `fullness_min` of what rates say, as long as 99 of 100 first tokens
    come as promised. Answers are as long as those that ended were, measured by what had been
    predicted. Both are learnt by `learn_weight` a decision.

    Several pools of a model (regions, kinds of GPU) share it by the integer program (`planning/solve.py`): every
    region serves `local_share` of its own, all together serve everything, at the lowest price of instances and starts,
    within stocks; what cannot be had is told with what would mend it.

    Its guard: of ten windows one is above its p90. Where `miss_share_max` of them are, lately, the forecast is not
    used, and `distrust` more than what arrives now is provided for. Where no rates are known it follows the
    concurrency target as Kubernetes does, and says which command measures them.
    """

    window_s: float = 60.0
    window_count: int = 60
    miss_price: float = 20.0
    fill: float = 0.7
    fullness_min: float = 0.5
    brim: float = 0.9
    reaction_s: float = 60.0
    learn_weight: float = 0.05
    margin: float = 0.1
    keep_leads: float = 3.0
    keep_s_max: float = 1_800.0
    patience_s: float = 86_400.0
    local_share: float = 1.0
    miss_share_max: float = 0.35
    miss_weight: float = 0.1
    distrust: float = 0.3

    def __post_init__(self) -> None:
        if min(self.window_s, self.window_count, self.reaction_s, self.patience_s) <= 0:
            raise ValueError("window_s, window_count, reaction_s and patience_s must be positive")
        if min(self.keep_leads, self.keep_s_max) < 0:
            raise ValueError("keep_leads and keep_s_max must not be negative")
        if self.miss_price <= 1:
            raise ValueError("miss_price must be above 1: a miss that costs no more than an instance needs none")
        shares = (self.fill, self.brim, self.fullness_min, self.learn_weight, self.miss_weight)
        if not (all(0 < one <= 1 for one in shares) and 0 <= self.margin < 1 and 0 <= self.local_share <= 1):
            raise ValueError("fill, brim, fullness_min, weights, margin and local_share must be shares")

    @property
    def needs(self) -> Needs:
        """Arrivals and waiting work from the scheduler, and a forecast by region and class."""
        window_us = int(self.window_s * US_PER_S)
        history_us = max(3 * window_us, int(2 * self.reaction_s * US_PER_S))
        keep_us = int(self.keep_s_max * US_PER_S)
        return Needs(history_us, window_us, self.window_count, by_demand=True, recommended_us=keep_us)

    def plan(self, view: FleetView) -> FleetChoice:
        """The plan of every model, and what it lacks."""
        outlooks = {}
        memo: dict[str, float] = {}
        for model in dict.fromkeys(pool.model for pool in view.pools):
            mine = [pool for pool in view.pools if pool.model == model]
            if any(pool.capability.is_known for pool in mine):
                outlooks[model] = self._outlook(view, mine)
                memo.update(outlooks[model].known.memo(model))
        planned = [pool for pool in view.pools if pool.model in outlooks]
        pools, lacking = self._shared(view, planned, outlooks) if planned else ({}, [])
        rest = [pool for pool in view.pools if pool.pool not in pools]
        pools.update({pool.pool: self._by_concurrency(pool) for pool in rest})
        unknown = dict.fromkeys(pool.model for pool in rest)
        lacking += [f"{model}: no rates are known; `forebay profile` measures them" for model in unknown]
        return FleetChoice(pools, memo, tuple(lacking))

    def _outlook(self, view: FleetView, pools: Sequence[PoolView]) -> Outlook:
        first = pools[0]
        measure = next(pool for pool in pools if pool.capability.is_known)
        expected = Expectation.of(view, first.model, int(self.window_s * US_PER_S))
        known = self._known(view, expected, pools, measure)
        near = self._near(expected, pools) if known.miss_share <= self.miss_share_max else ()
        local = {}
        if len(pools) > 1:
            regions = dict.fromkeys(pool.region for pool in pools)
            local = {region: self._need(expected, near, region, measure, known) for region in regions}
        whole = self._need(expected, near, "", measure, known, self._span_us(view))
        return Outlook(measure, local, whole, self._mix(expected, near, known), known)

    def _shared(
        self, view: FleetView, pools: Sequence[PoolView], outlooks: Mapping[str, Outlook]
    ) -> tuple[dict[str, Choice], list[str]]:
        """The cheapest plan with which all pools together serve everything."""
        rates = {pool.pool: _rate(pool, outlooks[pool.model].mix) for pool in pools}
        held = {pool.pool: self._held(pool) for pool in pools}
        local, total = {}, {}
        for model, outlook in outlooks.items():
            unit = _rate(outlook.measure, outlook.mix)
            total[model] = unit * max(outlook.whole.coming, outlook.whole.now, self._whole_level(outlook.whole))
            for region, need in outlook.local.items():
                local[model, region] = self.local_share * unit * max(need.coming, need.now)
        table = self._table(view, pools, rates, held)
        names = table.program.names
        own = [[local.get((model, region), 0.0) for region in names.regions] for model in names.models]
        everywhere = [total[model] for model in names.models]
        solution = solve(replace(table.program, local=np.array(own), total=np.array(everywhere)))
        by_name = {pool.pool: pool for pool in pools}
        choices = {
            name: self._kept(by_name[name], self._choice(count, outlooks[by_name[name].model], held[name]))
            for name, count in table.counts(solution).items()
        }
        return choices, [f"{one.model}: {one.bound_by}" for one in solution.shortages]

    def _table(
        self, view: FleetView, pools: Sequence[PoolView], rates: Mapping[str, float], held: Mapping[str, int]
    ) -> Table:
        """The program's pools. A start costs its lead at the pool's price; a pool of unknown rate keeps its least."""
        rows = []
        for pool in pools:
            price = pool.hour_price
            most = pool.instances_max if rates[pool.pool] > 0 else pool.instances_min
            rows.append(
                Pool(
                    name=pool.pool,
                    model=pool.model,
                    region=pool.region,
                    gpu=pool.gpu,
                    instances=pool.active_count,
                    rate=rates[pool.pool] or _NEVER,
                    price=price,
                    start=price * pool.lead.p50_us / US_PER_HOUR,
                    gpu_count=pool.gpu_count,
                    least=min(most, max(pool.instances_min, held[pool.pool])),
                    most=most,
                )
            )
        return table_of(rows, {}, {(one.region, one.gpu): one.gpu_count for one in view.stocks}, 0.0)

    def _near(self, expected: Expectation, pools: Sequence[PoolView]) -> tuple[int, ...]:
        """The windows of the next two lead times, the first at least."""
        end_us = expected.now_us + 2 * max(pool.lead.p90_us for pool in pools)
        windows = expected.windows
        return tuple(start for start in windows if start < end_us) or windows[:1]

    def _span_us(self, view: FleetView) -> int:
        """How long work of the class that can wait may wait."""
        promise = view.promises.get(SloClass.DEFERRED, Promise())
        return int((promise.e2e_s or self.patience_s) * US_PER_S)

    def _known(
        self, view: FleetView, expected: Expectation, pools: Sequence[PoolView], measure: PoolView
    ) -> Experience:
        """What was learnt until now."""
        first, span_us = pools[0], int(self.reaction_s * US_PER_S)
        known = Experience.of(view.memo, first.model).after(expected, first.forecast, self.miss_weight)
        known = known.of_answers(first.load, expected.predicted_mean(span_us), self.learn_weight)
        full = [self._full(pool) for pool in pools]
        if not all(pool.ready_count == len(_heard(pool)) for pool in pools):
            return known
        work = instances_for(expected.observed("", span_us, known.answer_share), measure.capability)[1]
        promised_s = min((one.ttft_s for one in view.promises.values() if one.ttft_s), default=0.0)
        is_late = bool(promised_s) and first.load.ttft_p99_s > promised_s
        return known.of_instances(sum(full) / self.fill, work, is_late, self.fullness_min, self.learn_weight)

    def _need(
        self,
        expected: Expectation,
        near: Sequence[int],
        region: str,
        pool: PoolView,
        known: Experience,
        span_us: int = 0,
    ) -> Need:
        def work(traffic: Traffic) -> Quantiles:
            p10, p50, p90, p97 = instances_for(traffic, pool.capability)
            part = known.fullness
            return (part * p10, part * p50, part * p90, part * p97)

        observed = expected.observed(region, int(self.reaction_s * US_PER_S), known.answer_share)
        anchor = known.anchor(expected, observed, int(self.reaction_s * US_PER_S)) if not region else 1.0
        forecasts = [scaled(expected.forecast(region, start), anchor) for start in near]
        coming = max((fewest(work(one), self.miss_price) for one in forecasts), default=0)
        seen = work(observed)[1]
        now = fewest((seen * (1.0 if near else 1.0 + self.distrust),) * 4, self.miss_price)
        return Need(coming, now, known.fullness * self._level(expected, pool, span_us) if span_us else 0.0)

    def _level(self, expected: Expectation, pool: PoolView, span_us: int) -> float:
        """Instances' worth of work to which what can wait fills up what the rest leaves."""
        backlog = expected.backlog(span_us)
        if not backlog:
            return 0.0
        later = expected.coming(span_us)
        floors = [
            (start, instances_for(together([expected.forecast("", start), later[start]]), pool.capability)[1])
            for start in expected.windows
        ]
        level = volume = 0.0
        for due in backlog:
            work = instances_for(steady(due.prompt_tokens, due.response_tokens), pool.capability)
            volume += work[1]
            left_us = max(1, round((due.due_us - expected.now_us) * (1 - self.margin)))
            level = max(level, water_level(_spans(floors, expected, left_us), volume))
        return level

    def _whole_level(self, need: Need) -> int:
        """The level in whole instances, by the same price as the rest."""
        return fewest((need.level,) * 4, self.miss_price)

    def _held(self, pool: PoolView) -> int:
        """Instances whose caches hold, up to `brim`, what is expected of those who do not wait."""
        return ceil(self._full(pool) / self.brim - 1e-9)

    def _full(self, pool: PoolView) -> float:
        """How many caches would be full of what is expected of those who do not wait."""
        return sum(
            one.peak_share * one.interactive_count / (one.interactive_count + one.deferred_count)
            for one in _heard(pool)
            if one.interactive_count
        )

    def _kept(self, pool: PoolView, choice: Choice) -> Choice:
        """The same, but no fewer than were wanted within the time that an instance is kept for."""
        since_us = pool.now_us - min(self.keep_leads * pool.lead.p50_us, self.keep_s_max * US_PER_S)
        most = max((int(count) for at_us, count in pool.recommendations if at_us > since_us), default=0)
        kept = min(most, pool.standing_count)
        if kept <= choice.instances_wanted:
            return choice
        reason = f"{kept} were wanted a moment ago and are kept for now; {choice.reason}"
        return replace(choice, instances_wanted=kept, reason=reason)

    def _choice(self, wanted: int, outlook: Outlook, held: int) -> Choice:
        need, known = outlook.whole, outlook.known
        level = self._whole_level(need)
        parts = {
            f"{need.coming} for what is forecast": need.coming,
            f"{need.now} for what arrives and is held": need.now,
            f"{held} for what instances are expected to hold": held,
            f"{need.level:.1f} for work that can wait": level,
        }
        reason = "the most of " + ", ".join(parts)
        if outlook.local:
            reason = f"its part of the cheapest plan for {reason}"
        if known.miss_share > self.miss_share_max:
            reason += f"; the forecast is not used: {known.miss_share:.0%} of windows were above its p90"
        inputs = {
            "coming": float(need.coming),
            "now": float(need.now),
            "held": float(held),
            "level": need.level,
            "miss_share": known.miss_share,
            "fullness": known.fullness,
            "answer_share": known.answer_share,
        }
        (why, most), (_, next_most), *_ = sorted(parts.items(), key=lambda part: -part[1])
        flip = f"{next_most} would do without the {why}" if next_most < most else ""
        return Choice(wanted, wanted, reason, inputs, flip=flip)

    def _mix(self, expected: Expectation, near: Sequence[int], known: Experience) -> Traffic:
        """The mix of lengths by which pools are compared: the largest that is expected."""
        traffics = [expected.forecast("", start) for start in near]
        traffics.append(expected.observed("", int(self.reaction_s * US_PER_S), known.answer_share))
        most = max(traffics, key=lambda one: one.prompt[1] + one.response[1])
        return most if most.prompt[1] + most.response[1] > 0 else steady(1.0, 1.0)

    def _by_concurrency(self, pool: PoolView) -> Choice:
        mean = pool.concurrency_mean(int(self.reaction_s * US_PER_S))
        wanted = ceil(mean / pool.concurrency_target)
        reason = f"{mean:.1f} requests on average, and {pool.concurrency_target:g} are the target; no rates are known"
        return Choice(wanted, wanted, reason, {"concurrency_mean": mean})


def _heard(pool: PoolView) -> list[InstancePressure]:
    return [one.pressure for one in pool.instances if one.pressure is not None]


def _spans(floors: Sequence[tuple[int, float]], expected: Expectation, left_us: int) -> list[tuple[float, float]]:
    """Work that does not wait, by seconds, until the time is over; where no window is, as all of them on average."""
    end_us = expected.now_us + left_us
    spans = [
        (floor, (min(end_us, start + expected.window_us) - start) / US_PER_S)
        for start, floor in floors
        if start < end_us
    ]
    rest_s = left_us / US_PER_S - sum(width for _, width in spans)
    mean = sum(floor for _, floor in floors) / len(floors) if floors else 0.0
    return [*spans, (mean, rest_s)] if rest_s > 0 else spans


def _rate(pool: PoolView, mix: Traffic) -> float:
    """Tokens a second of one instance on this mix; 0 where its rates are not known."""
    work = instances_for(mix, pool.capability)[1]
    return (mix.prompt[1] + mix.response[1]) / work if work else 0.0
