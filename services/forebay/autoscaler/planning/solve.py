"""Finds a plan: part by part, each by the simplest way that is exact or near enough, and says what cannot be had."""

from dataclasses import replace
from math import ceil

import numpy as np

from forebay.autoscaler.planning.exchange import Board
from forebay.autoscaler.planning.linear import Effort, whole
from forebay.autoscaler.planning.program import SLACK, Floats, Ints, Program, Shortage, Solution
from forebay.autoscaler.planning.rounding import one_by_one, rounded

CLOSED, REGIONS, HIGHS, ROUNDED = "closed form", "region by region", "HiGHS", "relaxation, rounded"


def solve(program: Program, effort: Effort = Effort()) -> Solution:
    """The cheapest plan that is found, how far from the best it may be, and what would mend what it lacks.

    Models that share no finite stock are solved one by one. Where the local shares are all that is asked for, regions
    are too, and with one pool in a region `ceil(local / rate)` is the plan. Small rests go to HiGHS, large ones are
    rounded from their relaxation. There always is a plan: load that cannot be served is left at a high price, and
    instances that must be there and do not fit into a stock are left out; `shortages` tell both.
    """
    fitted, shortages = _fitted(program)
    instances: Ints = fitted.least.copy()
    bound, methods = 0.0, dict[str, None]()
    for models in _components(fitted):
        part = fitted.part(models, np.arange(instances.shape[1]), fitted.total[models])
        instances[models], least, method = _solved(part, effort)
        bound += least
        methods[method] = None
    _fill(fitted, instances)
    cost = fitted.value(instances)
    return Solution(instances, cost, min(bound, cost), ", ".join(methods), (*shortages, *_shortages(fitted, instances)))


def _solved(part: Program, effort: Effort) -> tuple[Ints, float, str]:
    growing = np.count_nonzero(part.most > part.least)
    if not growing:
        return part.least, part.value(part.least), CLOSED
    if not np.isfinite(part.stocks).any() and _is_local(part):
        if ((part.most > 0).sum(axis=2) <= 1).all():
            counts = np.ceil(part.local[:, :, None] * (1.0 - SLACK) / np.where(part.most > 0, part.rates, 1.0))
            plan = np.clip(counts.astype(np.int64), part.least, part.most)
            return plan, part.value(plan), CLOSED
        return *one_by_one(part), REGIONS
    if growing <= effort.pools_max:
        found = whole(part, effort)
        if found is not None:
            return *found, HIGHS
    return *rounded(part, effort), ROUNDED


def _fill(program: Program, instances: Ints) -> None:
    """So little may be unmet that its price is below an instance's: it is served all the same where there is room."""
    local, total = program.missing(instances)
    board = Board(program, instances)
    for i in np.flatnonzero(local.any(axis=1) | (total > 0)).tolist():
        board.fill(i)


def _is_local(part: Program) -> bool:
    """Whether regions that serve their own share serve all that is asked for."""
    own = np.minimum(part.local, part.served(part.most)).sum(axis=1)
    return bool((own >= part.total * (1.0 - SLACK)).all())


def _components(program: Program) -> list[Ints]:
    """The models that share a finite stock, together; every other model alone, without stocks that are in its way."""
    shares = ((program.most > 0) & np.isfinite(program.stocks)).any(axis=(1, 2))
    alone = [np.array([i]) for i in np.flatnonzero(~shares).tolist()]
    return [*alone, np.flatnonzero(shares)] if shares.any() else alone


def _fitted(program: Program) -> tuple[Program, list[Shortage]]:
    """The same with endless stocks where all pools at their most fit, and with no more that must be there than fits."""
    enough = (program.gpus * program.most).sum(axis=0) <= program.stocks
    stocks = np.where(enough, np.inf, program.stocks)
    least, found = program.least.copy(), list[Shortage]()
    for j, k in np.argwhere((program.gpus * least).sum(axis=0) > stocks).tolist():
        left = float(stocks[j, k])
        for i in range(len(least)):
            each = max(1, int(program.gpus[i, j, k]))
            wanted, fits = int(least[i, j, k]), int(left // each)
            least[i, j, k] = min(wanted, fits)
            left -= each * int(least[i, j, k])
            if wanted > fits:
                names, lacking = program.names, (wanted - fits) * each
                model, region, gpu = names.models[i], names.regions[j], names.gpus[k]
                text = f"{wanted} instances must be there, but {gpu} in {region} suffice for {fits}"
                found.append(Shortage(model, region, 0.0, text, gpu, region, lacking))
    return replace(program, least=least, stocks=stocks), found


def _shortages(program: Program, instances: Ints) -> list[Shortage]:
    left = program.stocks - (program.gpus * instances).sum(axis=0)
    local, total = program.missing(instances)
    everywhere = np.arange(instances.shape[1])
    found = [
        _shortage(program, instances, left, i, np.array([j]), float(local[i, j]))
        for i, j in np.argwhere(local > 0).tolist()
    ]
    beyond = total - local.sum(axis=1)
    for i in np.flatnonzero(beyond > SLACK * program.total).tolist():
        found.append(_shortage(program, instances, left, i, everywhere, float(beyond[i])))
    return found


def _shortage(program: Program, instances: Ints, left: Floats, i: int, regions: Ints, tokens_per_s: float) -> Shortage:
    """What would serve what is missing at the least price."""
    names = program.names
    region = names.regions[regions[0]] if len(regions) == 1 else ""
    pools = [(j, k) for j in regions.tolist() for k in np.flatnonzero(program.most[i, j] > 0).tolist()]
    if not pools:
        return Shortage(names.models[i], region, tokens_per_s, "it has no pool there that could grow")

    def price(pool: tuple[int, int]) -> float:
        each = float(program.prices[i][pool] + program.starts[i][pool])
        return ceil(tokens_per_s / float(program.rates[i][pool])) * each

    j, k = min(pools, key=price)
    count = ceil(tokens_per_s / float(program.rates[i, j, k]))
    gpu, where = names.gpus[k], names.regions[j]
    spare = max(0.0, float(left[j, k]))
    gpus = 0 if np.isinf(spare) else max(0, count * int(program.gpus[i, j, k]) - int(spare))
    more = max(0, int(instances[i, j, k]) + count - int(program.most[i, j, k]))
    limits = [f"{gpu} in {where} are used up: {gpus} more would do"] if gpus else []
    limits += [f"its pool of {gpu} in {where} is at its most: {more} more would do"] if more else []
    text = "; ".join(limits) or f"{count} more of {gpu} in {where} would do"
    return Shortage(names.models[i], region, tokens_per_s, text, gpu, where, gpus, more)
