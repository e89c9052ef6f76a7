"""A plan that is changed instance by instance, within the GPUs that are left."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from forebay.autoscaler.planning.cover import Piece, cover
from forebay.autoscaler.planning.program import SLACK, Floats, Ints, Program, short

STEPS_MAX = 300
"""Exchanges that are tried for a model."""
PIECES_MAX = 24
"""Kinds of instances that are looked at to fill what all regions together need."""
NEVER = np.inf


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """What one instance costs as far as they are there already (`keep`), and beyond that (`add`), [i,j,k]."""

    keep: Floats
    add: Floats


class Board:
    """A plan with the GPUs that it leaves; every method keeps to bounds and stocks."""

    def __init__(self, program: Program, plan: Ints) -> None:
        self.program = program
        self.plan = plan
        self.left: Floats = program.stocks - (program.gpus * plan).sum(axis=0)
        self._needs = program.local, program.total
        self._unmet = program.unmet_prices

    def room(self, i: int, j: int) -> Ints:
        """The most instances of a model in a region, those it has counted."""
        each = np.maximum(self.program.gpus[i, j], 1)
        free = np.where(np.isfinite(self.left[j]), np.floor(np.maximum(self.left[j], 0.0) / each + SLACK), NEVER)
        most: Ints = np.minimum(self.program.most[i, j], self.plan[i, j] + free).astype(np.int64)
        room: Ints = np.maximum(most, self.program.least[i, j])
        return room

    def put(self, i: int, j: int, counts: Ints) -> None:
        """Gives a model these instances in a region."""
        self.left[j] -= self.program.gpus[i, j] * (counts - self.plan[i, j])
        self.plan[i, j] = counts

    def fill(self, i: int) -> None:
        """Adds what is missing: in each region first, the fewest that do, then anywhere, the cheapest."""
        rates = self.program.rates[i]
        for j in range(self.plan.shape[1]):
            while (missing := short(self._needs[0][i], self._served(i))[j]) > 0:
                up = self._up(i)[j]
                if not np.isfinite(up).any():
                    break
                self._step(i, (j, int(np.argmin(up / np.minimum(rates[j], missing)))), 1)
        if (lacking := self._lacking(i)) > 0:
            self._spread(i, lacking)
        while self._lacking(i) > 0:
            up = self._up(i)
            if not np.isfinite(up).any():
                return
            self._step(i, divmod(int(np.argmin(up)), up.shape[1]), 1)

    def improve(self, i: int) -> None:
        """Drops instances, and gives one for another, as long as that is cheaper; the greatest saving first."""
        regions, gpus = self.plan.shape[1:]
        region = np.repeat(np.arange(regions), gpus)
        rates = self.program.rates[i].ravel()
        same = region[:, None] == region[None, :]
        for _ in range(STEPS_MAX):
            served = self._served(i)
            local = (served - self._needs[0][i])[region] + SLACK * self._needs[0][i][region]
            total = served.sum() - self._needs[1][i] * (1.0 - SLACK)
            down, up = self._down(i).ravel(), self._up(i).ravel()
            drops = np.where((local >= rates) & (total >= rates), -down, NEVER)
            change = np.where(same, rates[None, :], 0.0) - rates[:, None]
            fits = (local[:, None] + change >= 0) & (total + rates[None, :] - rates[:, None] >= 0)
            swaps = np.where(fits, up[None, :] - down[:, None], NEVER)
            best_drop, best_swap = int(np.argmin(drops)), int(np.argmin(swaps))
            drop, swap = float(drops[best_drop]), float(swaps.ravel()[best_swap])
            if min(drop, swap) >= -1e-9:
                return
            if drop <= swap:
                self._step(i, divmod(best_drop, gpus), -1)
                continue
            source, target = divmod(best_swap, regions * gpus)
            self._step(i, divmod(source, gpus), -1)
            self._step(i, divmod(target, gpus), 1)

    def _spread(self, i: int, missing: float) -> None:
        """Covers what is missing anywhere by kinds of instances that cost and serve alike."""
        kinds: dict[tuple[float, float], list[tuple[int, int, int]]] = defaultdict(list)
        price, start = self.program.prices[i], self.program.starts[i]
        for j in range(self.plan.shape[1]):
            room = self.room(i, j)
            for k in np.flatnonzero(room > self.plan[i, j]).tolist():
                have, cost, size = int(self.plan[i, j, k]), float(price[j, k]), float(self.program.rates[i, j, k])
                kept = int(np.clip(self.program.instances[i, j, k], have, room[k])) - have
                kinds[cost, size].append((j, k, kept))
                kinds[cost + float(start[j, k]), size].append((j, k, int(room[k]) - have - kept))
        best = sorted(kinds, key=lambda kind: (kind[0] / kind[1], kind))[:PIECES_MAX]
        pieces = [Piece(cost, size, sum(count for *_, count in kinds[cost, size])) for cost, size in best]
        found = cover(pieces, missing, float(self._unmet[i]))
        for kind, count in zip(best, found.counts, strict=True):
            for j, k, most in kinds[kind]:
                taken = min(count, most, int(self.room(i, j)[k] - self.plan[i, j, k]))
                count -= taken
                self._step(i, (j, k), taken)

    def _served(self, i: int) -> Floats:
        served: Floats = (self.program.rates[i] * self.plan[i]).sum(axis=1)
        return served

    def _lacking(self, i: int) -> float:
        """Tokens/s that all regions together lack."""
        return float(short(self._needs[1][i], self._served(i).sum()))

    def _step(self, i: int, pool: tuple[int, int], count: int) -> None:
        self.plan[i][pool] += count
        self.left[pool] -= count * self.program.gpus[i][pool]

    def _up(self, i: int) -> Floats:
        """What one more of each pool costs; endless where there is no room."""
        plan, program = self.plan[i], self.program
        fits = (plan < program.most[i]) & (self.left >= program.gpus[i] - SLACK)
        cost = program.prices[i] + np.where(plan >= program.instances[i], program.starts[i], 0.0)
        return np.where(fits, cost, NEVER)

    def _down(self, i: int) -> Floats:
        """What one less of each pool saves; less than nothing where it must stay."""
        plan, program = self.plan[i], self.program
        saved = program.prices[i] + np.where(plan > program.instances[i], program.starts[i], 0.0)
        return np.where(plan > program.least[i], saved, -NEVER)
