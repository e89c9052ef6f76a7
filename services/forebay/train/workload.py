"""Trains the networks of forecasters on many series: boosted trees on lags, exported to ONNX."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.predictor.traffic.lags import lag_features, pasts_of
from forebay.predictor.traffic.series import Floats, Series

LEADS = np.array((1, 2, 3, 4, 6, 8, 12, 18, 24, 36, 72, 144))
LEAD_WEIGHTS = np.array((3, 1, 1, 1, 3, 1, 3, 1, 1, 1, 1, 1)) / 18
STEPS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class BoostingSettings:
    """How the trees are grown; `pair_count` pairs (moment, lead) are drawn of each series and width of window."""

    pair_count: int = 1_500
    coarse: int = 3
    tree_count: int = 120
    leaf_count: int = 16
    leaf_pairs_min: int = 150
    learning_rate: float = 0.08
    l2: float = 10.0
    seed: int = 20260801


def mixtures(clients: Floats, rng: np.random.Generator, *, alone: int = 60, mixed: int = 40) -> list[Floats]:
    """Training series [window] from the clients [window, client] of one service: the biggest ones alone, their total,
    and the totals of some at random, since what is forecast is mostly a total. Windows without anybody become gaps.
    """
    order = np.argsort(-clients.sum(axis=0))[:alone]
    total = clients.sum(axis=1)
    found = [clients[:, column] for column in order] + [total]
    for _ in range(mixed):
        found.append(clients[:, rng.random(clients.shape[1]) < rng.uniform(0.1, 0.9)].sum(axis=1))
    return [np.where(total > 0, one, np.nan) for one in found if one.mean() >= 5]


def pairs(requests: Floats, window_us: int, season: int, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Features and targets, in steps, of pairs drawn at random where the truth is known."""
    size = len(requests)
    values = np.column_stack((requests,) * 3)
    past = pasts_of(Series(values, 0, window_us).known, season)[0]
    origins, leads = rng.integers(6, size - 1, count), rng.choice(LEADS, count, p=LEAD_WEIGHTS)
    targets = origins - 1 + leads
    told = (targets < size) & ~np.isnan(requests[np.minimum(targets, size - 1)]) & ~np.isnan(requests[origins - 1])
    origins, leads, targets = origins[told], leads[told], targets[told]
    features, last, step, scale = lag_features(past, origins, leads)
    return features, np.clip((np.sqrt(requests[targets] / scale) - last) / step, -STEPS_MAX, STEPS_MAX)


def examples(series: Sequence[Floats], window_us: int, settings: BoostingSettings) -> Iterator[tuple[Floats, Floats]]:
    """Pairs of all series; a day is 86,400 s long."""
    rng = np.random.default_rng(settings.seed)
    day = 86_400_000_000 // window_us
    for requests in series:
        count = settings.pair_count if len(requests) > day else settings.pair_count // 7
        yield pairs(requests, window_us, day, count, rng)
        size = len(requests) // settings.coarse
        if size * settings.coarse > day:
            added = requests[: size * settings.coarse].reshape(size, settings.coarse).sum(axis=1)
            yield pairs(added, window_us * settings.coarse, day // settings.coarse, count // 4, rng)


def train_boosting(series: Sequence[Floats], window_us: int, settings: BoostingSettings | None = None) -> bytes:
    """The ONNX model trained on these series of requests [window] with NaN for gaps.

    Needs scikit-learn and skl2onnx. The loss is the mean absolute error in steps, so what is learned is the median.
    """
    settings = settings or BoostingSettings()
    drawn = list(examples(series, window_us, settings))
    features = np.concatenate([one for one, _ in drawn]).astype(np.float32)
    model = grow(features, np.concatenate([one for _, one in drawn]), settings)
    return export(model, features.shape[1])


def grow(features: npt.NDArray[np.float32], targets: Floats, settings: BoostingSettings) -> object:
    """The fitted scikit-learn model."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        loss="absolute_error",
        max_iter=settings.tree_count,
        learning_rate=settings.learning_rate,
        max_leaf_nodes=settings.leaf_count,
        min_samples_leaf=settings.leaf_pairs_min,
        l2_regularization=settings.l2,
        early_stopping=False,
        random_state=settings.seed,
    )
    return model.fit(features, targets)


def export(model: object, feature_count: int) -> bytes:
    """The model in ONNX: float32 [row, feature] in, float32 [row, 1] out."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    inputs = [("features", FloatTensorType([None, feature_count]))]
    with warnings.catch_warnings():
        # skl2onnx hands truth values to protobuf as numbers, which numpy is about to give up.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = convert_sklearn(model, initial_types=inputs, target_opset={"": 18, "ai.onnx.ml": 3})
    content: bytes = found.SerializeToString()
    return content
