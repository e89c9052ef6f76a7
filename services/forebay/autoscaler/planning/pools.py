"""Makes the program of pools and demands by name, and reads the plan back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forebay.autoscaler.planning.program import Floats, Names, Program, Solution, needs_of


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool as the program takes it; `rate` in tokens/s, `price` of an instance for an hour, `start` of one start.

    `model` names what demands are told for; two pools of one model, region and kind of GPU share no stock in the
    program, each is held to all of it.
    """

    name: str
    model: str
    region: str
    gpu: str
    instances: int
    rate: float
    price: float
    start: float = 0.0
    gpu_count: int = 1
    least: int = 0
    most: int = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A program, and where each pool stands in it."""

    program: Program
    places: Mapping[str, tuple[int, int, int]]

    def counts(self, solution: Solution) -> dict[str, int]:
        """The instances of each pool by its name."""
        return {name: int(solution.instances[place]) for name, place in self.places.items()}


def table_of(
    pools: Sequence[Pool],
    demands: Mapping[tuple[str, str], Sequence[float]],
    stocks: Mapping[tuple[str, str], int],
    local_share: float,
) -> Table:
    """The program of these pools; `demands` are tokens/s by model and region, all for the same windows.

    `stocks` are GPUs by region and kind. What comes from a region where its model has no pool may be served anywhere.
    """
    kinds = _kinds(pools)
    models = tuple(sorted({pool.model for pool in pools}))
    regions = tuple(sorted({pool.region for pool in pools} | {region for model, region in demands if model in models}))
    gpus = tuple(sorted(set(kinds.values())))
    shape = len(models), len(regions), len(gpus)
    places = {
        pool.name: (models.index(pool.model), regions.index(pool.region), gpus.index(kinds[pool.name]))
        for pool in pools
    }
    columns = {name: np.zeros(shape) for name in ("rate", "price", "start", "instances", "gpu_count", "least", "most")}
    for pool in pools:
        for name, values in columns.items():
            values[places[pool.name]] = getattr(pool, name)
    whole = {name: columns[name].astype(np.int64) for name in ("instances", "gpu_count", "least", "most")}
    local, total = needs_of(_demand(demands, models, regions), local_share)
    local[(whole["most"] == 0).all(axis=2)] = 0.0
    kept = {(region, kind): count for (region, gpu), count in stocks.items() for kind in gpus if _gpu(kind) == gpu}
    program = Program(
        names=Names(models, regions, gpus),
        instances=whole["instances"],
        rates=columns["rate"],
        local=local,
        total=total,
        prices=columns["price"],
        starts=columns["start"],
        gpus=whole["gpu_count"],
        stocks=np.array([[kept.get((region, kind), np.inf) for kind in gpus] for region in regions]),
        least=whole["least"],
        most=whole["most"],
    )
    return Table(program, places)


def _kinds(pools: Sequence[Pool]) -> dict[str, str]:
    """The kind of GPU of each pool by its name, numbered where a model has several of one kind in a region."""
    seen: dict[tuple[str, str, str], int] = {}
    kinds = {}
    for pool in pools:
        key = (pool.model, pool.region, pool.gpu)
        seen[key] = seen.get(key, 0) + 1
        kinds[pool.name] = pool.gpu if seen[key] == 1 else f"{pool.gpu} ({seen[key]})"
    return kinds


def _gpu(kind: str) -> str:
    return kind.partition(" (")[0]


def _demand(
    demands: Mapping[tuple[str, str], Sequence[float]], models: tuple[str, ...], regions: tuple[str, ...]
) -> Floats:
    windows = max((len(values) for values in demands.values()), default=1) or 1
    demand = np.zeros((windows, len(models), len(regions)))
    for (model, region), values in demands.items():
        if model in models and len(values):
            demand[:, models.index(model), regions.index(region)] = [*values, *[values[-1]] * (windows - len(values))]
    return demand
