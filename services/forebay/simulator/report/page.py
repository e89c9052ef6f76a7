"""The page of an experiment: one HTML file with everything in it."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from forebay.core.errors import ConfigError
from forebay.simulator import store
from forebay.simulator.experiment import Experiment
from forebay.simulator.jobs import Job
from forebay.simulator.report import distance, plots, regret, tables
from forebay.simulator.report.caveats import caveats
from forebay.simulator.report.data import RunData
from forebay.simulator.report.figure import colours
from forebay.simulator.report.template import PAGE, STYLE
from forebay.simulator.report.values import number, seconds
from forebay.simulator.runner import Ended
from forebay.simulator.statistics import Runs, Verdict, verdicts

PACKAGES = ("forebay", "numpy", "numba", "scipy", "pyarrow", "matplotlib")


@dataclass(frozen=True, slots=True)
class Findings:
    """An experiment with what came of it; `text` is its file, `command` what made it, `runs_folder` holds the runs."""

    experiment: Experiment
    text: str
    command: str
    ended: Sequence[Ended]
    runs_folder: Path
    runs: Runs

    @staticmethod
    def gather(
        experiment: Experiment, text: str, command: str, ended: Sequence[Ended], runs_folder: Path
    ) -> "Findings":
        """Reads the summaries of all jobs that did not fail. Raises ConfigError where none is left."""
        good = [one.job for one in ended if not one.error]
        if not good:
            raise ConfigError(f"every run failed; the errors are in {runs_folder}")
        summaries = [store.read_summary(runs_folder / job.key) for job in good]
        runs = Runs(summaries, [arm.name for arm in experiment.arms])
        return Findings(experiment, text, command, ended, runs_folder, runs)

    @property
    def oracles(self) -> list[str]:
        """The policies that know what nobody can."""
        return [arm.name for arm in self.experiment.arms if arm.oracle]

    @property
    def verdicts(self) -> list[Verdict]:
        """Who wins where; oracles do not compete."""
        return verdicts(self.runs, leave_out=self.oracles)

    @property
    def main_load(self) -> float:
        """The load that plots of one load show: that of the trace itself, or the one nearest to it."""
        return min(self.runs.loads, key=lambda load: (abs(load - 1.0), load))

    def data(self, load: float) -> dict[str, RunData]:
        """The first seed's run of each policy at a load."""
        jobs: dict[str, Job] = {}
        for one in self.ended:
            if not one.error and one.job.load == load:
                jobs.setdefault(one.job.policy.name, one.job)
        return {
            name: RunData(self.runs_folder / job.key, job.world, summary.end_s)
            for name, job in jobs.items()
            if (summary := self.runs.get(name, load, job.seed))
        }

    @property
    def notes(self) -> list[str]:
        """What was done to the workloads before they were run, the seeds left out."""
        found = [note for one in self.ended if one.done for note in one.done.notes]
        return list(dict.fromkeys(note.partition(", seed ")[0] for note in found))


@dataclass(frozen=True, slots=True)
class Part:
    """A plot, a table or a text of a section; a folded one opens by its title."""

    svg: str = ""
    caption: str = ""
    table: tables.Table | None = None
    code: str = ""
    title: str = ""
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under a heading."""

    id: str
    title: str
    parts: Sequence[Part] = ()
    texts: Sequence[str] = ()


def render(findings: Findings) -> str:
    """The whole page as HTML. Raises ConfigError where jinja2, matplotlib or scipy is not installed."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ConfigError("reports need jinja2; install it with: pip install 'forebay[simulate]'") from error
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(PAGE)
    return template.render(
        style=STYLE,
        name=findings.experiment.name,
        policies=findings.runs.policies,
        colours=_colours(findings),
        facts=list(_facts(findings)),
        caveats=caveats(findings.experiment, findings.runs, findings.ended),
        loads=[f"{load:g}" for load in findings.runs.loads],
        verdicts=list(_verdict_rows(findings)),
        sections=[section for section in _sections(findings) if section.parts or section.id == "winners"],
    )


def _colours(findings: Findings) -> Mapping[str, str]:
    found = colours(findings.runs.policies)
    return found | {f"{name} (oracle)": found[name] for name in findings.oracles if name in found}


def _facts(findings: Findings) -> Iterator[tuple[str, str]]:
    experiment, runs = findings.experiment, findings.runs
    trace = experiment.trace
    rows = sum(one.done.row_count for one in findings.ended if one.done)
    cpu_s = sum(one.done.cpu_s for one in findings.ended if one.done)
    yield trace.generator or Path(trace.path).name, "generated" if trace.generator else f"trace ({trace.format})"
    yield ", ".join(f"{load:g}" for load in runs.loads), "loads, times the trace's rate"
    yield str(len(runs.seeds)), "seeds"
    yield f"{rows:,}", "requests simulated"
    yield f"{seconds(cpu_s)}", f"of processor time, {number(rows / cpu_s)} requests a second" if cpu_s else "of work"
    groups = ", ".join(dict.fromkeys(f"{one.model} on {one.profile.split('/')[0]}" for one in experiment.groups))
    yield groups, "fleet"


def _sections(findings: Findings) -> Iterator[Section]:
    runs, main, oracles = findings.runs, findings.main_load, findings.oracles
    yield Section("summary", "Summary", list(_summaries(findings)), [_intervals_text(runs)])
    yield Section("winners", "Who wins where", texts=[_WINNERS_TEXT])
    yield Section("attainment", "SLO attainment", [Part(svg=plots.attainment_plot(runs), caption=_ATTAINMENT_TEXT)])
    yield Section("latency", "Latency", list(_latencies(runs, main)))
    yield Section("cost", "GPU-hours", list(_costs(findings)))
    yield Section("oracle", "Distance to the best possible", list(_distances(runs, oracles)), _DISTANCE_TEXTS)
    yield Section("lengths", "Predicted lengths", list(_lengths(findings)))
    yield Section("requests", "Requests", [
        Part(table=tables.outcome_table(runs, load), title=f"Load {load:g}, all seeds") for load in runs.loads
    ])  # fmt: skip
    yield Section("origin", "How this was made", list(_origin(findings)))


