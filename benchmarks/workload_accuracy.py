"""How good forecasts of production traffic are beside the last value, and what they cost.

ServeGen's m-large and m-small (alibaba/ServeGen, Apache-2.0): requests in windows of 600 s over ten days, as a total
and for the busiest clients alone. Every forecast is made from what was known then, over the last five days, with a
refit of those who choose every two hours (the service's are hourly) and of the others twice a day. The boosted trees
are trained here, on the other services alone (m-large: on m-small and deepseek-r1), with five seeds; the network that
ships has seen all three, so it would know too much. WAPE is the sum of absolute errors of the median over the sum of
the traffic; P90 should cover 90 %. Without the data (FOREBAY_DATA or ../shared/data) nothing is measured.

How far behind the last value a series is stands beside what chance alone makes of such a difference: the mean of the
differences of the absolute errors in its own standard errors, forecasts that overlap counted once.

Bar: chosen forecasts are never worse than the last value (beyond 1 %), and 15 % better on average at 1 h and 2 h.
Run: PYTHONPATH=services:clients/python nice python -m benchmarks.workload_accuracy [--quick] [--json FILE]
"""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from benchmarks import common
from forebay.cli.workload_data import NamedSeries, busiest, servegen
from forebay.cli.workload_scores import BASELINE, Row, mean_gain, score_all
from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster import (
    FORECASTERS,
    Boosting,
    Fitted,
    Forecaster,
    LastValue,
    LeastCost,
    Seasonal,
    Smoothing,
)
from forebay.predictor.traffic.backtest import Walk, Walked, walk
from forebay.predictor.traffic.intervals import MEDIAN
from forebay.predictor.traffic.learned import curves_of, lead_max_of, learn
from forebay.predictor.traffic.nets import StoredNet
from forebay.predictor.traffic.series import Series
from forebay.predictor.traffic.tracks import Stopwatch
from forebay.predictor.traffic.walkforward import Chosen, choose
from forebay.simulator.traces.servegen import read_rates
from forebay.train.workload import BoostingSettings, mixtures, train_boosting

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FOREBAY_DATA", ROOT.parent / "shared" / "data")) / "open" / "traces"
SCORED, TAUGHT = ("m-large", "m-small"), ("m-large", "m-small", "deepseek-r1")
WINDOW_US = 600 * US_PER_S
LEADS, AHEAD = (1, 6, 12), ("10 min", "1 h", "2 h")
STATISTICAL = ("auto_arima", "auto_ets", "auto_theta", "mstl")
WORSE_MAX = 0.01
"""Within this share a series counts as level with the last value: chance alone moves it so far."""


@dataclass(frozen=True, slots=True)
class Chooser:
    """`least_cost` with a network of ours in the place of the one that ships."""

    net: StoredNet

    def fit(self, series: Series) -> Fitted:
        return self.choose(series, 144, None)

    def choose(self, series: Series, lead_max: int, stopwatch: Stopwatch | None) -> Chosen:
        found: Mapping[str, Forecaster] = {
            "last_value": LastValue(),
            "smoothing": Smoothing(),
            "boosting": Boosting(net=self.net),
            "seasonal": Seasonal(),
        }
        assert tuple(found) == LeastCost().candidates
        return choose(found, series, lead_max, LeastCost()._costs(), stopwatch)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    seeds: tuple[int, ...]
    settings: BoostingSettings
    client_count: int
    step: int
    client_step: int
    fit_count: int
    with_statistical: bool


FULL = Scale((0, 1, 2, 3, 4), BoostingSettings(pair_count=500), 6, 1, 1, 400, True)
QUICK = Scale((0,), BoostingSettings(pair_count=300, tree_count=80), 2, 6, 3, 40, False)


@dataclass(frozen=True, slots=True)
class Beside:
    """Walks of the chosen forecasters and of the last value over one series, a forecast every `step` windows."""

    series: str
    chosen: Walked
    last: Walked
    step: int

    def above(self, place: int) -> tuple[float, float]:
        """How much larger the error of the chosen is at a lead, as a share and in standard errors; NaN if unknown."""
        truth = self.chosen.truth[:, place, 0]
        errors, usual = (np.abs(truth - one.curves[:, place, 0, MEDIAN]) for one in (self.chosen, self.last))
        known = ~np.isnan(truth)
        more = errors[known] - usual[known]
        if not usual[known].sum() > 0:
            return np.nan, np.nan
        distinct = len(more) / max(1.0, LEADS[place] / self.step)
        error = float(more.std()) / distinct**0.5
        return float(more.sum() / usual[known].sum()), float(more.mean()) / error if error else 0.0


def path_of(service: str) -> Path:
    return next(DATA.glob(f"servegen_{service}_rates*.parquet"))


