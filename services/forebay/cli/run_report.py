"""The tables at the end of one simulated run."""

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from forebay.cli.console import make_table
from forebay.simulator.distance import Distance
from forebay.simulator.report.values import NOTHING, figure, number, seconds
from forebay.simulator.summary import ClassSummary, Spread, Summary


def print_run(console: Console, summary: Summary, cpu_s: float) -> None:
    """Prints the figures by class, the fleet's, and why requests were turned away."""
    console.print(_requests(summary))
    console.print(_fleet(summary))
    if summary.rejections:
        table = make_table("Turned away", "reason", "requests", right="requests")
        for reason, count in sorted(summary.rejections.items(), key=lambda one: -one[1]):
            table.add_row(reason, f"{count:,}")
        console.print(table)
    count = summary.classes[0].request_count
    speed = f", {number(count / cpu_s)} requests a second" if cpu_s > 0 else ""
    text = f"{seconds(summary.end_s)} of traffic in {seconds(cpu_s)} of processor time{speed}"
    console.print(Text(text, style="dim"))


def _requests(summary: Summary) -> Table:
    classes = summary.classes if len(summary.classes) > 2 else summary.classes[:1]
    titles = [f"all ({summary.classes[1].slo_class})" if len(summary.classes) == 2 else "all"]
    titles += [one.slo_class.replace("interactive-", "interactive-\n") for one in classes[1:]]
    table = make_table("Requests", "", *titles, right="|".join(titles))
    table.columns[0].no_wrap = True
    for name, value in _rows():
        cells = [value(one) for one in classes]
        if any(cell != NOTHING for cell in cells):
            table.add_row(name, *cells)
    return table


def _rows() -> Iterator[tuple[str, Callable[[ClassSummary], str]]]:
    yield "arrived", lambda one: f"{one.request_count:,}"
    yield "finished", lambda one: f"{one.finished_count:,}"
    yield "rejected", lambda one: _count(one.rejected_count)
    yield "failed", lambda one: _count(one.failed_count)
    yield "unfinished", lambda one: _count(one.unfinished_count)
    yield "SLO met", lambda one: figure(one.attainment, "%")
    yield "late first token", lambda one: _count(one.ttft_miss_count)
    yield "slow tokens", lambda one: _count(one.tpot_miss_count)
    yield "late end", lambda one: _count(one.e2e_miss_count)
    yield "goodput, req/s", lambda one: number(one.goodput_per_s)
    yield "output, tokens/s", lambda one: number(one.output_tokens_per_s)
    for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("E2E", "e2e_s")):
        for which in ("mean", "p50", "p90", "p99"):
            yield f"{name} {which}", _spread(key, which)
    yield "held by the scheduler, mean", _spread("held_s", "mean")
    yield "length error, median", lambda one: figure(one.length.median_abs_error, "tokens")
    yield "answers within predicted p90", lambda one: figure(one.length.within_p90, "%")
    yield "preemptions", lambda one: _count(one.preemption_count)
    yield "tokens lost to evictions", lambda one: _count(one.lost_tokens)
    yield "answer quality", lambda one: figure(one.quality_mean if one.quality_mean != 1 else None, "%")
    yield "prefix hits", lambda one: figure(one.prefix_hit_share or None, "%")


def _count(value: int) -> str:
    """A count of what one hopes there is none of: rows without any are left out."""
    return f"{value:,}" if value else NOTHING


def _spread(key: str, which: str) -> Callable[[ClassSummary], str]:
    def value(one: ClassSummary) -> str:
        spread: Spread = getattr(one, key)
        return figure(getattr(spread, which) or None, "s")

    return value


def _fleet(summary: Summary) -> Table:
    fleet = summary.fleet
    table = make_table("Fleet", "", "")
    table.show_header = False
    hours = (
        f"{name} {number(value)}"
        for name, value in (
            ("serving", fleet.serving_gpu_hours),
            ("idle", fleet.idle_gpu_hours),
            ("loading", fleet.loading_gpu_hours),
            ("draining", fleet.draining_gpu_hours),
            ("spot", fleet.spot_gpu_hours),
        )
        if value
    )
    table.add_row(
        "GPU-hours", f"{number(fleet.gpu_hours)}: {', '.join(hours)}; wasted {number(fleet.wasted_gpu_hours)}"
    )
    if summary.distance != Distance():
        table.add_row("at least", _distance(summary.distance))
    table.add_row("cost", number(fleet.cost))
    if fleet.energy_kwh:
        table.add_row("energy", f"{number(fleet.energy_kwh)} kWh")
    if summary.programs.program_count:
        spread = summary.programs.e2e_s
        spans = f"E2E p50 {figure(spread.p50, 's')}, p99 {figure(spread.p99, 's')}"
        table.add_row("programs", f"{summary.programs.finished_count:,} of {summary.programs.program_count:,}, {spans}")
    table.add_row("instances", f"{number(fleet.instances_mean)} on average, {fleet.instances_peak} at most")
    lost = f", {fleet.lost_count} lost" if fleet.lost_count else ""
    table.add_row(
        "scaling", f"{fleet.scaling_count} instances added or removed, {fleet.reversal_count} of them back again{lost}"
    )
    return table


def _distance(distance: Distance) -> str:
    """What was needed at the very least, and how far the run is from that."""
    if distance.lower_gpu_hours is None or distance.busy_gpu_hours is None:
        return f"unknown: {distance.refusal}"
    used = f"; used: {number(distance.ratio)} × that" if distance.ratio else ""
    busy = f"{number(distance.busy_gpu_hours)} computing"
    return f"{number(distance.lower_gpu_hours)} GPU-hours are needed for the same SLO met, {busy}{used}"
