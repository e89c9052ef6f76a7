"""What a policy of this kind sees, what it answers, and its Protocol."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Protocol, TypeAlias, cast

from forebay.core.pressure import InstancePressure, WaitingGroup
from forebay.core.promises import Promise
from forebay.core.units import US_PER_S
from forebay.core.values import InstanceLoad, InstanceRole, ModelLoad, SloClass

Samples: TypeAlias = tuple[tuple[int, float], ...]
"""Pairs of time in microseconds and value, oldest first."""
Quantiles: TypeAlias = tuple[float, float, float, float]
"""p10, p50, p90 and p97."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a policy wants to see: how far back, and how many forecast windows of which length (0: no forecast).

    `by_demand` asks for the forecasts of each region and class too, and `pressure` says that the policy cannot choose
    without hearing from the scheduler. `recommended_us` is how far back it wants what it recommended, where that is
    further than the rest.
    """

    history_us: int = 0
    forecast_window_us: int = 0
    forecast_count: int = 0
    by_demand: bool = False
    pressure: bool = False
    recommended_us: int = 0


@dataclass(frozen=True, slots=True)
class ForecastWindow:
    """Traffic expected in the window that starts at `start_us`."""

    start_us: int
    requests: Quantiles
    prompt_tokens: Quantiles
    response_tokens: Quantiles

    def times(self, factor: float) -> "ForecastWindow":
        """The same part of everything."""
        scaled = (tuple(value * factor for value in one) for one in self._series)
        return ForecastWindow(self.start_us, *cast("tuple[Quantiles, ...]", tuple(scaled)))

    def plus(self, other: "ForecastWindow") -> "ForecastWindow":
        """Both together."""
        series = zip(self._series, other._series, strict=True)
        summed = (tuple(a + b for a, b in zip(mine, theirs, strict=True)) for mine, theirs in series)
        return ForecastWindow(self.start_us, *cast("tuple[Quantiles, ...]", tuple(summed)))

    @property
    def _series(self) -> tuple[Quantiles, Quantiles, Quantiles]:
        return (self.requests, self.prompt_tokens, self.response_tokens)


@dataclass(frozen=True, slots=True)
class Capability:
    """The highest rates of one instance at which its SLO still holds, in tokens a second; 0: not known.

    Prompt, response and total tokens are profiled apart (PreServe, Algorithm 1).
    """

    prompt_tokens_per_s: float = 0.0
    response_tokens_per_s: float = 0.0
    tokens_per_s: float = 0.0

    @property
    def is_known(self) -> bool:
        """Whether all three are."""
        return min(self.prompt_tokens_per_s, self.response_tokens_per_s, self.tokens_per_s) > 0

    def instances_for(self, prompt_tokens_per_s: float, response_tokens_per_s: float) -> float:
        """How many instances these rates fill: the most that any of the three asks for. Only where it is known."""
        return max(
            prompt_tokens_per_s / self.prompt_tokens_per_s,
            response_tokens_per_s / self.response_tokens_per_s,
            (prompt_tokens_per_s + response_tokens_per_s) / self.tokens_per_s,
        )


@dataclass(frozen=True, slots=True)
class Lead:
    """How long a start takes from the decision until requests are taken: the median and the 90th percentile."""

    p50_us: int = 0
    p90_us: int = 0


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One ready instance: what its server tells (`load`), and what the scheduler anticipates; None: not heard of."""

    instance_id: str
    ready_us: int
    load: InstanceLoad | None = None
    pressure: InstancePressure | None = None


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool, instances of one model that are alike, as the engine knows it.

    `concurrency` holds requests held and in flight over the last `Needs.history_us`, never empty where that is
    positive; `recommendations` what the policy recommended over the same span, or `Needs.recommended_us`;
    `concurrency_target` is in requests an instance. `memo` is what the policy returned last time. `forecast` is that of
    the model, of all regions and classes, and empty when the policy asks for none or the predictor does not answer.
    `profile` is GPU/MODEL/tpN or empty.
    """

    model: str
    now_us: int
    ready_count: int
    starting_count: int
    draining_count: int
    instances_wanted: int
    instances_min: int
    instances_max: int
    instances_initial: int
    concurrency_target: float
    load: ModelLoad
    concurrency: Samples
    recommendations: Samples = ()
    forecast: tuple[ForecastWindow, ...] = ()
    memo: Mapping[str, float] = field(default_factory=dict)
    pool: str = ""
    region: str = "local"
    role: InstanceRole = InstanceRole.MIXED
    gpu: str = ""
    gpu_count: int = 1
    gpu_hour_price: float = 1.0
    profile: str = ""
    kv_tokens: int = 0
    capability: Capability = Capability()
    lead: Lead = Lead()
    instances: tuple[InstanceView, ...] = ()

    @property
    def active_count(self) -> int:
        """Ready and starting."""
        return self.ready_count + self.starting_count

    @property
    def hour_price(self) -> float:
        """What one instance costs an hour."""
        return self.gpu_hour_price * self.gpu_count

    @property
    def price_rank(self) -> tuple[float, str]:
        """By which pools stand from the cheapest to the dearest, always in one order."""
        return (self.hour_price, self.pool)

    @property
    def standing_count(self) -> int:
        """What a step up or down begins from: a shrink that a limit has put off is not yet to be counted on."""
        return max(self.instances_wanted, self.active_count)

    def bounded(self, count: int) -> int:
        """The same within the bounds: a step that cannot be taken is not wished for at every look anew."""
        return min(max(count, self.instances_min), self.instances_max)

    def concurrency_mean(self, window_us: int) -> float:
        """Mean of the samples of the last `window_us`, that of the newest sample when none is so young."""
        young = [value for at_us, value in self.concurrency if at_us > self.now_us - window_us]
        return sum(young) / len(young) if young else self.concurrency[-1][1]


@dataclass(frozen=True, slots=True)
class Arrived:
    """Totals of what had arrived at one time: requests, prompt tokens, and response tokens as predicted."""

    at_us: int
    request_count: float
    prompt_tokens: float
    response_tokens: float


@dataclass(frozen=True, slots=True)
class DemandView:
    """The traffic of one model, region and class: what arrived in the last `Needs.history_us`, and what is forecast."""

    model: str
    region: str
    slo_class: SloClass
    arrived: tuple[Arrived, ...] = ()
    forecast: tuple[ForecastWindow, ...] = ()

    def rate(self, window_us: int) -> Arrived:
        """What arrived a second over the last `window_us` (or as long as is known); zeros where nothing is."""
        if len(self.arrived) < 2:
            return Arrived(0, 0.0, 0.0, 0.0)
        last = self.arrived[-1]
        # Searched by halves: an hour of samples is asked for at every tick.
        index = bisect_left(self.arrived, last.at_us - window_us, key=lambda one: one.at_us)
        first = self.arrived[min(index, len(self.arrived) - 2)]
        seconds = (last.at_us - first.at_us) / US_PER_S
        return Arrived(
            last.at_us,
            (last.request_count - first.request_count) / seconds,
            (last.prompt_tokens - first.prompt_tokens) / seconds,
            (last.response_tokens - first.response_tokens) / seconds,
        )


@dataclass(frozen=True, slots=True)
class Stock:
    """GPUs of one kind in one region that this fleet may have in all."""

    region: str
    gpu: str
    gpu_count: int


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything at one time. Pools without a fresh sample are left out, and their plans hold.

    `stocks` already lacks what such pools have; where no stock names a kind of GPU in a region, it is not limited.
    `instances_max` is the budget of all pools of this view together.
    """

    now_us: int
    pools: tuple[PoolView, ...]
    demands: tuple[DemandView, ...] = ()
    waiting: tuple[WaitingGroup, ...] = ()
    stocks: tuple[Stock, ...] = ()
    promises: Mapping[SloClass, Promise] = field(default_factory=dict)
    instances_max: int = 1_000_000
    memo: Mapping[str, float] = field(default_factory=dict)

    def rivals(self, pool: PoolView) -> tuple[PoolView, ...]:
        """All pools of its model, itself among them."""
        return tuple(one for one in self.pools if one.model == pool.model)

    def homes(self, demand: DemandView) -> tuple[PoolView, ...]:
        """The pools that serve a demand: of its model, of a role for its class, in its region where there are such."""
        fitting = [one for one in self.pools if one.model == demand.model and serves(one.role, demand.slo_class)]
        fitting = fitting or [one for one in self.pools if one.model == demand.model]
        return tuple([one for one in fitting if one.region == demand.region] or fitting)

    def share(self, pool: PoolView, demand: DemandView) -> float:
        """The part of a demand that a pool serves: as large as it is, by instances and what each can do."""
        homes = self.homes(demand)
        if pool not in homes:
            return 0.0
        return _size(pool) / sum(map(_size, homes))

    def forecast_of(self, pool: PoolView) -> tuple[ForecastWindow, ...]:
        """What is expected to come to one pool; empty where nobody knows.

        That of the model for its only pool. Of several, each gets its shares of the demands' forecasts, quantiles added
        up as if they came together, and where there are none its part of the model's forecast.
        """
        rivals = self.rivals(pool)
        if len(rivals) == 1:
            return pool.forecast
        known = [demand for demand in self.demands if demand.model == pool.model and demand.forecast]
        if not known:
            part = _size(pool) / sum(map(_size, rivals))
            return tuple(window.times(part) for window in pool.forecast)
        parts = [[window.times(self.share(pool, demand)) for window in demand.forecast] for demand in known]
        return tuple(reduce(ForecastWindow.plus, windows) for windows in zip(*parts, strict=False))


