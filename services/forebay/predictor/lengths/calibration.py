"""Upper bounds that hold as often as they promise: rolling one-sided conformal shifts of p90 and p97."""

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

from forebay.core.prediction import TOKENS_MAX, LengthOutcome
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.predictor.lengths.scores import SLACK
from forebay.predictor.lengths.snapshots import Floats, newest
from forebay.predictor.lengths.window import Window

KEYS_MAX = 1_000

Key: TypeAlias = tuple[str, ...]
ALL: Key = ()


class Calibration:
    """The bounds of one predictor, by application of a served model; falls back on the model, then on all.

    A level speaks once `count_min` of its answers ended, and all together once there is such a rank at all; until then
    the predictor's own p90 stands. Source: MAPS (ICML'26): of the scores s = max(0, L - L̂) of the last n = 500 answers,
    the ⌈(1 - alpha)(n + 1)⌉-th smallest is added to the next prediction, which then is enough with probability
    1 - alpha where answers are exchangeable, and nearly so where they drift slower than the window.

    Here a score is (L - p50) / √max(1, p90 - p50), and the shift goes by the predicted median (`Window`), so that short
    and long predictions are covered alike. Dividing by the spread itself (conformalized quantile regression, Romano,
    Patterson and Candès 2019, in its scaled form) trusts it fully; of bounds that cover the same share, those that
    follow it less need less room, for the widest cost most. The root is between the two.

    A bound that is the client's limit holds whatever happens, so such answers teach nothing and are left as they are;
    which ones these are is known before the answer, so leaving them out bends nothing.
    """

    def __init__(self, window_count: int, alpha: float, count_min: int) -> None:
        self._window_count = window_count
        self._alpha = alpha
        self._count_min = count_min
        self._count_min_all = min(count_min, math.ceil((1 - alpha) / alpha - SLACK))
        self._windows: OrderedDict[Key, Window] = OrderedDict()

    def bounded(self, query: InferenceRequest, raw: LengthQuantiles) -> LengthQuantiles:
        """The prediction with its bounds shifted; quantiles never decrease and never exceed the query's limit."""
        if is_limit(query, raw):
            return raw
        for key in keys_of(query):
            window = self._windows.get(key)
            if window is not None and window.count >= (self._count_min if key else self._count_min_all):
                return _shifted(raw, window.shift(_place(raw)), query.tokens_max or TOKENS_MAX)
        return raw

    def learn(self, outcome: LengthOutcome, raw: LengthQuantiles) -> None:
        """Takes what the predictor said, before any shift, and what came."""
        if is_limit(outcome.query, raw):
            return
        place, score = _place(raw), (outcome.generated_tokens - raw.p50) / _spread(raw)
        for key in keys_of(outcome.query):
            self._of(key).add(place, score, outcome.censored)

    def saved(self) -> Iterator[tuple[Key, Floats]]:
        """What was learnt, a key at a time."""
        for key, window in newest(self._windows):
            yield key, window.saved()

    def restore(self, key: Key, rows: Floats) -> None:
        """Takes what was saved of a key. Raises ValueError for what was not."""
        window = Window(self._window_count, self._alpha)
        window.restore(rows)
        self._windows[key] = window

    def _of(self, key: Key) -> Window:
        if key not in self._windows:
            self._windows[key] = Window(self._window_count, self._alpha)
            if len(self._windows) > KEYS_MAX:
                self._windows.popitem(last=False)
        self._windows.move_to_end(key)
        return self._windows[key]


def keys_of(query: InferenceRequest) -> tuple[Key, ...]:
    """The keys of a query from narrow to wide."""
    model = (query.model,)
    return ((query.model, query.application), model, ALL) if query.application else (model, ALL)


def is_limit(query: InferenceRequest, quantiles: LengthQuantiles) -> bool:
    """Whether the 90 % bound is no more than the limit that the client set, so that nothing can break it."""
    return 0 < query.tokens_max <= quantiles.p90


def _shifted(raw: LengthQuantiles, shift: float, limit: int) -> LengthQuantiles:
    # Floats of a whole number may lie just below it.
    by = raw.p50 + math.floor(shift * _spread(raw) + 1e-6) - raw.p90
    p90 = min(limit, max(raw.p50, raw.p90 + by))
    return LengthQuantiles(raw.p10, raw.p50, p90, min(limit, max(p90, raw.p97 + by)))


def _spread(raw: LengthQuantiles) -> float:
    return math.sqrt(max(1, raw.p90 - raw.p50))


def _place(raw: LengthQuantiles) -> float:
    return math.log1p(raw.p50)
