"""Upper bounds that hold as often as they promise: rolling one-sided conformal shifts of p90 and p97."""

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TypeAlias

from forebay.core.prediction import TOKENS_MAX, LengthOutcome
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.predictor.snapshots import Floats, checked, newest, table

KEYS_MAX = 1_000
SLACK = 1e-9
"""Keeps a rank or a bound that is a whole number from being rounded away."""

Key: TypeAlias = tuple[str, ...]
ALL: Key = ()
Score: TypeAlias = tuple[float, bool]
"""How far an answer lay above its p90, in spreads, and whether it was cut there; who ended sorts before who was cut."""


class Scores:
    """The newest `count_max` scores of one key, and the shift that would have covered the promised share of them."""

    def __init__(self, count_max: int, alpha: float) -> None:
        self._count_max = count_max
        self._alpha = alpha
        self._by_age: deque[Score] = deque()
        self._by_size: list[Score] = []
        self._cut_count = 0
        self._shift: float | None = None

    @property
    def count(self) -> int:
        """Scores of answers that ended by themselves; a cut one alone says nothing."""
        return len(self._by_size) - self._cut_count

    def add(self, score: float, is_cut: bool) -> None:
        """Takes one score; the oldest gives way."""
        if len(self._by_age) == self._count_max:
            oldest = self._by_age.popleft()
            del self._by_size[bisect_left(self._by_size, oldest)]
            self._cut_count -= oldest[1]
        self._by_age.append((score, is_cut))
        insort(self._by_size, (score, is_cut))
        self._cut_count += is_cut
        self._shift = None

    def saved(self) -> Floats:
        """The scores, the oldest first."""
        return table(tuple(self._by_age), 2)

    @property
    def shift(self) -> float:
        """The rank ⌈(1 - alpha)(n + 1)⌉ of the n scores; needs at least one that was not cut.

        Where answers were cut, the same share of the Kaplan-Meier estimate: a cut one counts up to its cut and then no
        more. Where that never gets so far, the largest score stands.
        """
        if self._shift is None:
            rank = min(self.count, math.ceil((1 - self._alpha) * (self.count + 1) - SLACK))
            self._shift = self._survived(1 - rank / self.count) if self._cut_count else self._by_size[rank - 1][0]
        return self._shift

    def _survived(self, share: float) -> float:
        alive, at_risk = 1.0, len(self._by_size)
        for score, is_cut in self._by_size:
            alive *= 1.0 if is_cut else 1 - 1 / at_risk
            if alive <= share + SLACK:
                return score
            at_risk -= 1
        return self._by_size[-1][0]


class Calibration:
    """The bounds of one predictor, by application of a served model; falls back on the model, then on all.

    A level speaks once `count_min` of its answers ended, and all together once there is such a rank at all; until then
    the predictor's own p90 stands. Source: MAPS (ICML'26): of the scores s = max(0, L - L̂) of the last n = 500 answers,
    the ⌈(1 - alpha)(n + 1)⌉-th smallest is added to the next prediction, which then is enough with probability
    1 - alpha where answers are exchangeable, and nearly so where they drift slower than the window. Here a score is
    (L - p90) / max(1, p90 - p50), so that a wide prediction moves further than a narrow one, and it may be negative: a
    bound that is too careful comes down, never below the median.

    A bound that is the client's limit holds whatever happens, so such answers teach nothing and are left as they are;
    which ones these are is known before the answer, so leaving them out bends nothing.
    """

    def __init__(self, window_count: int, alpha: float, count_min: int) -> None:
        self._window_count = window_count
        self._alpha = alpha
        self._count_min = count_min
        self._count_min_all = min(count_min, math.ceil((1 - alpha) / alpha - SLACK))
        self._scores: OrderedDict[Key, Scores] = OrderedDict()

    def bounded(self, query: InferenceRequest, raw: LengthQuantiles) -> LengthQuantiles:
        """The prediction with its bounds shifted; quantiles never decrease and never exceed the query's limit."""
        if is_limit(query, raw):
            return raw
        for key in keys_of(query):
            scores = self._scores.get(key)
            if scores is not None and scores.count >= (self._count_min if key else self._count_min_all):
                return _shifted(raw, scores.shift, query.tokens_max or TOKENS_MAX)
        return raw

    def learn(self, outcome: LengthOutcome, raw: LengthQuantiles) -> None:
        """Takes what the predictor said, before any shift, and what came."""
        if is_limit(outcome.query, raw):
            return
        score = (outcome.generated_tokens - raw.p90) / _spread(raw)
        for key in keys_of(outcome.query):
            self._of(key).add(score, outcome.censored)

    def saved(self) -> Iterator[tuple[Key, Floats]]:
        """What was learnt, a key at a time."""
        for key, scores in newest(self._scores):
            yield key, scores.saved()

    def restore(self, key: Key, rows: Floats) -> None:
        """Takes what was saved of a key. Raises ValueError for what was not."""
        scores = Scores(self._window_count, self._alpha)
        for score, is_cut in checked(rows, 2):
            scores.add(score, bool(is_cut))
        self._scores[key] = scores

    def _of(self, key: Key) -> Scores:
        if key not in self._scores:
            self._scores[key] = Scores(self._window_count, self._alpha)
            if len(self._scores) > KEYS_MAX:
                self._scores.popitem(last=False)
        self._scores.move_to_end(key)
        return self._scores[key]


def keys_of(query: InferenceRequest) -> tuple[Key, ...]:
    """The keys of a query from narrow to wide."""
    model = (query.model,)
    return ((query.model, query.application), model, ALL) if query.application else (model, ALL)


def is_limit(query: InferenceRequest, quantiles: LengthQuantiles) -> bool:
    """Whether the 90 % bound is no more than the limit that the client set, so that nothing can break it."""
    return 0 < query.tokens_max <= quantiles.p90


def _shifted(raw: LengthQuantiles, shift: float, limit: int) -> LengthQuantiles:
    # Floats of a whole number may lie just below it.
    by = math.floor(shift * _spread(raw) + 1e-6)
    p90 = min(limit, max(raw.p50, raw.p90 + by))
    return LengthQuantiles(raw.p10, raw.p50, p90, min(limit, max(p90, raw.p97 + by)))


def _spread(raw: LengthQuantiles) -> int:
    return max(1, raw.p90 - raw.p50)