def net_without(service: str, seed: int, settings: BoostingSettings, folder: Path) -> StoredNet:
    """Trees that have never seen the service."""
    chance = np.random.default_rng(seed)
    others = [name for name in TAUGHT if name != service]
    series = [one for name in others for one in mixtures(read_rates(path_of(name)).counts, chance)]
    path = folder / f"{service}-{seed}.onnx"
    path.write_bytes(train_boosting(series, WINDOW_US, replace(settings, seed=seed)))
    return StoredNet(str(path))


def plan(named: NamedSeries, step: int, refit: int = 72) -> Walk:
    return Walk(LEADS, len(named.series) // 2, step, refit)


def score_totals(
    report: common.Report, nets: Mapping[tuple[str, int], StoredNet], scale: Scale, pairs: list[Beside]
) -> list[Row]:
    """All forecasters on the totals; those with a network once a seed."""
    kept: list[Row] = []
    for service in SCORED:
        named = servegen(path_of(service))
        names = (BASELINE, "seasonal", "smoothing", "least_error")
        plain: dict[str, Forecaster] = {name: FORECASTERS[name]() for name in names}
        if scale.with_statistical:
            slow: dict[str, Forecaster] = {name: FORECASTERS[name]() for name in STATISTICAL}
            found = list(score_all([named], slow, partial(plan, step=scale.step), time.perf_counter).rows)
        else:
            found = []
        found += score_all([named], plain, partial(plan, step=scale.step), time.perf_counter).rows
        for seed in scale.seeds:
            net = nets[service, seed]
            trained: dict[str, tuple[Forecaster, int]] = {
                "boosting": (Boosting(net=net), 72),
                "least_cost": (Chooser(net), 12),
            }
            for name, (policy, refit) in trained.items():
                chosen_plan = partial(plan, step=scale.step, refit=refit)
                scored = score_all([named], {name: policy}, chosen_plan, time.perf_counter)
                found += scored.rows
                if name == "least_cost":
                    pairs.append(beside(named, scored.walks[named.name], scale.step))
        for quantity, name in enumerate(("requests", "prompt tokens", "response tokens")):
            show(report, f"{service} in all: {name}", found, quantity)
        kept += found
    return kept


def beside(named: NamedSeries, chosen: Walked, step: int) -> Beside:
    return Beside(named.name, chosen, walk(LastValue(), named.series, plan(named, step), time.perf_counter), step)


def show(report: common.Report, title: str, rows: Sequence[Row], quantity: int) -> None:
    """One line a forecaster; means over its seeds, and how far they are apart."""
    cells: list[list[common.Cell]] = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        wapes = np.array([[row.scores[place][quantity].wape for place in range(len(LEADS))] for row in own])
        covered = np.mean([[row.scores[place][quantity].coverage_p90 for place in range(len(LEADS))] for row in own], 0)
        spans = [f"{low:.3f}-{high:.3f}" for low, high in zip(wapes.min(0), wapes.max(0), strict=True)]
        shown = spans if len(own) > 1 else [f"{value:.3f}" for value in wapes[0]]
        times = (float(np.mean([row.fit_s for row in own])), float(np.mean([row.forecast_ms for row in own])))
        cells.append([model, *(cell for pair in zip(shown, covered, strict=True) for cell in pair), *times])
    columns = [f"{what} {one}" for one in AHEAD for what in ("WAPE", "P90")]
    report.table(title, ["forecaster", *columns, "fit s", "forecast ms"], [[*row] for row in cells])


def score_clients(
    report: common.Report, nets: Mapping[tuple[str, int], StoredNet], scale: Scale, pairs: list[Beside]
) -> list[Row]:
    """The busiest clients, each a series of its own."""
    kept: list[Row] = []
    seed = scale.seeds[0]
    for service in SCORED:
        path = path_of(service)
        found = [servegen(path, client=client) for client in busiest(path, scale.client_count)]
        found = [one for one in found if np.nansum(one.series.values[len(one.series) // 2 :, 0]) > 0]
        policies: dict[str, Forecaster] = {BASELINE: LastValue(), "least_cost": Chooser(nets[service, seed])}
        scored = score_all(found, policies, partial(plan, step=scale.client_step, refit=12), time.perf_counter)
        kept += scored.rows
        pairs += [beside(one, scored.walks[one.name], scale.client_step) for one in found]
    cells: list[list[common.Cell]] = []
    for last, best in zip(kept[::2], kept[1::2], strict=True):
        row: list[common.Cell] = [best.series]
        for place in range(len(LEADS)):
            row += [last.scores[place][0].wape, best.scores[place][0].wape, best.scores[place][0].coverage_p90]
        cells.append(row)
    columns = [f"{what} {one}" for one in AHEAD for what in ("last", "chosen", "P90")]
    report.table("Busiest clients: WAPE of requests", ["client", *columns], cells)
    return kept


def worst(pairs: Sequence[Beside]) -> list[tuple[float, float, str, str]]:
    """How much worse than the last value the chosen are, as a share and in standard errors; the worst first."""
    found = [(*one.above(place), one.series, ahead) for one in pairs for place, ahead in enumerate(AHEAD)]
    return sorted((one for one in found if not np.isnan(one[0])), reverse=True)


def time_many(report: common.Report, count: int) -> None:
    """What the forecaster that ships costs for many series of a week each: random mixtures of m-large's clients."""
    chance = np.random.default_rng(0)
    clients = read_rates(path_of("m-large")).counts[:1_008]
    policy, lead_max = LeastCost(), lead_max_of(WINDOW_US)
    fit_s, forecast_s = [], []
    for _ in range(count):
        requests = clients[:, chance.random(clients.shape[1]) < chance.uniform(0.02, 0.5)].sum(axis=1)
        series = Series(np.column_stack((requests, 900 * requests, 150 * requests)), 0, WINDOW_US)
        began = time.perf_counter()
        learned = learn(policy, series, lead_max, time.monotonic)
        fit_s.append(time.perf_counter() - began)
        began = time.perf_counter()
        curves_of(learned, series, np.arange(2, 146))
        forecast_s.append(time.perf_counter() - began)
    fits, asks = np.array(fit_s), np.array(forecast_s)
    per_thousand = 1_000 / count
    rows: list[list[common.Cell]] = [
        ["refit", float(np.median(fits)), float(np.quantile(fits, 0.99)), float(fits.sum()) * per_thousand],
        ["forecast of a day", float(np.median(asks)), float(np.quantile(asks, 0.99)), float(asks.sum()) * per_thousand],
    ]
    report.table(f"One core, {count} series of 1,008 windows", ("what", "p50 s", "p99 s", "s for 1,000 series"), rows)
    report.figures["refit_1000_series_s"] = float(rows[0][3])
    report.figures["forecast_1000_series_s"] = float(rows[1][3])


def conclude(report: common.Report, rows: Sequence[Row], pairs: Sequence[Beside]) -> None:
    series = list(dict.fromkeys(row.series for row in rows))
    cells: list[list[common.Cell]] = []
    for place, ahead in enumerate(AHEAD):
        gain = mean_gain(rows, "least_cost", place)
        totals = mean_gain([row for row in rows if row.series in SCORED], "least_cost", place)
        cells.append([ahead, 100 * totals, 100 * gain])
        report.figures[f"gain_{LEADS[place] * 10}min_percent"] = 100 * gain
        report.figures[f"gain_totals_{LEADS[place] * 10}min_percent"] = 100 * totals
    title = f"WAPE below the last value's, % on average: of both totals, of all {len(series)} series"
    report.table(title, ("ahead", "totals", "all"), cells)
    found = worst(pairs)
    behind = [one for one in found if one[0] > WORSE_MAX]
    report.figures["worst_percent"] = 100 * found[0][0]
    report.figures["worst_sigmas"] = max(one[1] for one in found)
    report.figures["worse_count"] = len(behind)
    shown: list[list[common.Cell]] = [[name, ahead, 100 * share, sigmas] for share, sigmas, name, ahead in found[:8]]
    columns = ("series", "ahead", "WAPE above it, %", "in standard errors")
    report.table(f"Nearest to the last value, or behind it, of {len(found)}", columns, shown)
    holds = not behind and all(report.figures[f"gain_{minutes}min_percent"] >= 15 for minutes in (60, 120))
    verdict = "holds" if holds else "does not hold"
    print("bar:", "not judged by so few forecasts" if report.quick else verdict, flush=True)


@click.command()
@common.options
def main(quick: bool, json_path: str | None) -> None:
    """Measure the accuracy and the cost of workload forecasts."""
    report = common.Report("workload_accuracy", quick)
    if not DATA.is_dir():
        print(f"nothing to measure: {DATA} is not there; set FOREBAY_DATA to the folder of the public data")
        return report.close(json_path)
    scale = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        nets = {
            (service, seed): net_without(service, seed, scale.settings, Path(name))
            for service in SCORED
            for seed in scale.seeds
        }
        report.figures["train_s"] = time.perf_counter() - began
        pairs: list[Beside] = []
        rows = score_totals(report, nets, scale, pairs)
        rows += score_clients(report, nets, scale, pairs)
    conclude(report, rows, pairs)
    time_many(report, scale.fit_count)
    return report.close(json_path)


if __name__ == "__main__":
    main()