def serves(role: InstanceRole, slo_class: SloClass) -> bool:
    """Whether instances of a role are there for a class."""
    if role is InstanceRole.MIXED:
        return True
    return (role is InstanceRole.BATCH) == (slo_class is SloClass.DEFERRED)


def _size(pool: PoolView) -> float:
    return max(1, pool.instances_wanted) * (pool.capability.tokens_per_s or 1.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """How many instances the policy wants in a pool before any limit, and why.

    `recommended` is remembered and comes back in `PoolView.recommendations`; `memo` comes back as it is. `inputs` are
    what was seen and computed, by name, and `reason` is one sentence for a reader; `flip` says in one sentence what
    would change the choice.
    """

    instances_wanted: int
    recommended: int
    reason: str
    inputs: Mapping[str, float] = field(default_factory=dict)
    memo: Mapping[str, float] = field(default_factory=dict)
    flip: str = ""


@dataclass(frozen=True, slots=True)
class FleetChoice:
    """The choice for each pool by its name; a pool that is missing keeps its plan.

    `memo` comes back as it is. `warnings` are for the operator: what cannot be had, and what would mend it.
    """

    pools: Mapping[str, Choice]
    memo: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def kept(pool: PoolView, reason: str) -> Choice:
    """What is there stays, with what is remembered of it: the policy does not know enough to choose."""
    return Choice(pool.instances_wanted, pool.instances_wanted, reason, memo=pool.memo)


def not_profiled(pool: PoolView) -> str:
    """The warning about a pool whose capability a policy needs and nobody measured."""
    return f"nobody measured what an instance of pool {pool.pool} can do: run `forebay profile` and set its rates"


class Autoscaler(Protocol):
    """Chooses how many instances each pool should have; the engine holds the answer to bounds, budget and steps."""

    @property
    def needs(self) -> Needs:
        """What the policy wants to see; the same for ever."""
        ...

    def plan(self, view: FleetView) -> FleetChoice:
        """The wanted numbers of instances; the same view gives the same choice."""
        ...


class PerPool:
    """Half of a policy that looks at one pool at a time: it says `choose`, and this makes a plan of it."""

    __slots__ = ()

    def choose(self, view: PoolView) -> Choice:
        """The wanted number of instances of one pool."""
        raise NotImplementedError

    def plan(self, view: FleetView) -> FleetChoice:
        """The choices of all pools."""
        return FleetChoice({pool.pool: self.choose(pool) for pool in view.pools})
