"""The tables of an experiment as plain cells, whoever prints them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forebay.simulator.report.values import NOTHING, estimate, figure
from forebay.simulator.statistics import MEASURES, STATES, Interval, Measure, Runs, Verdict, is_plain
from forebay.simulator.summary import ALL

BY_KEY = {measure.key: measure for measure in (*MEASURES, *STATES)}
HEADLINE = (
    "gpu_hours",
    "ttft_p50",
    "ttft_p99",
    "tpot_mean",
    "e2e_p99",
    "goodput",
    "cost",
    "wasted",
    "scaling",
    "program_p50",
    "program_p99",
    "quality",
    "energy",
)
"""The measures over all classes that a summary shows beside the attainment of each class."""
SHORT = ("attainment", "ttft_p50", "ttft_p99", "tpot_mean", "e2e_p99", "gpu_hours")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under a title; the first column names the row, the others hold figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table as Markdown, figures to the right."""
        head = [f"| {' | '.join(_escaped(cell) for cell in self.columns)} |"]
        head.append("|---" + "|--:" * (len(self.columns) - 1) + "|")
        return "\n".join([*head, *(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in self.rows)])


def summary_table(runs: Runs, load: float, oracles: Sequence[str] = ()) -> Table:
    """Each policy's attainment by class and its headline measures at one load, with intervals over the seeds."""
    columns = [(name, BY_KEY["attainment"]) for name in runs.classes]
    columns += [(ALL, BY_KEY[key]) for key in HEADLINE]
    shown = _shown(runs, load, columns)
    return Table(
        f"Load {load:g}",
        ("policy", *(_title(name, measure) for name, measure in shown)),
        tuple(
            (named(policy, oracles), *(estimate(runs.estimate(policy, load, name, m), m) for name, m in shown))
            for policy in runs.policies
        ),
    )


def short_table(runs: Runs, oracles: Sequence[str] = (), columns: Sequence[str] = ()) -> Table:
    """The same for a terminal: over all classes, a row a policy and load.

    `columns` of an experiment take the place of the usual ones, and then every figure has its interval.
    """
    if columns:
        return _chosen_table(runs, oracles, [_column(name) for name in columns])
    rows = [
        (f"{load:g}", named(policy, oracles), *(_brief(runs, policy, load, BY_KEY[key]) for key in SHORT))
        for load in runs.loads
        for policy in runs.policies
    ]
    return Table("Policies", ("load", "policy", *(_short(BY_KEY[key]) for key in SHORT)), tuple(rows))


def _chosen_table(runs: Runs, oracles: Sequence[str], columns: Sequence[tuple[str, Measure]]) -> Table:
    rows = [
        (
            f"{load:g}",
            named(policy, oracles),
            *(estimate(runs.estimate(policy, load, name, m), m) for name, m in columns),
        )
        for load in runs.loads
        for policy in runs.policies
    ]
    return Table("Policies", ("load", "policy", *(_title(name, m) for name, m in columns)), tuple(rows))


def _column(name: str) -> tuple[str, Measure]:
    key, _, slo_class = name.partition("/")
    return slo_class or ALL, BY_KEY[key]


def chosen_verdicts(verdicts: Sequence[Verdict], columns: Sequence[str]) -> list[Verdict]:
    """The verdicts on an experiment's columns, in their order; all where it names none."""
    if not columns:
        return list(verdicts)
    order = {(name, measure.key): place for place, (name, measure) in enumerate(map(_column, columns))}
    found = [one for one in verdicts if (one.slo_class, one.measure.key) in order]
    return sorted(found, key=lambda one: order[one.slo_class, one.measure.key])


def _brief(runs: Runs, policy: str, load: float, measure: Measure) -> str:
    """The mean, with its interval where that is what one compares first: there is no room for all of them."""
    found = runs.estimate(policy, load, ALL, measure)
    if found is None or measure.key in ("attainment", "gpu_hours"):
        return estimate(found, measure)
    return figure(found.mean, measure.unit)


def winner_table(verdicts: Sequence[Verdict], loads: Sequence[float]) -> Table:
    """Who wins where: a row a class and measure, a column a load."""
    cells = {(one.slo_class, one.measure.key, one.load): winners(one) for one in verdicts}
    rows = []
    for slo_class, key in dict.fromkeys((one.slo_class, one.measure.key) for one in verdicts):
        label = f"{BY_KEY[key].label}, {class_label(slo_class)}" if not BY_KEY[key].of_fleet else BY_KEY[key].label
        rows.append((label, *(cells.get((slo_class, key, load), NOTHING) for load in loads)))
    return Table("Who wins where", ("measure", *(f"load {load:g}" for load in loads)), tuple(rows))


def headline_table(verdicts: Sequence[Verdict], loads: Sequence[float]) -> Table:
    """The same for a terminal: the attainment of each class and the short table's measures over all classes."""
    chosen = [
        one
        for one in verdicts
        if one.measure.key == "attainment" or (one.slo_class == ALL and one.measure.key in SHORT)
    ]
    return winner_table(chosen, loads)


def winners(verdict: Verdict) -> str:
    """The winner with its margin, or who ties."""
    if len(verdict.winners) == len(verdict.estimates):
        return "all tie"
    if len(verdict.winners) > 1:
        return f"tie: {', '.join(verdict.winners)}"
    return f"{verdict.winners[0]} {by(verdict)}".strip() + ("" if verdict.decided else " (one seed)")