def _summaries(findings: Findings) -> Iterator[Part]:
    for load in findings.runs.loads:
        title = f"Load {load:g}" if len(findings.runs.loads) > 1 else ""
        yield Part(table=tables.summary_table(findings.runs, load, findings.oracles), title=title)


def _latencies(runs: Runs, main: float) -> Iterator[Part]:
    yield Part(svg=plots.latency_plot(runs, main), caption=f"Load {main:g}, all classes. {_LATENCY_TEXT}")
    for load in runs.loads:
        for slo_class in runs.classes:
            is_alone = slo_class != runs.classes[0] and len(runs.classes) == 2
            if not is_alone and (load, slo_class) != (main, runs.classes[0]):
                title = f"Load {load:g}, {tables.class_label(slo_class)}"
                yield Part(svg=plots.latency_plot(runs, load, slo_class), title=title, folded=True)


def _costs(findings: Findings) -> Iterator[Part]:
    runs, main = findings.runs, findings.main_load
    yield Part(svg=plots.pareto_plot(runs, findings.oracles), caption=_PARETO_TEXT)
    yield Part(svg=plots.state_plot(runs, main), caption="Means over the seeds. Loading is paid for and serves nobody.")
    data = findings.data(main)
    seed = next(one.job.seed for one in findings.ended if not one.error)
    yield Part(svg=plots.fleet_plot(data), caption=f"Load {main:g}, seed {seed}. {_OVER_TIME_TEXT}")
    for load in runs.loads:
        if load != main:
            yield Part(svg=plots.fleet_plot(findings.data(load)), title=f"Load {load:g} over time", folded=True)
    for load in runs.loads:
        yield Part(table=tables.usage_table(runs, load), title=f"Load {load:g}, means over the seeds")


def _distances(runs: Runs, oracles: Sequence[str]) -> Iterator[Part]:
    least, oracle = distance.distance_table(runs, oracles), tables.oracle_table(runs, oracles)
    beyond = regret.regret_table(runs, oracles)
    if beyond is not None:
        yield Part(table=beyond, title="Regret")
    if least is not None:
        yield Part(table=least, title="To what is needed at least")
    if oracle is not None:
        yield Part(table=oracle, title="To policies that know the future")


def _lengths(findings: Findings) -> Iterator[Part]:
    data = findings.data(findings.main_load)
    alike: dict[str, list[str]] = {}
    for arm in findings.experiment.policies:
        if arm.name in data:
            alike.setdefault(json.dumps(arm.predictor, sort_keys=True, default=str), []).append(arm.name)
    svg = plots.length_plot({", ".join(names): data[names[0]] for names in alike.values()})
    if svg is not None:
        yield Part(svg=svg, caption=_LENGTH_TEXT)


def _origin(findings: Findings) -> Iterator[Part]:
    yield Part(code=findings.command, title="Command")
    if findings.notes:
        yield Part(code="\n".join(findings.notes), title="What was done to the requests before they were run")
    yield Part(code=findings.text, title="Experiment")
    yield Part(code="\n".join(f"{name} {found}" for name, found in versions().items()), title="Versions")


def versions() -> dict[str, str]:
    """What is installed of what a result may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _verdict_rows(findings: Findings) -> Iterator[tuple[str, list[Any]]]:
    found = {(one.slo_class, one.measure.key, one.load): one for one in findings.verdicts}
    for slo_class, key in dict.fromkeys((one.slo_class, one.measure.key) for one in findings.verdicts):
        label = tables.BY_KEY[key].label
        if not tables.BY_KEY[key].of_fleet:
            label += f", {tables.class_label(slo_class)}"
        yield label, [_cell(found.get((slo_class, key, load))) for load in findings.runs.loads]


def _cell(verdict: Verdict | None) -> dict[str, object] | None:
    if verdict is None:
        return None
    if len(verdict.winners) == len(verdict.estimates):
        return {"names": [], "remark": ""}
    remark = "tie" if len(verdict.winners) > 1 else tables.by(verdict)
    return {"names": verdict.winners, "remark": remark if verdict.decided else f"{remark} (one seed)".strip()}


def _intervals_text(runs: Runs) -> str:
    if len(runs.seeds) == 1:
        return "One seed: there are no intervals."
    return f"Means over {len(runs.seeds)} seeds ± half the width of the 95 % interval (Student's t)."


_WINNERS_TEXT = (
    "The best policy of each cell; those tie with it whose paired difference over equal seeds has an interval that "
    "includes 0. “By” is the distance to the best policy that was beaten, as a share of its figure. Each interval "
    "stands for one pair: among many cells some differences come by chance. Oracles do not compete."
)
_ATTAINMENT_TEXT = "Requests that met every limit of their class; rejected, failed and unfinished ones count as misses."
_LATENCY_TEXT = "Distributions of finished requests, averaged over the seeds quantile by quantile."
_PARETO_TEXT = "Up and left is better. Bars are 95 % intervals; hollow marks are oracles."
_OVER_TIME_TEXT = "Attainment is of the requests that arrived then; instances count in every state but spot."
_DISTANCE_TEXTS = [regret.TEXT, distance.TEXT]
_LENGTH_TEXT = (
    "Run of the first policy named, first seed: one panel for policies that predict alike. Darker is more requests; on "
    "the line the prediction is right."
)
