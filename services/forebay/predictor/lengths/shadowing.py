"""Measures a shadow beside the active predictor on the same outcomes and says when it is the better one."""

import math

from forebay.core.prediction import QUANTILE_LEVELS, ShadowTrial
from forebay.core.values import LengthQuantiles

GAIN_MIN = 0.02
"""A shadow must lose this share less: a swap that gains nothing is not worth its risk."""
Z_MIN = 2.0


def pinball_loss(quantiles: LengthQuantiles, tokens: int) -> float:
    """The mean over the levels of level · (y - q) where the answer is longer, else (1 - level) · (q - y), in tokens.

    Least for the true quantiles (Koenker and Bassett 1978). Of an answer that may be cut, the quantiles cut at the same
    limit are those of what is served, so the loss is as fair there.
    """
    values = (quantiles.p10, quantiles.p50, quantiles.p90, quantiles.p97)
    pairs = zip(QUANTILE_LEVELS, values, strict=True)
    return sum(max(level * (tokens - value), (level - 1) * (tokens - value)) for level, value in pairs) / len(values)


class Duel:
    """Pairs the losses of the active predictor and of one shadow, outcome by outcome."""

    def __init__(self) -> None:
        self._count = 0
        self._active_sum = 0.0
        self._shadow_sum = 0.0
        self._gain_mean = 0.0
        self._gain_squares = 0.0

    def add(self, active_loss: float, shadow_loss: float) -> None:
        """Takes the losses on one outcome."""
        self._count += 1
        self._active_sum += active_loss
        self._shadow_sum += shadow_loss
        # Welford's sums: the variance of what barely varies keeps its digits.
        gain = active_loss - shadow_loss
        before = gain - self._gain_mean
        self._gain_mean += before / self._count
        self._gain_squares += before * (gain - self._gain_mean)

    @property
    def trial(self) -> ShadowTrial:
        """What came of it so far."""
        count = max(1, self._count)
        return ShadowTrial(self._count, self._active_sum / count, self._shadow_sum / count, self._z_score())

    def _z_score(self) -> float:
        if self._count < 2:
            return 0.0
        error = math.sqrt(self._gain_squares / (self._count - 1) / self._count)
        if error == 0:
            # The same gain each time: none at all, or as sure as can be.
            return math.copysign(1_000.0, self._gain_mean) if self._gain_mean else 0.0
        return self._gain_mean / error


def is_better(trial: ShadowTrial, count_min: int) -> bool:
    """Whether the shadow should take over: enough outcomes that both predicted, a gain that is worth it and is no luck.

    Asked again with every outcome, z alone would exceed any bound in the end; that a gain by luck shrinks with the
    count while `GAIN_MIN` stays is what makes the answer safe.
    """
    gain = trial.active_loss_tokens - trial.shadow_loss_tokens
    return trial.outcome_count >= count_min and gain >= GAIN_MIN * trial.active_loss_tokens and trial.z_score > Z_MIN
