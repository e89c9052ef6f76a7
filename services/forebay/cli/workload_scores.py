"""Scores forecasters on series of traffic, each beside the last value, and shows what they forecast."""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forebay.cli.workload_data import AMOUNTS, NamedSeries
from forebay.core.errors import ConfigError
from forebay.core.prediction import QUANTILE_LEVELS
from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster import Forecaster
from forebay.predictor.traffic.backtest import Score, Walk, Walked, score, walk
from forebay.predictor.traffic.intervals import MEDIAN
from forebay.predictor.traffic.tracks import Stopwatch
from forebay.simulator.report.figure import PALETTE, paper, stand_alone, styled, to_svg

BASELINE = "last_value"
ORIGIN_COUNT_MAX = 1_000
KNOWN_MIN = 20
"""Fewer windows than this to forecast from tell nothing."""
P10, P90 = QUANTILE_LEVELS.index(0.1), QUANTILE_LEVELS.index(0.9)


@dataclass(frozen=True, slots=True)
class Row:
    """One forecaster on one series: scores [lead][quantity], and what it took."""

    series: str
    model: str
    scores: tuple[tuple[Score, ...], ...]
    fit_s: float
    forecast_ms: float
    failure_count: int
    chosen: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Scored:
    """All rows, and of each series the walk of the forecaster that was asked for last."""

    rows: tuple[Row, ...]
    walks: Mapping[str, Walked]


def plan_of(named: NamedSeries, leads: Sequence[int], test_share: float, refit_s: float) -> Walk:
    """Where a series is forecast from: `ORIGIN_COUNT_MAX` moments at most. Raises ConfigError where it is too short."""
    series = named.series
    first = max(2, round(len(series) * (1 - test_share)))
    if len(series) - first < KNOWN_MIN + max(leads):
        needed = round((KNOWN_MIN + max(leads)) / test_share) + 1
        raise ConfigError(
            f"{named.name} has {len(series)} windows, and {needed} are needed; take a shorter --window or --horizon"
        )
    refit = max(1, round(refit_s * US_PER_S / series.window_us))
    return Walk(tuple(leads), first, max(1, (len(series) - first) // ORIGIN_COUNT_MAX), refit)


def score_all(
    found: Sequence[NamedSeries],
    policies: Mapping[str, Forecaster],
    plan: Callable[[NamedSeries], Walk],
    stopwatch: Stopwatch,
    done: Callable[[Row], None] = lambda _: None,
) -> Scored:
    """Every policy on every series; `done` hears of each as it comes."""
    rows: list[Row] = []
    walks: dict[str, Walked] = {}
    for named in found:
        for name, policy in policies.items():
            walked = walk(policy, named.series, plan(named), stopwatch)
            rows.append(_row(named.name, name, walked))
            walks[named.name] = walked
            done(rows[-1])
    return Scored(tuple(rows), walks)


def mean_gain(rows: Sequence[Row], model: str, lead: int, quantity: int = 0) -> float:
    """By what share of the last value's WAPE the model is better, on average over the series that have any traffic."""
    base = {row.series: row.scores[lead][quantity].wape for row in rows if row.model == BASELINE}
    gains = [
        1 - row.scores[lead][quantity].wape / base[row.series]
        for row in rows
        if row.model == model and base.get(row.series, np.nan) > 0
    ]
    return float(np.mean(gains)) if gains else float("nan")


def document(rows: Sequence[Row], leads: Sequence[int], window_s: int) -> dict[str, Any]:
    """The rows as JSON; what is not known is null."""
    return {
        "window_s": window_s,
        "leads": list(leads),
        "rows": [
            {
                "series": row.series,
                "model": row.model,
                "fit_s": row.fit_s,
                "forecast_ms": row.forecast_ms,
                "failure_count": row.failure_count,
                "chosen": dict(row.chosen),
                "scores": [
                    {"lead": lead, "quantity": name, **_told(row.scores[place][quantity])}
                    for place, lead in enumerate(leads)
                    for quantity, name in enumerate(AMOUNTS)
                ],
            }
            for row in rows
        ],
    }


def write_page(path: Path, found: Sequence[NamedSeries], scored: Scored, plan: Callable[[NamedSeries], Walk]) -> None:
    """A page with a plot of each series: what came, and what was forecast for it one lead before, with P10 to P90.

    Raises ConfigError where plots cannot be made or the file not be written.
    """
    plots = [
        f"<h2>{html.escape(named.name)}</h2>{_plot(named, scored.walks[named.name], plan(named))}" for named in found
    ]
    style = "body{font:15px sans-serif;max-width:1100px;margin:2rem auto}svg{width:100%;height:auto}"
    head = f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Forecasts</title><style>{style}</style>"
    try:
        path.write_text(f"{head}<h1>Forecasts of traffic</h1>{''.join(plots)}</html>")
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror}); choose another file") from error


def _plot(named: NamedSeries, walked: Walked, plan: Walk) -> str:
    lead = len(plan.leads) - 1
    hours = (walked.origins + plan.leads[lead] - 1) * named.series.window_us / US_PER_S / 3600
    curves = walked.curves[:, lead, 0]
    with styled() as figure_class:
        figure = figure_class(figsize=(10, 3))
        axes = figure.add_subplot()
        axes.fill_between(hours, curves[:, P10], curves[:, P90], color=PALETTE[0], alpha=0.25, label="P10 to P90")
        axes.plot(hours, walked.truth[:, lead, 0], color=PALETTE[1], lw=0.9, label="came")
        axes.plot(hours, curves[:, MEDIAN], color=PALETTE[0], lw=0.9, label="forecast")
        axes.set_xlabel("hours since the start")
        axes.set_ylabel("requests a window")
        axes.set_title(f"{plan.leads[lead]} windows ahead")
        axes.legend(facecolor=paper())
        return stand_alone(to_svg(figure, named.name))


def _row(series: str, model: str, walked: Walked) -> Row:
    scores = tuple(
        tuple(score(walked, lead, quantity) for quantity in range(len(AMOUNTS)))
        for lead in range(walked.truth.shape[1])
    )
    forecast_ms = 1e3 * float(np.mean(walked.forecast_s))
    return Row(series, model, scores, float(np.mean(walked.fit_s)), forecast_ms, walked.failure_count, walked.labels)


def _told(one: Score) -> dict[str, float | None]:
    values = {"wape": one.wape, "coverage_p90": one.coverage_p90, "pinball": one.pinball, "count": one.count}
    return {name: None if np.isnan(value) else value for name, value in values.items()}
