"""`forebay evaluate workload`: how good forecasts of traffic would have been on anybody's data."""

import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np

from forebay.cli.console import make_console, make_table, print_json, share
from forebay.cli.options import json_option, names
from forebay.cli.workload_data import ABSENT, AMOUNTS, KEYS, NamedSeries, Reading, read_series
from forebay.cli.workload_scores import BASELINE, Row, document, mean_gain, plan_of, score_all, write_page
from forebay.core.errors import ConfigError
from forebay.plugins import choose, with_plugins
from forebay.predictor.config import Config
from forebay.predictor.policy.forecaster import FORECASTERS, Forecaster

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LEAD_COUNT_MAX = 1_440
AHEAD = ("", "1h", "2h")
"""Leads that are scored where none is named: the next window, an hour, two hours."""


@click.command()
@click.option(
    "--data", "paths", type=click.Path(path_type=Path, exists=True), multiple=True, required=True, metavar="FILE"
)
@click.option("--window", type=click.IntRange(1, 3_600), default=600, show_default=True, help="Seconds of a window.")
@click.option("--horizon", metavar="10m,1h,…", help="How far ahead to score. Default: one window, 1 h and 2 h.")
@click.option(
    "--models", metavar="A,B,…", help="Forecasters. Default: the last value, the season and the service's own."
)
@click.option("--by", default=",".join(KEYS), show_default=True, help="What tells series apart; the rest is added up.")
@click.option(
    "--absent", type=click.Choice(ABSENT), default="gap", show_default=True, help="Windows that are not there."
)
@click.option("--format", "format_", default="", help="points, or a format of: forebay simulate. Default: guessed.")
@click.option(
    "--test", type=click.FloatRange(0.05, 0.95), default=0.5, show_default=True, help="Share that is forecast."
)
@click.option("--refit", default="6h", show_default=True, help="Time between refits.")
@click.option(
    "--quantity", type=click.Choice(AMOUNTS), default=AMOUNTS[0], show_default=True, help="What the table shows."
)
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Page of plots to write.")
@json_option
def workload(
    paths: Sequence[Path],
    window: int,
    horizon: str | None,
    models: str | None,
    by: str,
    absent: str,
    format_: str,
    test: float,
    refit: str,
    quantity: str,
    report: Path | None,
    as_json: bool,
) -> None:
    """Score forecasts of traffic on your own data, beside the last value.

    Walks through the later part of each series as the service does: at every window it forecasts from what was known
    then, and fits anew now and then (long series: at every few windows). WAPE is the sum of errors over the sum of
    traffic; P90 should cover 90 %; the cost is the mean pinball loss of all quantiles in shares of the traffic.

    The networks that ship have learned from ServeGen's services: no score on those is fair to the other forecasters.

    \b
    FILE is CSV, JSON lines or Parquet of points, one a series and window (or finer), with the columns
      start_time (seconds since 1970, or 2026-01-31T00:10:00Z), requests, and where known
      prompt_tokens, response_tokens, model, region, class;
    or a trace in any format that `forebay simulate` reads, such as what `forebay export requests` writes.

    \b
    Examples:
      forebay evaluate workload --data traffic.csv
      forebay evaluate workload --data requests.jsonl --window 60 --horizon 1m,10m,1h --report forecasts.html
      forebay evaluate workload --data servegen_m-large_rates_day01-10.parquet --models last_value,least_error --json
    """
    found = read_series(paths, Reading(window, tuple(names(by)), absent, format_))
    leads = leads_of(horizon, window)
    plan = partial(plan_of, leads=leads, test_share=test, refit_s=seconds_of(refit))
    kept = [named for named in found if _is_long_enough(named, leads, test)] or found[:1]
    scored = score_all(kept, policies_of(models), plan, time.perf_counter)
    if report:
        write_page(report, kept, scored, plan)
    if as_json:
        print_json(document(scored.rows, leads, window))
        return
    _print(scored.rows, leads, window, AMOUNTS.index(quantity))
    for named in found:
        if named not in kept:
            click.echo(f"left out, too short: {named.name} ({len(named.series)} windows)")


