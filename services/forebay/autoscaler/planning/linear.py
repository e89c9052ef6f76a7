"""The program as a sparse matrix without binaries, relaxed or whole, solved by HiGHS."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from forebay.autoscaler.planning.program import Floats, Ints, Program


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to look: the share of a plan's cost that HiGHS may leave open, and the most relaxations it looks at.

    `seconds_max` is a net below that, well within the quarter of a lease that a leader has to spare: where it
    catches, the same program may give another plan. Components of at most `pools_max` pools are solved whole,
    larger ones by rounding; of the regions in which that leaves something unmet, the `mends_max` worst are solved
    anew.
    """

    gap: float = 1e-3
    nodes_max: int = 2_000
    seconds_max: float = 1.0
    pools_max: int = 64
    mends_max: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class Relaxed:
    """The relaxation's optimum: instances that need not be whole, its value, and what more of each right side costs.

    `total_prices` [i] are of a token/s of all regions together, `gpu_prices` [j,k] of a GPU.
    """

    instances: Floats
    value: float
    total_prices: Floats
    gpu_prices: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Matrix:
    """Columns: instances that stay, instances that are new, what is unmet of each region's own and of all regions'.

    A pool's instances cost their price as far as they are there already, and their start on top beyond that. Costs
    that grow need no binary to be in order, and no row either: whoever is cheaper is taken first.
    """

    costs: Floats
    most: Floats
    cover: Any
    need: Floats
    stock: Any
    stock_left: Floats
    base: float
    pools: tuple[Ints, ...]


def relaxed(program: Program) -> Relaxed:
    """The optimum where instances need not be whole: nothing whole is cheaper."""
    from scipy import sparse
    from scipy.optimize import linprog

    matrix = _matrix(program)
    rows = sparse.vstack([-matrix.cover, matrix.stock]).tocsr()
    right = np.concatenate((-matrix.need, matrix.stock_left))
    bounds = np.stack((np.zeros(len(matrix.costs)), matrix.most), axis=1)
    found: Any = linprog(matrix.costs, A_ub=rows, b_ub=right, bounds=bounds, method="highs-ds")
    assert found.x is not None, "what cannot be met is unmet, so there always is a plan"
    models, regions, gpus = program.instances.shape
    marginals = -np.asarray(found.ineqlin.marginals)
    first = models * regions
    finite = np.isfinite(program.stocks)
    gpu_prices = np.zeros((regions, gpus))
    gpu_prices[finite] = np.maximum(marginals[first + models :], 0.0)
    return Relaxed(
        _instances(program, matrix, found.x),
        float(found.fun) + matrix.base,
        np.maximum(marginals[first : first + models], 0.0),
        gpu_prices,
    )


def whole(program: Program, effort: Effort) -> tuple[Ints, float] | None:
    """HiGHS' best plan and its bound; None where it found none within the effort."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    matrix = _matrix(program)
    is_whole = np.concatenate((np.ones(2 * len(matrix.pools[0])), np.zeros(len(matrix.need))))
    limits = [LinearConstraint(matrix.cover, matrix.need, np.inf)]
    if matrix.stock.shape[0]:
        limits.append(LinearConstraint(matrix.stock, -np.inf, matrix.stock_left))
    found: Any = milp(
        matrix.costs,
        integrality=is_whole,
        bounds=Bounds(0.0, matrix.most),
        constraints=limits,
        options={"mip_rel_gap": effort.gap, "node_limit": effort.nodes_max, "time_limit": effort.seconds_max},
    )
    if found.x is None:
        return None
    instances = np.rint(_instances(program, matrix, found.x)).astype(np.int64)
    bound = found.fun if found.mip_dual_bound is None else found.mip_dual_bound
    return instances, float(bound) + matrix.base


def _matrix(program: Program) -> _Matrix:
    from scipy import sparse

    models, regions, gpus = program.instances.shape
    i, j, k = pools = np.nonzero(program.most > program.least)
    count = len(i)
    there = np.clip(program.instances, program.least, program.most)
    rates, number = program.rates[pools], np.arange(count)
    local = sparse.csr_matrix((rates, (i * regions + j, number)), (models * regions, count))
    total = sparse.csr_matrix((rates, (i, number)), (models, count))
    served = sparse.vstack([local, total])
    stock = sparse.csr_matrix((program.gpus[pools].astype(float), (j * gpus + k, number)), (regions * gpus, count))
    stock = stock[np.flatnonzero(np.isfinite(program.stocks).ravel())]
    least_served = program.served(program.least)
    need = np.concatenate(((program.local - least_served).ravel(), program.total - least_served.sum(axis=1)))
    left = program.stocks - (program.gpus * program.least).sum(axis=0)
    unmet = program.unmet_prices
    return _Matrix(
        costs=np.concatenate(
            (
                program.prices[pools],
                (program.prices + program.starts)[pools],
                np.repeat(unmet, regions),
                unmet,
            )
        ),
        most=np.concatenate(
            ((there - program.least)[pools], (program.most - there)[pools], np.full(len(need), np.inf))
        ),
        cover=sparse.hstack([served, served, sparse.eye(len(need))]).tocsr(),
        need=need,
        stock=sparse.hstack([stock, stock, sparse.csr_matrix((stock.shape[0], len(need)))]).tocsr(),
        stock_left=left[np.isfinite(left)],
        base=program.cost(program.least),
        pools=pools,
    )


def _instances(program: Program, matrix: _Matrix, found: Floats) -> Floats:
    count = len(matrix.pools[0])
    instances = program.least.astype(np.float64)
    instances[matrix.pools] += found[:count] + found[count : 2 * count]
    return instances
