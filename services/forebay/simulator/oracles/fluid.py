"""The least time that engines can need for a set of requests: a bound that no scheduler and no autoscaler beats."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from forebay.core.instance import EngineProfile
from forebay.core.instance.profile import PAIR_SHIFT
from forebay.core.units import PS_PER_S
from forebay.simulator.oracles.forecast import served_tokens
from forebay.simulator.workload.base import Ints, Workload

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What requests ask of an engine, one entry a request or a set of them.

    `prompt_tokens` to be computed with `double_pairs` (twice the pairs of a token and one before it, and the tokens),
    and `decodes`, iterations of one sequence, that read `context_tokens` in all.
    """

    prompt_tokens: Floats
    double_pairs: Floats
    decodes: Floats
    context_tokens: Floats

    def of(self, chosen: npt.NDArray[np.bool_]) -> "Demand":
        """Only the chosen entries."""
        columns = (self.prompt_tokens, self.double_pairs, self.decodes, self.context_tokens)
        return Demand(*(column[chosen] for column in columns))

    def summed(self, groups: Ints, count: int) -> "Demand":
        """The sums by group, a number from 0 to `count` - 1 for each entry."""
        columns = (self.prompt_tokens, self.double_pairs, self.decodes, self.context_tokens)
        return Demand(*(_sums(groups, column, count) for column in columns))


def _sums(groups: Ints, column: Floats, count: int) -> Floats:
    return np.bincount(groups, weights=column, minlength=count).astype(np.float64)


def demand_of(workload: Workload, remembers: bool) -> Demand:
    """What each row asks for at least.

    An answer of n tokens takes n - 1 decodes, since the prompt gives the first. Where instances remember prompts, every
    block that any row before has brought may be a hit, but for one token of each prompt.
    """
    prompt, answer = workload.prompt_tokens, served_tokens(workload)
    hit = np.minimum(_seen_tokens(workload), prompt - 1) if remembers else np.zeros(len(workload), dtype=np.int64)
    fresh = (prompt - hit).astype(np.float64)
    decodes = (answer - 1).astype(np.float64)
    contexts = decodes * prompt + decodes * (decodes - 1) / 2
    return Demand(fresh, fresh * (2 * hit + fresh + 1), decodes, contexts)


def _seen_tokens(workload: Workload) -> Ints:
    """Tokens of each row's blocks that stand in rows before it."""
    _, first = np.unique(workload.blocks, return_index=True)
    is_first = np.zeros(len(workload.blocks), dtype=np.bool_)
    is_first[first] = True
    before = np.concatenate(([0], np.cumsum(~is_first)))
    known: Ints = (before[workload.block_start[1:]] - before[workload.block_start[:-1]]) * workload.block_tokens
    return known


class FluidEngine:
    """How long one engine is busy with a demand at the very least, in seconds.

    Over any schedule on any number of engines, let n be all iterations, N all new tokens, D all decodes and K all that
    they read. Iteration i with T_i tokens takes F[T_i] and more, so all take at least n * f(N / n), f being the lower
    convex envelope of F (Jensen), and n is at least D / seats, K / cache and N / budget: no iteration holds more. Terms
    in K, D and pairs add up whatever the schedule; what decodes pay beside prefills is left out.

    The bound is homogeneous and subadditive: what is left of a demand takes at least the difference of the bounds.
    """

    def __init__(self, profile: EngineProfile) -> None:
        self._profile = profile
        table = np.array(profile.iteration_ps, dtype=np.float64)
        self._corners = _envelope(table)
        self._corner_ps = table[self._corners]
        per_token = table[1:] / np.arange(1, len(table))
        self._best_tokens = 1 + int(per_token.argmin())
        self._best_ps = float(per_token.min())

    def busy_s(self, demand: Demand) -> Floats:
        """The bound for each entry of the demand by itself."""
        profile = self._profile
        tokens = demand.prompt_tokens + demand.decodes
        linear_ps = (
            profile.decode_ps * demand.decodes
            + profile.context_token_ps * demand.context_tokens
            + profile.prefill_ps * demand.prompt_tokens / profile.max_batch_tokens
            + (profile.half_pair_fixed * demand.double_pairs + profile.prefill_token_fixed * demand.prompt_tokens)
            / (1 << PAIR_SHIFT)
        )
        # Iterations with prefill are rounded to whole picoseconds, and floats to 53 bits: neither may lift the bound.
        total_ps = self._iterations_ps(demand, tokens) + linear_ps - 0.5 * demand.prompt_tokens
        return total_ps * (1 - 1e-12) / PS_PER_S

    def _iterations_ps(self, demand: Demand, tokens: Floats) -> Floats:
        profile = self._profile
        cache_tokens = profile.block_count * profile.block_size
        fewest = np.maximum.reduce(
            [
                demand.decodes / profile.max_seqs,
                demand.context_tokens / cache_tokens,
                tokens / profile.max_batch_tokens,
            ]
        )
        each = tokens / np.maximum(np.minimum(fewest, tokens), 1e-300)
        # Fuller iterations than these cost more a token, and nobody is forced to fill them.
        each = np.clip(each, 1, self._best_tokens)
        per_token: Floats = np.interp(each, self._corners, self._corner_ps) / each
        return np.maximum(tokens * per_token, tokens * self._best_ps)


def _envelope(table: Floats) -> Ints:
    """The corners of the lower convex envelope of the points (T, table[T]) for T from 1 on."""
    corners: list[int] = []
    for tokens in range(1, len(table)):
        while len(corners) > 1 and _is_above(table, corners[-2], corners[-1], tokens):
            corners.pop()
        corners.append(tokens)
    assert all(a < b for a, b in pairwise(corners))
    return np.array(corners, dtype=np.int64)


def _is_above(table: Floats, left: int, middle: int, right: int) -> bool:
    chord = (table[right] - table[left]) * (middle - left)
    return bool((table[middle] - table[left]) * (right - left) >= chord)