def by(verdict: Verdict) -> str:
    """How far ahead a single winner is."""
    if verdict.margin is None or len(verdict.winners) > 1:
        return ""
    return "by <1 %" if verdict.margin < 0.005 else f"by {100 * verdict.margin:.0f} %"


def oracle_table(runs: Runs, oracles: Sequence[str]) -> Table | None:
    """How far each policy is from the best oracle: GPU-hours and cost in its units, attainment in points below it."""
    known = [name for name in runs.policies if name in oracles]
    others = [name for name in runs.policies if name not in oracles]
    if not known or not others:
        return None
    rows = [
        (f"{policy} against {oracle}, load {load:g}", *_distance(runs, policy, oracle, load))
        for load in runs.loads
        for oracle in known
        for policy in others
    ]
    return Table("Distance to the oracle", ("", "SLO attainment", "GPU-hours", "TTFT p99", "E2E p99"), tuple(rows))


def _distance(runs: Runs, policy: str, oracle: str, load: float) -> Iterator[str]:
    gap = runs.difference(policy, oracle, load, ALL, BY_KEY["attainment"])
    yield NOTHING if gap is None else f"{100 * gap.mean:+.1f}{_half(gap)} points"
    for key in ("gpu_hours", "ttft_p99", "e2e_p99"):
        own, best = (runs.estimate(name, load, ALL, BY_KEY[key]) for name in (policy, oracle))
        yield NOTHING if own is None or best is None or not best.mean else f"{100 * own.mean / best.mean:.0f} % of it"


def _half(value: Interval) -> str:
    return f" ± {100 * value.half:.1f}" if value.half else ""


def usage_table(runs: Runs, load: float) -> Table:
    """Where the GPU-hours of each policy went at one load, as means over the seeds."""
    names = ("serving", "idle", "loading", "provisioning", "draining", "spot", "wasted")
    rows = []
    for policy in runs.policies:
        fleets = [summary.fleet for seed in runs.seeds if (summary := runs.get(policy, load, seed))]
        means = [sum(getattr(one, f"{name}_gpu_hours") for one in fleets) / max(1, len(fleets)) for name in names]
        others = [
            sum(getattr(one, name) for one in fleets) / max(1, len(fleets))
            for name in ("instances_mean", "instances_peak", "scaling_count", "reversal_count", "undone_count")
        ]
        rows.append((policy, *(figure(value) for value in means), *(figure(value) for value in others)))
    others_named = ("instances, mean", "peak", "scaling actions", "reversals", "undone")
    labels = tuple({"loading": "starting", "provisioning": "of it provisioning"}.get(name, name) for name in names)
    return Table(f"GPU-hours by state, load {load:g}", ("policy", *labels, *others_named), tuple(rows))


def outcome_table(runs: Runs, load: float) -> Table:
    """What became of the requests of each policy at one load, over all seeds."""
    rows = []
    for policy in runs.policies:
        found = [summary.classes[0] for seed in runs.seeds if (summary := runs.get(policy, load, seed))]
        counts: tuple[str, ...] = ("request_count", "met_count", "ttft_miss_count", "tpot_miss_count", "e2e_miss_count")
        counts += ("rejected_count", "failed_count", "unfinished_count", "preemption_count")
        errors = [one.length.median_abs_error for one in found if one.length.median_abs_error is not None]
        within = [one.length.within_p90 for one in found if one.length.within_p90 is not None]
        hits = [one.prefix_hit_share for one in found if one.prefix_hit_share is not None]
        rows.append(
            (
                policy,
                *(f"{sum(getattr(one, name) for one in found):,}" for name in counts),
                figure(sum(errors) / len(errors), "tokens") if errors else NOTHING,
                figure(sum(within) / len(within), "%") if within else NOTHING,
                figure(sum(hits) / len(hits), "%") if hits else NOTHING,
            )
        )
    named: tuple[str, ...] = (
        "requests",
        "met",
        "late first token",
        "slow tokens",
        "late end",
        "rejected",
        "failed",
        "unfinished",
    )
    named += ("preemptions", "length error p50", "answers within p90", "prefix hits")
    return Table(f"What became of the requests, load {load:g}", ("policy", *named), tuple(rows))


def class_label(name: str) -> str:
    """A class as a reader's word."""
    return "all classes" if name == ALL else name


def _shown(runs: Runs, load: float, columns: Sequence[tuple[str, Measure]]) -> list[tuple[str, Measure]]:
    """Without columns that no policy has, and without a class that is alone and thus equal to all."""
    alone = len(runs.classes) == 2
    found = []
    for name, measure in columns:
        estimates = [runs.estimate(policy, load, name, measure) for policy in runs.policies]
        if not (alone and name != ALL) and any(estimates) and not is_plain(measure, estimates):
            found.append((name, measure))
    return found


def _title(slo_class: str, measure: Measure) -> str:
    return _short(measure) if slo_class == ALL else f"{_short(measure)}, {slo_class}"


def _short(measure: Measure) -> str:
    return {"attainment": "SLO met", "tpot_mean": "TPOT", "wasted": "wasted"}.get(measure.key, measure.label)


def named(policy: str, oracles: Sequence[str]) -> str:
    """A policy as tables name it."""
    return f"{policy} (oracle)" if policy in oracles else policy


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
