"""Answers are as long as the latest ones to prompts of a similar length: a distribution without a trained model."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import QUANTILE_LEVELS, TOKENS_MAX, LengthOutcome, mean_of
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.predictor.lengths.snapshots import checked, newest

KEYS_MAX = 1_000
EXPONENT_MIN = -300.0
"""Prompts further off than this weigh nothing beside others, but among themselves they still have a newest."""

Key: TypeAlias = tuple[str, ...]
ALL: Key = ()
Floats = npt.NDArray[np.float64]

_LEFT = 1.0 - np.array(QUANTILE_LEVELS) + 1e-9
"""A quantile is where no more than this share of answers is longer."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """A history by length, what was cut after what ended there; `ended` tells which answers were not cut.

    `fresh` is the weight by age, `shares` what each has of the prior of its length.
    """

    tokens: Floats
    prompts: Floats
    fresh: Floats
    shares: Floats
    ended: npt.NDArray[np.bool_]


class History:
    """The newest outcomes of one key, in a ring."""

    def __init__(self, window_count: int) -> None:
        self._packed = np.zeros(window_count, dtype=np.int64)
        self._prompts = np.zeros(window_count)
        self._sorted: Sorted | None = None
        self.count = 0
        """Outcomes ever seen."""

    def add(self, outcome: LengthOutcome) -> None:
        """Takes one more outcome; the oldest gives way."""
        place = self.count % len(self._packed)
        self._packed[place] = 2 * outcome.generated_tokens + outcome.censored
        self._prompts[place] = outcome.query.prompt_tokens
        self.count += 1
        self._sorted = None

    def saved(self) -> Floats:
        """The outcomes, the oldest first."""
        size = min(self.count, len(self._packed))
        order = (self.count - size + np.arange(size)) % len(self._packed)
        return np.column_stack((self._packed[order], self._prompts[order])).astype(np.float64)

    def restore(self, rows: Floats) -> None:
        """Takes outcomes that were saved. Raises ValueError for what was not."""
        for packed, prompt in checked(rows, 2):
            place = self.count % len(self._packed)
            self._packed[place], self._prompts[place] = int(packed), prompt
            self.count += 1
        self._sorted = None

    def read(self, decay: float) -> Sorted:
        """What is there, with weight `decay` ** age; equal lengths share one prior."""
        if self._sorted is None:
            self._sorted = self._sort(decay)
        return self._sorted

    def _sort(self, decay: float) -> Sorted:
        size = min(self.count, len(self._packed))
        order = np.argsort(self._packed[:size], kind="stable")
        packed = self._packed[order]
        tokens = packed >> 1
        ages = (self.count - 1 - order) % len(self._packed)
        first, last = (np.searchsorted(tokens, tokens, side) for side in ("left", "right"))
        shares = 1.0 / (last - first).astype(np.float64)
        fresh: Floats = np.power(decay, ages)
        return Sorted(tokens.astype(np.float64), self._prompts[order], fresh, shares, packed & 1 == 0)


@dataclass(slots=True)
class KernelHistory:
    """Weighs the last `window_count` answers of the application or model by age and by how near the prompt's length is.

    For a prompt of p tokens an answer of age a to a prompt of q tokens weighs `decay`^a · exp(-(p - q)² / (2w²)), where
    w is `width_share` of p, at most `width_tokens`; each length seen has a prior of `prior_weight` · `prior_decay`^n
    once n outcomes came. Source: PRISM (ICDCS'26), which keeps one history of 128 for all, has w = 256, a decay of 0.96
    and a prior that does not decay, and reads off the mean alone. On streams of published lengths the width that grows
    with the prompt and the slower decay have a quarter less error on translation (13.3 for 17.7 tokens), three quarters
    less on grammar (2.1 for 8.1), and about as much on chat. Here quantiles are read off too, by the estimate of Kaplan
    and Meier where answers were cut. The narrowest of application, model and all that has `count_min` outcomes speaks;
    before that `prior_tokens` (p10, p50, p90, p97).
    """

    window_count: int = 256
    count_min: int = 8
    decay: float = 0.99
    width_tokens: float = 256.0
    width_share: float = 0.15
    prior_weight: float = 1.0
    prior_decay: float = 0.96
    prior_tokens: tuple[int, ...] = (54, 129, 424, 509)
    _histories: OrderedDict[Key, History] = field(default_factory=OrderedDict, init=False, repr=False)
    _prior: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count_min <= self.window_count <= 100_000:
            raise ValueError("1 <= count_min <= window_count <= 100000 must hold")
        if not (0 < self.decay <= 1 and 0 <= self.prior_decay <= 1):
            raise ValueError("decay must be above 0, prior_decay not negative, both at most 1")
        if not (0 < self.width_tokens <= 1e9 and 0 < self.width_share <= 1e9 and 0 <= self.prior_weight <= 1e9):
            raise ValueError("width_tokens and width_share must be above 0, prior_weight not negative, all at most 1e9")
        if len(self.prior_tokens) != len(QUANTILE_LEVELS):
            raise ValueError(f"prior_tokens must have {len(QUANTILE_LEVELS)} entries")
        LengthQuantiles(*self.prior_tokens)
        self._prior = np.array(self.prior_tokens, dtype=np.float64)

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """Queries that the same history answers are read off it together."""
        found: list[LengthPrediction | None] = [None] * len(queries)
        rows: dict[Key | None, list[int]] = {}
        for row, query in enumerate(queries):
            rows.setdefault(self._speaking(query), []).append(row)
        for key, members in rows.items():
            answers = self._answers(key, [queries[row] for row in members])
            for row, answer in zip(members, answers, strict=True):
                found[row] = answer
        return tuple(one for one in found if one is not None)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Adds each outcome to the histories of its application, its model and all."""
        for outcome in outcomes:
            for key in _keys(outcome.query):
                self._history(key).add(outcome)

    def saved(self) -> Iterator[tuple[Key, Floats]]:
        """See `Lasting`."""
        for key, history in newest(self._histories):
            yield key, history.saved()

    def restore(self, key: Key, rows: Floats) -> None:
        """See `Lasting`."""
        history = History(self.window_count)
        history.restore(rows)
        self._histories[key] = history

    def _answers(self, key: Key | None, queries: Sequence[InferenceRequest]) -> list[LengthPrediction]:
        caps = np.array([query.tokens_max or TOKENS_MAX for query in queries], dtype=np.float64)
        if key is None:
            return [_prediction(row, mean_of(row)) for row in np.minimum(self._prior, caps[:, None]).tolist()]
        history = self._histories[key]
        seen = history.read(self.decay)
        prompts = np.array([query.prompt_tokens for query in queries], dtype=np.float64)
        alive = _survival(self._weights(seen, history.count, prompts), seen.ended)
        places = (alive[:, :, None] > _LEFT).sum(axis=1)
        # Where too many answers were cut the longest one seen stands, or what was expected before any was seen.
        last = len(seen.tokens) - 1
        ends = seen.tokens[np.minimum(places, last)]
        ends = np.where(places > last, np.maximum(self._prior, ends), ends)
        means = _means(alive, seen.tokens, ends[:, -1], caps)
        capped = np.minimum(ends, caps[:, None]).tolist()
        return [_prediction(row, mean) for row, mean in zip(capped, means.tolist(), strict=True)]

    def _weights(self, seen: Sorted, count: int, prompts: Floats) -> Floats:
        widths = np.minimum(self.width_tokens, np.maximum(self.width_share * prompts, 1.0))
        away = (prompts[:, None] - seen.prompts) / widths[:, None]
        near = np.exp(np.maximum(-0.5 * away * away, EXPONENT_MIN))
        prior = self.prior_weight * self.prior_decay**count
        weights: Floats = seen.fresh * near + prior * seen.shares
        return weights

    def _speaking(self, query: InferenceRequest) -> Key | None:
        for key in _keys(query):
            history = self._histories.get(key)
            if history is not None and history.count >= self.count_min:
                return key
        return None

    def _history(self, key: Key) -> History:
        if key not in self._histories:
            self._histories[key] = History(self.window_count)
            if len(self._histories) > KEYS_MAX:
                self._histories.popitem(last=False)
        self._histories.move_to_end(key)
        return self._histories[key]


def _survival(weights: Floats, ended: npt.NDArray[np.bool_]) -> Floats:
    """The share of answers longer than each length [query, length]: the product-limit estimate with weights."""
    at_risk = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1]
    if ended.all():
        survival: Floats = 1.0 - np.cumsum(weights, axis=1) / at_risk[:, :1]
        return survival
    stays: Floats = np.where(ended, 1.0 - weights / at_risk, 1.0)
    product: Floats = np.multiply.accumulate(stays, axis=1)
    return product


def _means(alive: Floats, tokens: Floats, top: Floats, caps: Floats) -> Floats:
    """The mean length where none exceeds its cap; answers of which only cuts are known count as long as `top`."""
    lengths = np.minimum(tokens, caps[:, None])
    steps = lengths[:, 1:] - lengths[:, :-1]
    beyond = np.minimum(top, caps) - lengths[:, -1]
    means: Floats = lengths[:, 0] + (steps * alive[:, :-1]).sum(axis=1) + alive[:, -1] * np.maximum(beyond, 0.0)
    return means


def _keys(query: InferenceRequest) -> tuple[Key, ...]:
    """From narrow to wide."""
    model = (query.model,)
    return ((query.model, query.application), model, ALL) if query.application else (model, ALL)


def _prediction(tokens: Sequence[float], mean: float) -> LengthPrediction:
    p10, p50, p90, p97 = tokens
    return LengthPrediction(LengthQuantiles(int(p10), int(p50), int(p90), int(p97)), mean, mean, "kernel_history")
