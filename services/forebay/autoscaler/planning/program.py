"""The program's data, what a plan costs, and the values of its answer."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

UNMET_FACTOR = 1_000.0
"""What a token/s that nobody serves costs, in times of what it costs where serving it is dearest."""
SLACK = 1e-9
"""The share of a need, and the tokens/s, that may be missing by rounding."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the axes stand for."""

    models: tuple[str, ...]
    regions: tuple[str, ...]
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """How many instances x of model i in region j on GPUs of kind k, from n that are there, are cheapest:

        min   sum price * x + sum start * max(x - n, 0)
        s.t.  sum_k x * rate  >= local                  each i, j
              sum_jk x * rate >= total                  each i: what is not local is routed elsewhere
              least <= x <= most,  sum_i gpus * x <= stocks,  x whole

    which is SageServe's program (its summary, section 5; `needs_of` makes `local` and `total`) with bounds and finite
    GPUs. `instances`, `rates` (tokens/s of one), `prices` (of an instance for an hour), `starts` (what one start
    wastes: price times start time), `gpus` (of an instance), `least` and `most` are [i,j,k], `local` is [i,j] and
    `total` [i] in tokens/s, `stocks` [j,k] with inf for no limit. A pool that does not exist has `most` 0. Raises
    ValueError where shapes or bounds contradict each other.
    """

    names: Names
    instances: Ints
    rates: Floats
    local: Floats
    total: Floats
    prices: Floats
    starts: Floats
    gpus: Ints
    stocks: Floats
    least: Ints
    most: Ints

    def __post_init__(self) -> None:
        shape = len(self.names.models), len(self.names.regions), len(self.names.gpus)
        for name in ("instances", "rates", "prices", "starts", "gpus", "least", "most"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be {shape} (models, regions, GPUs), not {getattr(self, name).shape}")
        for name, wanted in (("local", shape[:2]), ("total", shape[:1]), ("stocks", shape[1:])):
            if getattr(self, name).shape != wanted:
                raise ValueError(f"{name} must be {wanted}, not {getattr(self, name).shape}")
        if (self.least > self.most).any() or self.least.min(initial=0) < 0:
            raise ValueError("least must be from 0 to most in every pool")
        if ((self.rates <= 0) & (self.most > 0)).any():
            raise ValueError("every pool needs a rate above 0; give a pool that cannot serve a most of 0")

    @property
    def unmet_prices(self) -> Floats:
        """What a token/s that is not served costs, [i]."""
        dearest = np.where(self.most > 0, (self.prices + self.starts) / np.maximum(self.rates, 1e-300), 0.0)
        price: Floats = UNMET_FACTOR * dearest.max(axis=(1, 2))
        return price

    def part(self, models: Ints, regions: Ints, total: Floats) -> "Program":
        """The program of these models in these regions, with this need of all of them; stocks are whole."""
        at = np.ix_(models, regions, np.arange(len(self.names.gpus)))
        names = Names(_taken(self.names.models, models), _taken(self.names.regions, regions), self.names.gpus)
        cut = {
            name: getattr(self, name)[at]
            for name in ("instances", "rates", "prices", "starts", "gpus", "least", "most")
        }
        local, stocks = self.local[np.ix_(models, regions)], self.stocks[regions]
        return Program(names=names, local=local, total=total, stocks=stocks, **cut)

    def served(self, instances: Ints) -> Floats:
        """Tokens/s that a plan can serve, [i,j]."""
        rates: Floats = (self.rates * instances).sum(axis=2)
        return rates

    def missing(self, instances: Ints) -> tuple[Floats, Floats]:
        """Tokens/s that a plan cannot serve: of each region's own [i,j], and of all regions' [i]."""
        served = self.served(instances)
        return short(self.local, served), short(self.total, served.sum(axis=1))

    def cost(self, instances: Ints) -> float:
        """The objective of a plan, without what is unmet."""
        added = np.maximum(instances - self.instances, 0)
        return float((self.prices * instances + self.starts * added).sum())

    def value(self, instances: Ints) -> float:
        """The objective of a plan, with what is unmet at its price."""
        return self.cost(instances) + self.penalty(instances)

    def penalty(self, instances: Ints) -> float:
        """What is unmet, at its price."""
        local, total = self.missing(instances)
        return float(self.unmet_prices @ (local.sum(axis=1) + total))


@dataclass(frozen=True, slots=True)
class Shortage:
    """Load that no plan serves, or instances that must be there and cannot, and the least that would mend it.

    `region` is empty where it may be served anywhere. More GPUs of this kind in `mend_region`, where `gpu_count` is
    above 0, and a most that is higher by `instance_count`, where that is; `bound_by` says it in words.
    """

    model: str
    region: str
    tokens_per_s: float
    bound_by: str
    gpu: str = ""
    mend_region: str = ""
    gpu_count: int = 0
    instance_count: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A plan; `bound` is what no plan is cheaper than. `method` says how it was found.

    Costs are with what is unmet at its price, so that plans and bounds compare.
    """

    instances: Ints
    cost: float
    bound: float
    method: str
    shortages: tuple[Shortage, ...] = ()

    @property
    def gap(self) -> float:
        """By which share of its cost the plan may be dearer than the best one, at most."""
        return max(0.0, (self.cost - self.bound) / self.cost) if self.cost > 0 else 0.0


def needs_of(demand: Floats, local_share: float) -> tuple[Floats, Floats]:
    """`local` and `total` of tokens/s expected by [window,i,j]: a share of each region's highest window, all of the
    highest sum over regions (SageServe's summary, section 5)."""
    local: Floats = local_share * demand.max(axis=0)
    total: Floats = demand.sum(axis=2).max(axis=0)
    return local, total


def short(need: Floats | np.float64, served: Floats | np.float64) -> Floats:
    """What is missing of a need; what rounding may leave is nothing."""
    missing: Floats = np.where(need - served <= SLACK * np.maximum(need, 1.0), 0.0, need - served)
    return missing


def _taken(names: tuple[str, ...], numbers: Ints) -> tuple[str, ...]:
    return tuple(names[number] for number in numbers.tolist())
