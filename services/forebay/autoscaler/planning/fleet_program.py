"""Makes the integer program of pools: which pool is which cell, and what a plan says for each."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from forebay.autoscaler.planning.program import Names, Program
from forebay.autoscaler.policy.autoscaler.base import PoolView, Stock
from forebay.core.units import US_PER_S

Cell: TypeAlias = tuple[int, int, int]
Region: TypeAlias = tuple[str, str]
"""A model and a region."""

_HOUR_S = 3_600.0
_NEVER = 1e-9
"""The rate of a pool that nobody knows the rate of: it counts for nothing."""


def cells_of(pools: Sequence[PoolView], names: Names) -> Mapping[str, Cell]:
    """The cell of each pool; of pools that are alike in model, region and GPU the first one has it."""
    taken: set[Cell] = set()
    cells: dict[str, Cell] = {}
    for pool in pools:
        cell = (names.models.index(pool.model), names.regions.index(pool.region), names.gpus.index(pool.gpu))
        if cell not in taken:
            cells[pool.pool] = cell
        taken.add(cell)
    return cells


def names_of(pools: Sequence[PoolView]) -> Names:
    """The axes that the pools span, each in the order in which they stand."""
    return Names(
        tuple(dict.fromkeys(pool.model for pool in pools)),
        tuple(dict.fromkeys(pool.region for pool in pools)),
        tuple(dict.fromkeys(pool.gpu for pool in pools)),
    )


def program_of(
    pools: Sequence[PoolView],
    stocks: Sequence[Stock],
    rates: Mapping[str, float],
    floors: Mapping[str, int],
    local: Mapping[Region, float],
    total: Mapping[str, float],
) -> Program:
    """`rates` (tokens/s of an instance) and `floors` are by pool, `local` by model and region, `total` by model.

    A start costs its lead time at the pool's price, and pools whose rate is 0 keep their least.
    """
    names = names_of(pools)
    shape = (len(names.models), len(names.regions), len(names.gpus))
    rate, price, start = np.full(shape, _NEVER), np.zeros(shape), np.zeros(shape)
    instances, gpus = np.zeros(shape, np.int64), np.ones(shape, np.int64)
    least, most = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    cells = cells_of(pools, names)
    for pool in pools:
        cell = cells.get(pool.pool)
        if cell is None:
            continue
        able = rates[pool.pool] > 0
        rate[cell] = rates[pool.pool] if able else _NEVER
        price[cell] = pool.gpu_hour_price * pool.gpu_count
        start[cell] = price[cell] * pool.lead.p50_us / US_PER_S / _HOUR_S
        instances[cell], gpus[cell] = pool.active_count, pool.gpu_count
        most[cell] = pool.instances_max if able else pool.instances_min
        least[cell] = min(most[cell], max(pool.instances_min, floors[pool.pool]))
    limits = np.full(shape[1:], np.inf)
    for stock in stocks:
        if stock.region in names.regions and stock.gpu in names.gpus:
            limits[names.regions.index(stock.region), names.gpus.index(stock.gpu)] = stock.gpu_count
    own = np.array([[local.get((model, region), 0.0) for region in names.regions] for model in names.models])
    everywhere = np.array([total[model] for model in names.models])
    return Program(names, instances, rate, own, everywhere, price, start, gpus, limits, least, most)
