"""`forebay compare`: several policies over the same traffic in the simulator, with a report."""

import dataclasses
import json
import os
import shlex
import signal
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from forebay.cli.console import make_console, make_folder, make_table, print_json
from forebay.cli.datasets import data_dir
from forebay.cli.loaders import SAMPLES
from forebay.cli.options import json_option, names
from forebay.cli.stack_config import ROOT
from forebay.core.errors import ConfigError

if TYPE_CHECKING:
    from forebay.simulator.experiment import Experiment
    from forebay.simulator.report.page import Findings
    from forebay.simulator.report.tables import Table
    from forebay.simulator.runner import Backend, Ended

EXPERIMENTS = Path(__file__).resolve().parents[1] / "simulator" / "experiments"
MORE = ROOT / "benchmarks" / "experiments"
"""Those of a checkout, which take minutes and public data."""
OUTPUT = Path(".forebay") / "compare"
INTERRUPTED = 130


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says, option by option."""

    name: str
    output: Path | None
    jobs: int | None
    ray_address: str | None
    seeds: str | None
    loads: str | None
    limit: int | None
    trace: str | None
    prompts: str | None
    profile: str | None
    instances: int | None
    start_factor: float | None
    plots: tuple[str, ...]
    markdown: bool
    open_page: bool
    as_json: bool


@click.command()
@click.option(
    "--experiment",
    "name",
    metavar="FILE|NAME",
    required=True,
    help="TOML file: the trace, the fleet, the policies, seeds and loads; or the name of one that ships.",
)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help=f"Default: {OUTPUT}/NAME.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at once. Default: one a processor.")
@click.option("--ray", "ray_address", metavar="ADDRESS", help="Run on a Ray cluster: its address, auto or local.")
@click.option("--seeds", metavar="N,N,…", help="Instead of the experiment's.")
@click.option("--loads", metavar="X,X,…", help="Instead of the experiment's.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many requests a run, to try an experiment.")
@click.option("--trace", metavar="FILE", help="Requests of this file instead; data:… is public data.")
@click.option("--prompts", metavar="FILE", help="Prompts with known lengths of this file instead of the experiment's.")
@click.option("--profile", metavar="GPU/MODEL/tpN|FILE", help="All instances have this profile.")
@click.option("--instances", type=click.IntRange(min=1), help="So many instances of each group, never more or fewer.")
@click.option(
    "--start-factor",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Starts take X times as long as in the experiment.",
)
@click.option("--plot", "plots", multiple=True, metavar="[NAME=]FILE.svg", help="Write one plot too; may be repeated.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option("--open", "open_page", is_flag=True, help="Open the report in a browser.")
@json_option
@click.pass_context
def compare(ctx: click.Context, /, **given: Any) -> None:
    """Run policies over the same traffic in virtual time and write a report.

    Every policy runs at every load with every seed. Finished runs are kept: after Ctrl-C, or with another policy in
    the file, the same command runs only what is missing.

    \b
    Experiments that ship: quickstart and scaling need no data; those on public
    traces (azure_conv, mooncake, servegen_day, …) find them by FOREBAY_DATA.

    \b
    Plots by name: attainment (the default), latency, pareto, states.

    \b
    Examples:
      forebay compare --experiment quickstart --open
      forebay compare --experiment my.toml --seeds 1 --limit 1000       try it first
      forebay compare --experiment my.toml --jobs 8 --output results --open
      forebay compare --experiment my.toml --plot pareto=pareto.svg --markdown
      forebay compare --experiment my.toml --ray auto                   on a Ray cluster
      forebay compare --experiment my.toml --trace data:open/traces/AzureLLMInferenceTrace_conv.csv.gz --instances 8
    """
    asked = Asked(**given)
    path = find_experiment(asked.name)
    experiment = _experiment(path, asked)
    plots = _plots(asked.plots)
    folder = asked.output or OUTPUT / experiment.name
    make_folder(folder)
    ended = _sweep(ctx, experiment, folder, _backend(asked.jobs, asked.ray_address))
    failed = [one for one in ended if one.error]
    if len(failed) == len(ended):
        raise click.ClickException(f"all {len(ended)} runs failed, the first with: {_last_line(failed[0])}")
    findings, page = _written(experiment, path, ended, folder, plots)
    _print(findings, page, asked.markdown, asked.as_json)
    if asked.open_page:
        webbrowser.open(page.resolve().as_uri())
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(ended)} runs failed; their errors are in {folder / 'runs'}")


def _written(
    experiment: "Experiment", path: Path, ended: "list[Ended]", folder: Path, plots: Sequence[tuple[str, Path]]
) -> "tuple[Findings, Path]":
    """What the runs say, and the page of it; page, figures and plots are files now."""
    from forebay.simulator.report.figure import stand_alone
    from forebay.simulator.report.page import Findings, render
    from forebay.simulator.report.plots import PLOTS

    findings = Findings.gather(experiment, path.read_text(encoding="utf-8-sig"), _command(), ended, folder / "runs")
    page = folder / "report.html"
    page.write_text(render(findings))
    (folder / "results.json").write_text(json.dumps(_as_json(findings), indent=1) + "\n")
    for plot, file in plots:
        file.write_text(stand_alone(PLOTS[plot](findings.runs, findings.main_load, findings.oracles)))
    return findings, page


def find_experiment(name: str) -> Path:
    """The file of that name, or the experiment that ships under it; raises ConfigError where there is neither."""
    if Path(name).is_file():
        return Path(name)
    shipped = {file.stem: file for folder in (EXPERIMENTS, MORE) for file in sorted(folder.glob("*.toml"))}
    if name in shipped:
        return shipped[name]
    raise ConfigError(
        f"there is no experiment {name}; give a TOML file, or one of those that ship: {', '.join(shipped)}"
    )


def _experiment(path: Path, asked: Asked) -> "Experiment":
    from forebay.simulator.experiment import read

    made = read(path, data_dir(), SAMPLES)
    try:
        if asked.seeds is not None:
            made = dataclasses.replace(made, seeds=_numbers("--seeds", asked.seeds, int))
        if asked.loads is not None:
            made = dataclasses.replace(made, loads=_numbers("--loads", asked.loads, float))
        if asked.limit is not None:
            least = min(asked.limit, made.trace.limit or asked.limit)
            made = dataclasses.replace(made, trace=dataclasses.replace(made.trace, limit=least))
        return _elsewhere(made, asked)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _elsewhere(made: "Experiment", asked: Asked) -> "Experiment":
    """The experiment on another trace or fleet; what is done to a trace stays, its window and options do not.

    Another trace keeps its own lengths: of the experiment's prompts it takes the errors that were made about them.
    """
    from forebay.simulator.profiles import profile_of
    from forebay.simulator.trace_config import locate

    trace = made.trace
    if asked.trace is not None:
        away: dict[str, Any] = {"generator": "", "format": "", "options": {}, "start_s": 0.0, "duration_s": 0.0}
        if trace.prompts:
            is_recorded = any(arm.predictor.get("length") == "recorded" for arm in made.policies)
            away |= {"prompts": "", "errors": trace.prompts if is_recorded else ""}
        trace = dataclasses.replace(trace, path=asked.trace, **away)
    if asked.prompts is not None:
        trace = dataclasses.replace(trace, prompts=asked.prompts, errors="")
    if trace is not made.trace:
        trace = locate(trace, Path.cwd(), data_dir(), SAMPLES)
    groups = made.groups
    if asked.profile is not None:
        groups = tuple(dataclasses.replace(group, profile=asked.profile) for group in groups)
    if asked.instances is not None:
        counts: dict[str, Any] = dict.fromkeys(("instances_initial", "instances_min", "instances_max"), asked.instances)
        groups = tuple(dataclasses.replace(group, **counts) for group in groups)
    for group in groups:
        profile_of(group.profile)
    start = made.start if asked.start_factor is None else made.start.times(asked.start_factor)
    return dataclasses.replace(made, trace=trace, groups=groups, start=start)


def _numbers(option: str, text: str, kind: type[Any]) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in names(text))
    except ValueError as error:
        raise ConfigError(f"{option} must be numbers with commas between them, such as 1,2,3, not {text!r}") from error


def _plots(given: Sequence[str]) -> list[tuple[str, Path]]:
    from forebay.simulator.report.plots import PLOTS

    found = []
    for text in given:
        name, _, file = text.rpartition("=")
        name = name or next(iter(PLOTS))
        if name not in PLOTS:
            raise ConfigError(f"--plot: no plot {name!r}; known: {', '.join(PLOTS)}")
        if not file.endswith(".svg"):
            raise ConfigError(f"--plot: {file or text!r} must end in .svg")
        if not Path(file).resolve().parent.is_dir():
            raise ConfigError(f"--plot: there is no folder {Path(file).resolve().parent}")
        found.append((name, Path(file)))
    return found


def _backend(jobs: int | None, ray_address: str | None) -> "Backend":
    from forebay.simulator.runner import ONE_THREAD, LocalBackend

    # Workers inherit it; each of them is one of several.
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    if ray_address is None:
        return LocalBackend(jobs or os.cpu_count() or 1)
    from forebay.simulator.sweep import RayBackend

    return RayBackend(ray_address, jobs)


def _sweep(ctx: click.Context, experiment: "Experiment", folder: Path, backend: "Backend") -> "list[Ended]":
    """Runs everything; an interrupt ends the command and leaves what is finished."""
    from forebay.cli.sweep_view import SweepView
    from forebay.simulator.jobs import jobs_of
    from forebay.simulator.runner import run_jobs

    jobs = jobs_of(experiment)
    view = SweepView()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with view:
            return run_jobs(jobs, folder / "runs", backend, view.watch)
    except KeyboardInterrupt:
        click.echo(f"stopped; what was finished is kept in {folder}, and the same command goes on from there", err=True)
        ctx.exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _last_line(ended: "Ended") -> str:
    return ended.error.strip().splitlines()[-1]


def _command() -> str:
    return shlex.join(["forebay", *sys.argv[1:]])


def _print(findings: "Findings", page: Path, markdown: bool, as_json: bool) -> None:
    from forebay.simulator.report.caveats import caveats
    from forebay.simulator.report.distance import distance_table
    from forebay.simulator.report.regret import regret_table
    from forebay.simulator.report.tables import chosen_verdicts, headline_table, short_table, winner_table

    if as_json:
        print_json(_as_json(findings))
        return
    runs, columns = findings.runs, findings.experiment.columns
    distance = distance_table(runs, findings.oracles) if not columns else None
    regret = regret_table(runs, findings.oracles) if _scales(findings.experiment) else None
    short = short_table(runs, findings.oracles, columns)
    chosen = chosen_verdicts(findings.verdicts, columns)
    last = [table for table in (regret, distance) if table is not None]
    if markdown:
        for table in (short, winner_table(chosen, runs.loads), *last):
            click.echo(f"**{table.title}**\n\n{table.markdown()}\n")
        return
    winners = winner_table(chosen, runs.loads) if columns else headline_table(chosen, runs.loads)
    for table in (short, *([winners] if len(runs.policies) > 1 else []), *last):
        _show(table)
    console = make_console()
    for caveat in caveats(findings.experiment, runs, findings.ended):
        console.print(Text(caveat, style="dim"))
    console.print(f"report: {page}", soft_wrap=True, markup=False)


def _scales(experiment: "Experiment") -> bool:
    """Whether policies differ in what they pay: with fleets of fixed size there is nothing to regret."""
    moves = any(group.instances_min < group.instances_max for group in experiment.groups)
    return experiment.oracle.search or (moves and not experiment.columns)


def _show(table: "Table") -> None:
    shown = make_table(table.title, *table.columns)
    for column in shown.columns[1 + ("policy" in table.columns[1:]) :]:
        column.justify = "right" if "policy" in table.columns else "left"
    for row in table.rows:
        shown.add_row(*row)
    make_console().print(shown)


def _as_json(findings: "Findings") -> dict[str, Any]:
    from forebay.simulator.report.distance import distances
    from forebay.simulator.report.page import versions
    from forebay.simulator.report.regret import regrets
    from forebay.simulator.statistics import MEASURES, STATES

    runs = findings.runs
    estimates = [
        {"policy": policy, "load": load, "class": name, "measure": measure.key, **dataclasses.asdict(one)}
        for policy in runs.policies
        for load in runs.loads
        for name in runs.classes
        for measure in (*MEASURES, *STATES)
        if (one := runs.estimate(policy, load, name, measure)) and (name == runs.classes[0] or not measure.of_fleet)
    ]
    verdicts = [
        {"load": one.load, "class": one.slo_class, "measure": one.measure.key, "winners": list(one.winners)}
        for one in findings.verdicts
    ]
    failed = [{"run": one.job.key, "error": one.error} for one in findings.ended if one.error]
    return {
        "experiment": findings.experiment.name,
        "seeds": runs.seeds,
        "estimates": estimates,
        "winners": verdicts,
        "distances": distances(runs),
        "regrets": regrets(runs, findings.oracles),
        "failed": failed,
        "command": findings.command,
        "versions": versions(),
    }
