"""The cheapest whole pieces that cover one need: a branch and bound over a handful of kinds."""

from typing import NamedTuple

SMALL = 1e-12


class Piece(NamedTuple):
    """A kind of piece: what one costs, how much of the need it covers, and how many there are at most."""

    cost: float
    size: float
    most: int


class Cover(NamedTuple):
    """How many of each piece, what they cost with what they leave open, and what no choice is cheaper than."""

    counts: tuple[int, ...]
    cost: float
    bound: float


class _Search:
    """Depth first over the pieces by cost per size; prunes by what covering the rest in fractions costs."""

    def __init__(self, pieces: list[Piece], open_price: float, nodes_max: int) -> None:
        self.pieces = pieces
        self.open_price = open_price
        self.nodes_left = nodes_max
        self.counts = [0] * len(pieces)
        self.best: tuple[int, ...] = tuple(self.counts)
        self.best_cost = float("inf")

    def bound(self, number: int, need: float) -> float:
        """What covering `need` with fractions of the pieces from `number` on costs."""
        cost = 0.0
        for piece in self.pieces[number:]:
            if need <= 0:
                return cost
            count = min(piece.most, need / piece.size)
            cost += count * piece.cost
            need -= count * piece.size
        return cost + max(need, 0.0) * self.open_price

    def run(self, number: int, need: float, cost: float) -> None:
        """Tries the counts of piece `number` that may be best, from many to few."""
        self.nodes_left -= 1
        if number == len(self.pieces) or need <= SMALL:
            total = cost + max(need, 0.0) * self.open_price
            if total < self.best_cost:
                self.best, self.best_cost = tuple(self.counts), total
            return
        piece = self.pieces[number]
        enough = -int(-(need - SMALL) // piece.size)
        for count in range(min(piece.most, enough), -1, -1):
            rest, spent = need - count * piece.size, cost + count * piece.cost
            if self.nodes_left <= 0:
                return
            if spent + self.bound(number + 1, rest) >= self.best_cost - SMALL:
                if rest > 0:
                    # Fewer of this piece and more of dearer ones cannot be cheaper.
                    return
                continue
            self.counts[number] = count
            self.run(number + 1, rest, spent)
            self.counts[number] = 0


def cover(pieces: list[Piece], need: float, open_price: float, nodes_max: int = 300) -> Cover:
    """The cheapest choice of pieces of which enough are whole; a unit of need that stays open costs `open_price`.

    With more than `nodes_max` nodes to look at, the best so far. Costs must not be negative, sizes be above 0.
    """
    ratios = [piece.cost / piece.size for piece in pieces]
    # What costs more than leaving open what it covers is never taken.
    order = sorted((k for k, ratio in enumerate(ratios) if ratio < open_price), key=lambda k: (ratios[k], k))
    search = _Search([pieces[number] for number in order], open_price, nodes_max)
    least = search.bound(0, need)
    search.run(0, need, 0.0)
    counts = [0] * len(pieces)
    for number, count in zip(order, search.best, strict=True):
        counts[number] = count
    return Cover(tuple(counts), search.best_cost, search.best_cost if search.nodes_left > 0 else least)
