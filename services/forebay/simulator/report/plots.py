"""The plots of an experiment, each as SVG."""

from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.simulator.report.data import RunData
from forebay.simulator.report.figure import colours, dash, styled, to_svg
from forebay.simulator.report.tables import BY_KEY, class_label
from forebay.simulator.report.values import seconds
from forebay.simulator.statistics import Measure, Runs
from forebay.simulator.summary import ALL, CURVE_SHARES, Spread

LATENCIES = (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("E2E", "e2e_s"))
WIDTH_IN = 9.0
LEGEND_LINE_IN = 0.2
LETTER_IN = 0.068
"""A wide letter of a legend."""
HANDLE_IN = 0.65
"""A legend's line beside its text."""
LEGEND_COLUMNS_MAX = 4
Floats: TypeAlias = npt.NDArray[np.float64]


def attainment_plot(runs: Runs) -> str:
    """SLO attainment by class over load with intervals; bars where there is one load."""
    names = runs.classes if len(runs.classes) > 2 else runs.classes[:1]
    with styled() as make:
        figure = make(figsize=(WIDTH_IN, _height_in(3.0, runs.policies)), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        draw = _over_load if len(runs.loads) > 1 else _as_bars
        for axis, name in zip(axes, names, strict=True):
            draw(axis, runs, name, BY_KEY["attainment"], 100.0)
            axis.set_title(class_label(name))
        axes[0].set_ylabel("requests that met their SLO (%)")
        _legend(figure, axes[0], runs.policies)
        return to_svg(figure, "SLO attainment by class over load")


def _over_load(axis: Any, runs: Runs, slo_class: str, measure: Measure, scale: float) -> None:
    for index, (policy, colour) in enumerate(colours(runs.policies).items()):
        found = [(load, one) for load in runs.loads if (one := runs.estimate(policy, load, slo_class, measure))]
        loads = np.array([load for load, _ in found])
        means = np.array([scale * one.mean for _, one in found])
        halves = np.array([scale * (one.half or 0.0) for _, one in found])
        low, high = np.clip(means - halves, 0, scale), np.clip(means + halves, 0, scale)
        axis.plot(loads, means, dash(index), color=colour, marker="o", markersize=4, label=policy)
        axis.fill_between(loads, low, high, color=colour, alpha=0.18, linewidth=0)
    axis.set_xlabel("load (× the trace's rate)")
    axis.set_xticks(runs.loads)


def _as_bars(axis: Any, runs: Runs, slo_class: str, measure: Measure, scale: float) -> None:
    for place, (policy, colour) in enumerate(colours(runs.policies).items()):
        one = runs.estimate(policy, runs.loads[0], slo_class, measure)
        if one is not None:
            mean, half = scale * one.mean, scale * (one.half or 0.0)
            bars = [[min(half, mean)], [min(half, scale - mean)]]
            axis.errorbar(place, mean, bars, color=colour, fmt="o", markersize=7, capsize=5, label=policy)
    axis.set_xticks([])
    axis.set_xlim(-0.7, len(runs.policies) - 0.3)


def latency_plot(runs: Runs, load: float, slo_class: str = ALL) -> str:
    """The distributions of TTFT, TPOT and E2E of finished requests, a curve a policy, averaged over the seeds."""
    with styled() as make:
        figure = make(figsize=(WIDTH_IN, _height_in(3.0, runs.policies)), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for axis, (title, name) in zip(axes, LATENCIES, strict=True):
            for index, (policy, colour) in enumerate(colours(runs.policies).items()):
                curve = _mean_curve(runs, policy, load, slo_class, name)
                if curve is not None:
                    axis.plot(curve, CURVE_SHARES, dash(index), color=colour, label=policy)
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(_tick_seconds)
            axis.xaxis.set_minor_formatter(lambda *_: "")
            axis.set_title(title)
        axes[0].set_ylabel("share of finished requests")
        axes[0].set_ylim(0, 1.02)
        _legend(figure, axes[0], runs.policies)
        return to_svg(figure, f"Latency distributions at load {load:g}, {class_label(slo_class)}")


def _mean_curve(runs: Runs, policy: str, load: float, slo_class: str, name: str) -> Floats | None:
    curves = []
    for seed in runs.seeds:
        summary = runs.get(policy, load, seed)
        one = summary.of_class(slo_class) if summary else None
        spread: Spread | None = getattr(one, name) if one else None
        if spread is not None and spread.curve:
            curves.append(spread.curve)
    # A time of 0 has no place on a logarithmic axis.
    return np.maximum(np.mean(curves, axis=0), 1e-4) if curves else None


def pareto_plot(runs: Runs, oracles: Sequence[str]) -> str:
    """GPU-hours against attainment: a point a policy and load with both intervals; up and left is better."""
    markers = "osD^vPX*"
    with styled() as make:
        entries = len(runs.policies) + (len(runs.loads) if len(runs.loads) > 1 else 0)
        figure = make(figsize=(0.44 * WIDTH_IN + _label_in(runs.policies), max(3.8, 0.6 + LEGEND_LINE_IN * entries)))
        figure.set_layout_engine("constrained")
        axis = figure.subplots()
        for policy, colour in colours(runs.policies).items():
            for index, load in enumerate(runs.loads):
                hours = runs.estimate(policy, load, ALL, BY_KEY["gpu_hours"])
                met = runs.estimate(policy, load, ALL, BY_KEY["attainment"])
                if hours is not None and met is not None:
                    mean, half = 100 * met.mean, 100 * (met.half or 0.0)
                    axis.errorbar(
                        hours.mean,
                        mean,
                        [[min(half, mean)], [min(half, 100 - mean)]],
                        hours.half or 0.0,
                        fmt=markers[index % len(markers)],
                        color=colour,
                        markersize=8,
                        markerfacecolor="none" if policy in oracles else colour,
                        capsize=3,
                        elinewidth=1,
                    )
        axis.set_xlabel("GPU-hours")
        axis.set_ylabel("requests that met their SLO (%)")
        axis.margins(0.12)
        _pareto_legend(figure, axis, runs, markers)
        return to_svg(figure, "GPU-hours against SLO attainment")


def _pareto_legend(figure: Any, axis: Any, runs: Runs, markers: str) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=colour, linewidth=5, label=policy) for policy, colour in colours(runs.policies).items()
    ]
    if len(runs.loads) > 1:
        entries += [
            Line2D([], [], color="#7d8590", marker=markers[index % len(markers)], linestyle="", label=f"load {load:g}")
            for index, load in enumerate(runs.loads)
        ]
    figure.legend(handles=entries, loc="outside right upper")


