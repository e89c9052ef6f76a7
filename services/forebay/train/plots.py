"""The plots of a trained model: predicted against actual, error by length, coverage by tertile."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.simulator.report.figure import colours, styled, to_svg
from forebay.train.data import Examples
from forebay.train.evaluation import Figures, Predicted, scored

WIDTH_IN = 9.0
POINTS_MAX = 2_000
BINS = 8
DECADES_MIN = 3.0
"""Fewer powers of ten need marks between them."""
BIN_COUNT_MIN = 5
PROMISED = 0.9

Floats = npt.NDArray[np.float64]


def scatter(one: Predicted, examples: Examples) -> str:
    """Medians against actual lengths, both in logarithms, with the diagonal; of many points an even choice."""
    kept = np.flatnonzero(scored(examples) & examples.complete)
    shown = kept[:: max(1, len(kept) // POINTS_MAX)]
    actual, median = (values[shown] + 1 for values in (examples.tokens, one.quantiles[:, 1]))
    with styled() as make:
        figure = make(figsize=(WIDTH_IN * 0.6, 4.6), layout="constrained")
        axis = figure.subplots()
        top = float(max(actual.max(), median.max(), 10))
        axis.plot([1, top], [1, top], color="#7d8590", linewidth=1, label="predicted = actual")
        axis.plot([1, top], [2, 2 * top], ":", color="#7d8590", linewidth=1, label="twice, half")
        axis.plot([1, top], [0.5, top / 2], ":", color="#7d8590", linewidth=1)
        axis.scatter(
            actual, median, s=7, alpha=0.35, color=colours([one.name])[one.name], linewidths=0, rasterized=True
        )
        low = float(max(1, min(actual.min(), median.min()) / 2))
        axis.set(xscale="log", yscale="log", xlim=(low, top * 1.1), ylim=(low, top * 1.1))
        _plain(axis)
        axis.set_xlabel("actual length + 1 (tokens)")
        axis.set_ylabel("predicted median + 1 (tokens)")
        axis.legend(loc="upper left")
        return to_svg(figure, "Predicted against actual length")


def error_by_length(some: Sequence[Predicted], examples: Examples) -> str:
    """Mean absolute error of each predictor over the actual length, in bins of equal count."""
    kept = np.flatnonzero(scored(examples) & examples.complete)
    order = kept[np.argsort(examples.tokens[kept], kind="stable")]
    bins = [places for places in np.array_split(order, BINS) if len(places) >= BIN_COUNT_MIN]
    with styled() as make:
        figure = make(figsize=(WIDTH_IN, 3.4), layout="constrained")
        axis = figure.subplots()
        centres = [float(np.median(examples.tokens[places])) + 1 for places in bins]
        for name, colour in colours([one.name for one in some]).items():
            one = next(each for each in some if each.name == name)
            errors = np.abs(one.quantiles[:, 1] - examples.tokens)
            axis.plot(centres, [errors[places].mean() for places in bins], marker="o", color=colour, label=name)
        axis.set(xscale="log", yscale="log")
        _plain(axis)
        axis.set_xlabel("actual length + 1 (tokens), bins of equal count")
        axis.set_ylabel("mean absolute error (tokens)")
        axis.legend(ncols=2)
        return to_svg(figure, "Error by length")


def coverage(rows: Sequence[Figures]) -> str:
    """Share of answers within the 90 % bound in each tertile of length, with the promised share and its band."""
    tertiles = ("short", "middle", "long")
    with styled() as make:
        figure = make(figsize=(WIDTH_IN, 3.0), layout="constrained")
        axis = figure.subplots()
        axis.axhspan(85, 95, color="#2a9d63", alpha=0.12, linewidth=0)
        axis.axhline(100 * PROMISED, color="#7d8590", linewidth=1)
        wide = 0.8 / len(rows)
        for index, (name, colour) in enumerate(colours([row.name for row in rows]).items()):
            heights = [100 * share for share in rows[index].coverage_tertiles]
            places = np.arange(len(tertiles)) - 0.4 + (index + 0.5) * wide
            axis.bar(places, heights, wide * 0.9, color=colour, label=name)
        axis.set_xticks(range(len(tertiles)), [f"{name} answers" for name in tertiles])
        axis.grid(visible=False, axis="x")
        axis.set(ylim=(0, 105), ylabel="within the 90 % bound (%)")
        axis.legend(ncols=len(rows), loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return to_svg(figure, "Coverage by tertile of length")


def _plain(axis: Any) -> None:
    """Numbers of logarithmic axes as people write them, not as powers of ten; over few decades more of them."""
    for one, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        is_short = np.log10(limits[1] / limits[0]) < DECADES_MIN
        one.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        one.set_minor_formatter(lambda value, _, shown=is_short: _between(value) if shown else "")


def _between(value: float) -> str:
    """A mark between two powers of ten: twice and five times the lower one are named."""
    text = f"{value:,.0f}"
    return text if text[0] in "25" else ""
