"""Small programs, and all their plans looked at one by one."""

import numpy as np
from hypothesis import strategies as st

from forebay.autoscaler.planning.program import Floats, Ints, Names, Program


def program(
    local: object,
    total: object = 0.0,
    *,
    rates: object = 10.0,
    prices: object = 1.0,
    starts: object = 0.1,
    instances: object = 0,
    most: object = 100,
    least: object = 0,
    gpus: object = 1,
    stocks: object = np.inf,
    kinds: int = 1,
) -> Program:
    """A program from what differs; all else is broadcast to models, regions and kinds of GPUs."""
    need = np.atleast_2d(np.asarray(local, dtype=float))
    shape = (*need.shape, kinds)
    models, regions = shape[:2]

    def floats(value: object) -> Floats:
        return np.broadcast_to(np.asarray(value, dtype=float), shape).copy()

    def ints(value: object) -> Ints:
        return np.broadcast_to(np.asarray(value, dtype=np.int64), shape).copy()

    return Program(
        Names(
            tuple(f"m{i}" for i in range(models)),
            tuple(f"r{j}" for j in range(regions)),
            tuple(f"g{k}" for k in range(kinds)),
        ),
        ints(instances),
        floats(rates),
        need,
        np.broadcast_to(np.asarray(total, dtype=float), (models,)).copy(),
        floats(prices),
        floats(starts),
        ints(gpus),
        np.broadcast_to(np.asarray(stocks, dtype=float), shape[1:]).copy(),
        ints(least),
        ints(most),
    )


def best_value(of: Program) -> float:
    """The least value of all plans within bounds and stocks."""
    shape = of.instances.shape
    axes = [np.arange(low, high + 1) for low, high in zip(of.least.ravel(), of.most.ravel(), strict=True)]
    plans = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1).reshape(-1, *shape)
    fits = ((of.gpus * plans).sum(axis=1) <= of.stocks).all(axis=(1, 2))
    plans = plans[fits]
    served = (of.rates * plans).sum(axis=3)
    local, total = np.maximum(of.local - served, 0.0), np.maximum(of.total - served.sum(axis=2), 0.0)
    costs = (of.prices * plans + of.starts * np.maximum(plans - of.instances, 0)).sum(axis=(1, 2, 3))
    return float((costs + (local.sum(axis=2) + total) @ of.unmet_prices).min())


@st.composite
def programs(draw: st.DrawFn, with_stocks: bool = True, most: int = 3) -> Program:
    """At most two models, two regions and two kinds of GPUs, with whole figures."""
    models, regions, kinds = (draw(st.integers(1, 2)) for _ in range(3))
    shape = models, regions, kinds

    def drawn(low: int, high: int, size: tuple[int, ...] = shape) -> Ints:
        count = int(np.prod(size))
        values = draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
        return np.array(values, dtype=np.int64).reshape(size)

    highest = drawn(0, most)
    stocks = drawn(0, 8, shape[1:]).astype(float) if with_stocks else np.full(shape[1:], np.inf)
    return program(
        drawn(0, 25, shape[:2]),
        drawn(0, 50, shape[:1]),
        rates=drawn(3, 12),
        prices=drawn(1, 9),
        starts=drawn(0, 4) / 4,
        instances=drawn(0, 4),
        most=highest,
        gpus=drawn(1, 2),
        stocks=stocks,
        kinds=kinds,
    )