def fleet_plot(data: Mapping[str, RunData]) -> str:
    """Arrivals, attainment, paid instances and cost over time, a line a policy."""
    names = list(data)
    with styled() as make:
        figure = make(figsize=(WIDTH_IN, _height_in(6.4, names)), layout="constrained")
        top, met, middle, bottom = figure.subplots(4, 1, sharex=True, height_ratios=(0.9, 1.3, 1.5, 1.1))
        first = data[names[0]]
        times, rates = first.arrival_rates()
        top.fill_between(times, rates, step="post", color="#7d8590", alpha=0.35, linewidth=0)
        top.set_ylabel("arrivals (req/s)")
        for index, (policy, colour) in enumerate(colours(names).items()):
            run = data[policy]
            met.plot(*_joined(*run.attainment()), dash(index), color=colour, alpha=0.9)
            times, counts = run.paid_instances()
            middle.step(times, counts, dash(index), where="post", color=colour, label=policy, alpha=0.9)
            times, costs = run.cost()
            bottom.plot(times, costs, dash(index), color=colour, alpha=0.9)
        met.set_ylabel("SLO met (%)")
        middle.set_ylabel("paid instances")
        bottom.set_ylabel("cost so far")
        for axis in (top, met, middle, bottom):
            axis.set_ylim(bottom=0)
        middle.yaxis.get_major_locator().set_params(integer=True)
        bottom.set_xlabel("minutes" if first.unit_s == 60 else "hours")
        bottom.set_xlim(0, first.end_s / first.unit_s)
        _legend(figure, middle, names)
        return to_svg(figure, "Arrivals, attainment, instances and cost over time")


