"""`forebay simulate`: one trace, one fleet, one set of policies, in virtual time."""

import dataclasses
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from forebay.cli.console import make_console, make_folder, print_json
from forebay.cli.datasets import data_dir
from forebay.cli.loaders import SAMPLES
from forebay.cli.options import json_option, names
from forebay.core.errors import ConfigError

if TYPE_CHECKING:
    from forebay.simulator.jobs import Job
    from forebay.simulator.trace_config import TraceConfig

FLEET = "A100-80G/Llama-3-8B/tp1 x2"
SAMPLE = "samples:trace.csv"


@click.command()
@click.option(
    "--trace", help="File or folder; data:PATH is in the public data, samples:PATH ships. Default: the sample."
)
@click.option("--format", "format_name", metavar="NAME", help="Format of the trace. Default: told from the file.")
@click.option("--generate", metavar="NAME", help="Generate the traffic instead, as poisson, gamma, diurnal, spikes.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Of the reader or generator; repeatable.")
@click.option("--fleet", default=FLEET, show_default=True, help="[NAME=]GPU/MODEL/tpN xN[-MAX] [@REGION], …")
@click.option("--policy", default="", help="KIND=NAME and KIND.PARAMETER=VALUE with commas between them.")
@click.option(
    "--load",
    type=click.FloatRange(min=1e-6, max=1e6, max_open=True),
    default=1.0,
    show_default=True,
    help="Times the rate.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Equal seeds give equal runs.")
@click.option("--start", type=click.FloatRange(min=0), default=0.0, help="Second of the trace to begin at.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds of the trace to take.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many requests.")
@click.option("--models", metavar="NAME=SHARE,…", help="Draw models, where the fleet has several.")
@click.option("--slo-classes", metavar="NAME=SHARE,…", help="Draw classes, as interactive-fast=1,deferred=3.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Keep the run here, as Parquet and JSON."
)
@json_option
def simulate(
    trace: str | None,
    format_name: str | None,
    generate: str | None,
    options: tuple[str, ...],
    fleet: str,
    policy: str,
    load: float,
    seed: int,
    start: float,
    duration: float | None,
    limit: int | None,
    slo_classes: str | None,
    models: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Run a trace through the services in virtual time and print what came of it.

    The scheduler, the autoscaler, the predictor and the gateway are those that run live. The instances are modelled;
    the catalog's profiles are named GPU/MODEL/tpN.

    \b
    Kinds of policies: admission, orderer, router, puller, autoscaler, length, forecaster.

    \b
    Examples:
      forebay simulate
      forebay simulate --fleet "H100/Llama-3-8B/tp1 x4" --policy router=power_of_two,router.seed=3
      forebay simulate --trace azure.csv --fleet "A100-80G/Llama-3-8B/tp1 x1-8" --policy autoscaler=kpa --load 2
      forebay simulate --generate poisson --option rate_per_s=20 --option duration_s=600 --json
      forebay simulate --trace mooncake.jsonl --limit 5000 --output run
    """
    from forebay.cli.scenario import parse_fleet, parse_policy
    from forebay.simulator.arms import check_arm
    from forebay.simulator.config import World
    from forebay.simulator.jobs import Job

    world = World(groups=parse_fleet(fleet))
    arm = parse_policy(policy)
    check_arm(arm, "--policy")
    source = _trace(trace, format_name, generate, options)
    try:
        source = dataclasses.replace(source, start_s=start, duration_s=duration or 0.0, limit=limit or 0)
    except ValueError as error:
        raise ConfigError(f"--start, --duration: {error}") from error
    source = _with_shares(source, "--slo-classes", "class_shares", slo_classes)
    source = _with_shares(source, "--models", "model_shares", models)
    if math.isnan(load):
        raise ConfigError("--load must be a number above 0, such as 2")
    _run(Job("run", source, world, arm, seed, load), output, as_json)


def _trace(trace: str | None, format_name: str | None, generate: str | None, options: tuple[str, ...]) -> "TraceConfig":
    from forebay.simulator.trace_config import TraceConfig, check_options, locate

    if generate and (trace or format_name):
        raise ConfigError("--generate and --trace exclude each other")
    try:
        made = TraceConfig(
            format=format_name or "",
            path="" if generate else trace or SAMPLE,
            generator=generate or "",
            options=dict(_option(text) for text in options),
        )
    except ValueError as error:
        raise ConfigError(f"{'--generate' if generate else '--format'}: {error}") from error
    found = locate(made, Path.cwd(), data_dir(), SAMPLES)
    check_options(found, "--option")
    return found


def _option(text: str) -> tuple[str, object]:
    from forebay.cli.scenario import value_of

    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise ConfigError(f"--option: {text!r} is not KEY=VALUE, as rate_per_s=20")
    return key.strip(), value_of(value.strip())


def _with_shares(trace: "TraceConfig", option: str, name: str, text: str | None) -> "TraceConfig":
    shares = {}
    for part in names(text):
        key, _, share = part.partition("=")
        if key.strip() in shares:
            raise ConfigError(f"{option}: {key.strip()!r} is given twice; give each once")
        try:
            shares[key.strip()] = float(share)
        except ValueError as error:
            raise ConfigError(f"{option}: {part!r} is not NAME=SHARE, as interactive-fast=1") from error
    try:
        return dataclasses.replace(trace, **{name: shares})  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def _run(job: "Job", output: Path | None, as_json: bool) -> None:
    from forebay.cli.run_report import print_run
    from forebay.simulator import store
    from forebay.simulator.jobs import execute
    from forebay.simulator.report.caveats import timing_caveats

    if output is not None:
        make_folder(output)
        store.claim(output)
    started_s = time.process_time()
    with Progress(console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("simulating", total=None)
        result, summary, notes, _ = execute(job, lambda done, total: bar.update(task, completed=done, total=total))
    cpu_s = time.process_time() - started_s
    if output is not None:
        store.write(result, summary, output)
    if as_json:
        print_json({**_plain(summary), "policy": job.policy, "cpu_s": cpu_s, "notes": notes})
        return
    console = make_console()
    print_run(console, summary, cpu_s)
    for note in (*notes, *timing_caveats(job.world)):
        console.print(Text(note, style="dim"))
    if output is not None:
        console.print(f"kept in {output}", markup=False, soft_wrap=True)


def _plain(summary: Any) -> dict[str, Any]:
    """The summary without its curves, which are for plots."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(one) for key, one in value.items() if key != "curve"}
        return [without(one) for one in value] if isinstance(value, list | tuple) else value

    plain: dict[str, Any] = without(dataclasses.asdict(summary))
    return plain
