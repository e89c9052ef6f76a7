"""Predictions for requests without text, which no predictor could read: errors measured elsewhere, drawn anew."""

import numpy as np

from forebay.simulator.workload.base import PREDICTED, Ints, Workload, change
from forebay.simulator.workload.streams import stream

DECILES = 10


def resample_predictions(workload: Workload, output_tokens: Ints, quantiles: Ints, seed: int = 0) -> Workload:
    """The workload with the errors of predictions of other requests: those of `output_tokens` with their `quantiles`.

    Each row takes the quantiles of a donor drawn from its own tenth by answer length, times its answer over the
    donor's. So the error has the distribution that was measured, also that short answers are overestimated and long
    ones underestimated, and says nothing of who asked. Raises ValueError where there are fewer than ten donors.
    """
    known = np.flatnonzero(quantiles[:, 0] >= 1)
    if len(known) < DECILES:
        raise ValueError(f"errors need at least {DECILES} predicted answers to be drawn from; there are {len(known)}")
    ranked = known[np.argsort(output_tokens[known], kind="stable")]
    place = np.empty(len(workload), dtype=np.int64)
    place[np.argsort(workload.output_tokens, kind="stable")] = np.arange(len(workload))
    decile = place * DECILES // max(1, len(workload))
    edges = np.arange(DECILES + 1) * len(ranked) // DECILES
    chance = stream(seed, "predictions").random(len(workload))
    donor = ranked[edges[decile] + (chance * (edges[decile + 1] - edges[decile])).astype(np.int64)]
    scaled = quantiles[donor] * (workload.output_tokens / output_tokens[donor])[:, None]
    found = np.maximum(np.rint(scaled), 1).astype(np.int64)
    note = f"resampled error: predictions have errors drawn from {len(known)} measured ones by length, seed {seed}"
    return change(workload, **dict(zip(PREDICTED, found.T, strict=True)), notes=(*workload.notes, note))