def _joined(times: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """The line through those stretches of time in which anybody came."""
    known = ~np.isnan(shares)
    return times[known], 100 * shares[known]


def state_plot(runs: Runs, load: float) -> str:
    """The GPU-hours of each policy by state at one load, as bars."""
    states = ("serving", "idle", "loading", "draining")
    shades = ("#2a9d63", "#9fb8ad", "#d9822b", "#7c6bc9")
    with styled() as make:
        size_in = (0.54 * WIDTH_IN + _label_in(runs.policies), 0.9 + 0.42 * len(runs.policies))
        figure = make(figsize=size_in, layout="constrained")
        axis = figure.subplots()
        places = np.arange(len(runs.policies))[::-1]
        left = np.zeros(len(runs.policies))
        for state, shade in zip(states, shades, strict=True):
            hours = np.array([_mean_hours(runs, policy, load, state) for policy in runs.policies])
            axis.barh(places, hours, left=left, color=shade, height=0.62, label=state)
            left += hours
        axis.set_yticks(places, runs.policies)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(f"GPU-hours at load {load:g}")
        figure.legend(loc="outside right upper")
        return to_svg(figure, "GPU-hours by state")


def _mean_hours(runs: Runs, policy: str, load: float, state: str) -> float:
    found = [summary.fleet for seed in runs.seeds if (summary := runs.get(policy, load, seed))]
    return float(np.mean([getattr(fleet, f"{state}_gpu_hours") for fleet in found])) if found else 0.0


def length_plot(data: Mapping[str, RunData]) -> str | None:
    """Predicted against actual answer lengths, a panel a way of predicting; None where nobody predicted."""
    pairs = {policy: run.lengths() for policy, run in data.items()}
    shown = {policy: pair for policy, pair in pairs.items() if len(pair[0])}
    if not shown:
        return None
    with styled() as make:
        columns = min(3, len(shown))
        rows = -(-len(shown) // columns)
        figure = make(figsize=(WIDTH_IN * columns / 3, 3.0 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        top = max(float(max(predicted.max(), actual.max())) for predicted, actual in shown.values())
        for axis, (policy, (predicted, actual)) in zip(axes.flat, shown.items(), strict=False):
            _lengths(axis, predicted, actual, max(top, 2.0))
            axis.set_title("\n".join(wrap(policy, 34)))
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        for axis in axes[-1]:
            axis.set_xlabel("predicted p50 (tokens)")
        for axis in axes[:, 0]:
            axis.set_ylabel("answer (tokens)")
        return to_svg(figure, "Predicted against actual answer length")


def _lengths(axis: Any, predicted: Floats, actual: Floats, top: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    edges = np.geomspace(1, top * 1.05, 36)
    counts, _, _ = np.histogram2d(np.clip(predicted, 1, None), np.clip(actual, 1, None), bins=[edges, edges])
    # From see-through to full: it stands on light and on dark pages.
    shades = LinearSegmentedColormap.from_list("see-through", ["#3b82c400", "#3b82c4ff"])
    axis.pcolormesh(edges, edges, np.sqrt(counts.T), cmap=shades, rasterized=True)
    axis.plot([1, top], [1, top], color="#d9822b", linewidth=1.2)
    axis.set_xscale("log")
    axis.set_yscale("log")


def _legend(figure: Any, axis: Any, policies: Sequence[str]) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=_legend_columns(policies))


def _label_in(policies: Sequence[str]) -> float:
    """Inches of the longest name in a legend."""
    return HANDLE_IN + LETTER_IN * max(map(len, policies))


def _legend_columns(policies: Sequence[str]) -> int:
    return max(1, min(LEGEND_COLUMNS_MAX, len(policies), int(WIDTH_IN / _label_in(policies))))


def _height_in(height_in: float, policies: Sequence[str]) -> float:
    """Of a figure that has room for one line of legend: what more lines need comes on top."""
    return height_in + LEGEND_LINE_IN * (-(-len(policies) // _legend_columns(policies)) - 1)


def _tick_seconds(value: float, _: int) -> str:
    return f"{value:g} s" if value >= 1 else seconds(value)


PLOTS: Mapping[str, Callable[[Runs, float, Sequence[str]], str]] = {
    "attainment": lambda runs, load, oracles: attainment_plot(runs),
    "latency": lambda runs, load, oracles: latency_plot(runs, load),
    "pareto": lambda runs, load, oracles: pareto_plot(runs, oracles),
    "states": lambda runs, load, oracles: state_plot(runs, load),
}
"""The plots that `--plot` can write, by name."""
