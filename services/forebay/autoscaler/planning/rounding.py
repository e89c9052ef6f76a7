"""A plan of whole instances from the relaxation's prices, with a bound on what better ones could save."""

import numpy as np

from forebay.autoscaler.planning.cover import Piece, cover
from forebay.autoscaler.planning.exchange import Board, Costs
from forebay.autoscaler.planning.linear import Effort, relaxed, whole
from forebay.autoscaler.planning.program import SLACK, Floats, Ints, Program

EDGE = 1e-7
"""Of an instance: what is nearer to a whole one is one; of a price: what is less is nothing."""
MEND = Effort(gap=0.01, nodes_max=5)
"""How hard HiGHS looks for a plan of one region."""


def rounded(program: Program, effort: Effort = Effort()) -> tuple[Ints, float]:
    """A plan, and what no plan is cheaper than.

    At the relaxation's prices of GPUs and of load that may be served anywhere the regions of all models fall apart, and
    each is solved as a whole by `cover`; what these optima cost together is no more than any plan does (Lagrange), and
    no less than the relaxation. Whole instances that the relaxation gives to others are not taken from them. Then what
    all regions together still need is added, and instances are dropped and exchanged while that is cheaper.
    """
    prices = relaxed(program)
    gpus = prices.gpu_prices[None] * program.gpus
    keep = _cleaned(program.prices + gpus - prices.total_prices[:, None, None] * program.rates, program)
    costs = Costs(keep, np.where(keep == 0, program.starts, keep + program.starts))
    costs = Costs(keep, _cleaned(costs.add, program))
    board = Board(program, np.maximum(program.least, np.floor(prices.instances + EDGE).astype(np.int64)))
    value = float(prices.total_prices @ program.total)
    value -= float((prices.gpu_prices * np.where(np.isfinite(program.stocks), program.stocks, 0.0)).sum())
    for i, j in np.ndindex(board.plan.shape[:2]):
        _, bound = _covered(program, costs, (i, j), program.most[i, j])
        value += bound
        counts, _ = _covered(program, costs, (i, j), board.room(i, j))
        board.put(i, j, counts)
    for i in range(len(board.plan)):
        board.fill(i)
        board.improve(i)
    _mend(board, effort.mends_max)
    return board.plan, max(prices.value, value)


def _mend(board: Board, count: int) -> None:
    """Solves regions that lack something anew, all models of one at once: earlier ones may have what others need."""
    program = board.program
    missing = (program.unmet_prices[:, None] * program.missing(board.plan)[0]).sum(axis=0)
    worst = np.argsort(-missing, kind="stable")[:count]
    for j in worst[missing[worst] > 0].tolist():
        served, at = program.served(board.plan), np.array([j])
        elsewhere = served.sum(axis=1) - served[:, j]
        part = program.part(np.arange(len(served)), at, np.maximum(program.total - elsewhere, 0.0))
        found = whole(part, MEND)
        if found is not None and part.value(found[0]) < part.value(board.plan[:, at]):
            for i, counts in enumerate(found[0][:, 0]):
                board.put(i, j, counts)


def one_by_one(program: Program) -> tuple[Ints, float]:
    """The same where nothing couples the regions of a model nor the models: each region is solved for itself."""
    board, costs = Board(program, program.least.copy()), Costs(program.prices, program.prices + program.starts)
    value = 0.0
    for i, j in np.ndindex(board.plan.shape[:2]):
        counts, bound = _covered(program, costs, (i, j), program.most[i, j])
        board.put(i, j, counts)
        value += bound
    return board.plan, value


def _cleaned(costs: Floats, program: Program) -> Floats:
    clean: Floats = np.where(np.abs(costs) < EDGE * np.maximum(program.prices, SLACK), 0.0, costs)
    return clean


def _covered(program: Program, costs: Costs, at: tuple[int, int], most: Ints) -> tuple[Ints, float]:
    """Counts, and what none are cheaper than: what pays for itself is there anyway, the rest covers what is missing."""
    least, rates, had = program.least[at], program.rates[at], program.instances[at]
    keep, add = costs.keep[at], costs.add[at]
    there = np.clip(had, least, most)
    begin = np.where(add < 0, most, np.where(keep < 0, there, least))
    base = float((keep * begin + (add - keep) * np.maximum(begin - had, 0)).sum())
    need = float(program.local[at] - rates @ begin)
    counts: Ints = begin.copy()
    if need <= SLACK * program.local[at]:
        return counts, base
    pieces, where = [], []
    for k in range(len(most)):
        for cost, count in ((keep[k], there[k] - begin[k]), (add[k], most[k] - max(there[k], begin[k]))):
            if count > 0:
                pieces.append(Piece(float(cost), float(rates[k]), int(count)))
                where.append(k)
    found = cover(pieces, need, float(program.unmet_prices[at[0]]))
    for k, count in zip(where, found.counts, strict=True):
        counts[k] += count
    return counts, base + found.bound