def policies_of(models: str | None) -> dict[str, Forecaster]:
    """The forecasters by name, the last value first. Raises ConfigError for one that is not known."""
    known = with_plugins("forecaster", FORECASTERS)
    wanted = names(models) or ["seasonal", Config().forecaster]
    return {name: choose("forecaster", name, known, {}) for name in dict.fromkeys((BASELINE, *wanted))}


def leads_of(horizon: str | None, window_s: int) -> tuple[int, ...]:
    """How many windows ahead. Raises ConfigError for a time that is no multiple of the window."""
    wanted = [seconds_of(one) for one in names(horizon)] if horizon else _usual(window_s)
    leads = sorted({round(one / window_s) for one in wanted})
    if any(one % window_s for one in wanted) or leads[0] < 1 or leads[-1] > LEAD_COUNT_MAX:
        raise ConfigError(f"--horizon must hold times of 1 to {LEAD_COUNT_MAX:,} whole windows of {window_s} s")
    return tuple(leads)


def seconds_of(text: str) -> int:
    """Seconds of a time such as 90, 90s, 10m, 2h or 1d. Raises ConfigError for anything else."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text.strip())
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"{text!r} is no time; write 90s, 10m, 2h or 1d")
    return int(match[1]) * UNITS[match[2] or "s"]


def _usual(window_s: int) -> list[int]:
    times = [seconds_of(one) if one else window_s for one in AHEAD]
    return [one for one in times if one % window_s == 0]


def _is_long_enough(named: NamedSeries, leads: Sequence[int], test: float) -> bool:
    try:
        plan_of(named, leads, test, 1.0)
    except ConfigError:
        return False
    return True


def _print(rows: Sequence[Row], leads: Sequence[int], window_s: int, quantity: int) -> None:
    console = make_console()
    ahead = [_ahead(lead * window_s) for lead in leads]
    columns = ("WAPE", "to last", "P90 %", "cost", "fit s", "ms")
    for name in dict.fromkeys(row.series for row in rows):
        title = f"{name}: {AMOUNTS[quantity]}, windows of {window_s} s"
        table = make_table(title, "forecaster", "ahead", *columns, right="|".join(columns))
        own = [row for row in rows if row.series == name]
        base = next(row for row in own if row.model == BASELINE)
        for row in own:
            for place, one in enumerate(ahead):
                table.add_row("" if place else row.model, one, *_cells(row, base, place, quantity))
        console.print(table)
    for model in dict.fromkeys(row.model for row in rows if row.model != BASELINE):
        gains = ", ".join(
            f"{share(_known(mean_gain(rows, model, place, quantity)))} at {one}" for place, one in enumerate(ahead)
        )
        failures = sum(row.failure_count for row in rows if row.model == model)
        console.print(
            f"{model}: WAPE below the last value's by {gains}" + (f"; {failures} failures" if failures else "")
        )


def _cells(row: Row, base: Row, place: int, quantity: int) -> list[str]:
    one, last = row.scores[place][quantity], base.scores[place][quantity].wape
    times = ["", ""] if place else [f"{row.fit_s:.2g}", f"{row.forecast_ms:.2g}"]
    gain = one.wape / last - 1 if last > 0 else float("nan")
    return [
        _shown(one.wape, "{:.3f}"),
        _shown(gain * 100, "{:+.1f} %"),
        _shown(one.coverage_p90 * 100, "{:.1f}"),
        _shown(one.pinball, "{:.3f}"),
        *times,
    ]


def _shown(value: float, form: str) -> str:
    return "–" if np.isnan(value) else form.format(value)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _ahead(seconds: int) -> str:
    for unit in ("d", "h", "m"):
        if seconds % UNITS[unit] == 0:
            return f"{seconds // UNITS[unit]}{unit}"
    return f"{seconds}s"
