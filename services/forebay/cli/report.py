"""The table at the end of a load run, for a reader and as JSON."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from forebay.cli.console import make_table, seconds, share
from forebay.cli.fleet import FleetSample, sparkline
from forebay.cli.stats import LengthAccuracy, Slow, Spread, Summary


def print_report(console: Console, summary: Summary, samples: Sequence[FleetSample], hints: Sequence[str]) -> None:
    """Prints the figures, the fleet over time, the slowest decisions and where to look next."""
    console.print(_figures(summary))
    if summary.failures:
        console.print(_failures(summary))
    if samples:
        console.print(fleet_over_time(samples))
    if summary.slowest:
        console.print(_slowest(summary.slowest))
    for hint in hints:
        console.print(Text(hint, style="dim"))


def _figures(summary: Summary) -> Table:
    table = make_table("Load", "", "", right="")
    table.show_header = False
    table.columns[0].no_wrap = True
    for name, value in _rows(summary):
        table.add_row(name, value)
    return table


def _rows(summary: Summary) -> Iterator[tuple[str, str]]:
    cancelled = f", {summary.cancelled_count} cancelled" if summary.cancelled_count else ""
    yield (
        "requests",
        f"{summary.request_count} in {seconds(summary.wall_s)}: {summary.ok_count} answered, "
        + (f"{summary.failed_count} failed{cancelled}"),
    )
    yield "output", f"{summary.output_tokens} tokens, {summary.output_tokens_per_s:.1f} tokens/s"
    for name, value in (("TTFT", summary.ttft_s), ("TPOT", summary.tpot_s), ("E2E", summary.e2e_s)):
        yield name, _spread(value)
    for one in summary.attainment:
        rate = share(one.met_count / one.total_count)
        yield (
            f"SLO {one.slo_class}",
            (f"{rate} with TTFT ≤ {seconds(one.ttft_limit_s)} ({one.met_count} of {one.total_count})"),
        )
    yield from _length_rows(summary.length)


def _spread(value: Spread) -> str:
    return f"p50 {seconds(value.p50)}   p90 {seconds(value.p90)}   p99 {seconds(value.p99)}"


def _length_rows(value: LengthAccuracy) -> Iterator[tuple[str, str]]:
    cut = f" ({value.cut_count} cut answers left out)" if value.cut_count else ""
    if value.median_abs_error is None:
        yield "predicted length", f"no whole answer came with a prediction{cut}"
        return
    yield "predicted length", f"median error {value.median_abs_error:.0f} tokens over {value.count} predictions{cut}"
    quantiles = (("p50", value.within_p50), ("p90", value.within_p90), ("p97", value.within_p97))
    yield "answers within", ", ".join(f"predicted {name}: {share(part)}" for name, part in quantiles)


def _failures(summary: Summary) -> Table:
    table = make_table("Failures", "reason", "requests", right="requests")
    for reason, count in summary.failures.items():
        table.add_row(reason, str(count))
    return table


def fleet_over_time(samples: Sequence[FleetSample]) -> Table:
    """Ready instances of each model over time, with those that start or drain now."""
    table = make_table("Ready instances", "model", f"over {seconds(samples[-1].at_s)}", "least", "most", "last")
    for model in sorted({name for sample in samples for name in sample.models}):
        ready = [sample.models[model].ready if model in sample.models else 0 for sample in samples]
        table.add_row(model, sparkline(ready), str(min(ready)), str(max(ready)), str(ready[-1]))
    return table


def _slowest(slowest: Sequence[Slow]) -> Table:
    table = make_table("Slowest first tokens", "decision", "model", "instance", "TTFT", "E2E", right="TTFT|E2E")
    for one in slowest:
        table.add_row(one.decision_id, one.model, one.instance_id, seconds(one.ttft_s), seconds(one.e2e_s))
    return table


def as_json(summary: Summary, samples: Sequence[FleetSample], options: Mapping[str, Any]) -> dict[str, Any]:
    """The run as one JSON object: options, figures, fleet samples."""
    return {
        "options": dict(options),
        **dataclasses.asdict(summary),
        "fleet": [dataclasses.asdict(sample) for sample in samples],
    }


def progress_view(title: str, cells: Sequence[tuple[str, str]], fleet: RenderableType | None = None) -> RenderableType:
    """One line of figures while a run goes on, with the fleet below."""
    line = Text(f"{title}  ", style="bold")
    for name, value in cells:
        line.append(f"{name} ", style="dim")
        line.append(f"{value}   ", style="not bold")
    return Group(line, fleet) if fleet is not None else line
