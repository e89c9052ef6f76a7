"""What a reader must know before believing a comparison: which terms of a fair one it does not meet."""

from collections.abc import Iterator, Sequence

from forebay.simulator.config import World
from forebay.simulator.experiment import Experiment
from forebay.simulator.oracles.bound import refusal
from forebay.simulator.profiles import profile_of
from forebay.simulator.report.values import seconds
from forebay.simulator.runner import Ended
from forebay.simulator.statistics import Runs

SEEDS_MIN = 5
DAYS_MIN = 7
DAY_S = 86_400


def caveats(experiment: Experiment, runs: Runs, ended: Sequence[Ended]) -> list[str]:
    """One sentence each, the worst first; nothing where every term that can be checked is met."""
    return [
        *_failures(ended),
        *_statistics(runs),
        *_engines(experiment),
        *_world(experiment.world),
        *_latencies(runs),
    ]


def _failures(ended: Sequence[Ended]) -> Iterator[str]:
    failed = [one.job.key for one in ended if one.error]
    if failed:
        yield f"{len(failed)} of {len(ended)} runs failed and are missing from every figure: {', '.join(failed)}."


def _statistics(runs: Runs) -> Iterator[str]:
    if len(runs.seeds) < SEEDS_MIN:
        least = "one seed gives no intervals at all" if len(runs.seeds) == 1 else f"fair is at least {SEEDS_MIN}"
        yield f"Seeds: {len(runs.seeds)}; {least}."
    spans = [
        summary.end_s
        for policy in runs.policies
        for load in runs.loads
        for seed in runs.seeds
        if (summary := runs.get(policy, load, seed))
    ]
    if spans and max(spans) < DAYS_MIN * DAY_S:
        yield (
            f"The longest run covers {seconds(max(spans))}; daily and weekly cycles, which forecasts live on, need "
            f"{DAYS_MIN} days."
        )


def _engines(experiment: Experiment) -> Iterator[str]:
    changed = [arm.name for arm in experiment.policies if arm.engine]
    if changed:
        yield f"Not all policies run on equal engines: {', '.join(changed)} changed [engine]."


def _world(world: World) -> Iterator[str]:
    start = world.start
    if start.provisioning_s + start.image_s + start.runtime_s + start.warm_s == 0:
        yield "Instances start in no time beyond the loading of their weights: forecasts cannot show what they are for."
    if not start.variation:
        yield "Starts always take their mean time; set start.variation to see what unlucky ones do."
    reason = refusal(world)
    if reason:
        yield f"How far the policies are from the best possible is not known: {reason}."
    yield from timing_caveats(world)


def timing_caveats(world: World) -> Iterator[str]:
    """Whose timing was not checked: no figure of such a profile may stand without these words."""
    for name in dict.fromkeys(group.profile for group in world.groups):
        status = profile_of(name).status
        if status != "checked":
            yield f"The timing of {name} is {status}: it was not checked against runs of that GPU and model."


def _latencies(runs: Runs) -> Iterator[str]:
    shares = []
    for policy in runs.policies:
        for load in runs.loads:
            for seed in runs.seeds:
                summary = runs.get(policy, load, seed)
                if summary and summary.classes[0].request_count:
                    shares.append(summary.classes[0].finished_count / summary.classes[0].request_count)
    if shares and max(shares) - min(shares) > 0.01:
        yield (
            f"Latencies are of finished requests only, and policies finished between {100 * min(shares):.0f} % and "
            f"{100 * max(shares):.0f} % of them: one that turns many away looks faster. Attainment counts all."
        )
