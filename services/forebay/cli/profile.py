"""`forebay profile`: the most that one instance serves within its SLO, for planners that size fleets by it."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from forebay.cli.console import make_console, make_table, print_json
from forebay.cli.datasets import data_dir
from forebay.cli.loaders import SAMPLES
from forebay.cli.options import json_option, names
from forebay.core.capacity import Mix, ServiceLevel
from forebay.core.errors import ConfigError

if TYPE_CHECKING:
    from forebay.core.instance import EngineProfile
    from forebay.simulator.capability import Capability, Effort, Requests
    from forebay.simulator.knee import Trial

SAMPLE = "samples:trace.csv"
DRAWN = 20_000
MS_PER_S = 1_000
ARRIVALS = ("poisson", "trace")


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says, option by option."""

    name: str
    trace: str | None
    format_name: str | None
    start: float
    duration: float
    limit: int
    prompt_lengths: str | None
    response_lengths: str | None
    arrivals: str
    ttft: float
    itl: float
    e2e: float
    attainment: float
    heavy: float
    requests: int
    seeds: int
    max_seqs: int
    max_batch_tokens: int
    kv_tokens: int
    model: str | None
    pool: str | None

    @property
    def level(self) -> ServiceLevel:
        """The promises."""
        if not (self.ttft or self.itl or self.e2e):
            raise ConfigError("without a promise there is no rate that breaks it: give --ttft, --itl or --e2e")
        return ServiceLevel(self.ttft, self.itl / MS_PER_S, self.e2e, self.attainment)

    @property
    def where(self) -> str:
        """What the lengths are of."""
        return "given lengths" if self.prompt_lengths else self.trace or SAMPLE


@click.command()
@click.option("--profile", "name", required=True, metavar="GPU/MODEL/tpN|FILE", help="Of the instance.")
@click.option("--trace", metavar="FILE", help="Requests with their lengths; data:PATH is in the public data.")
@click.option("--format", "format_name", metavar="NAME", help="Format of the trace. Default: told from the file.")
@click.option("--start", type=click.FloatRange(min=0), default=0.0, help="Second of the trace to begin at.")
@click.option("--duration", type=click.FloatRange(min=0), default=0.0, help="Seconds of it to take. Default: all.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="At most so many of its requests.")
@click.option("--prompt-lengths", metavar="N|P10,P50,P90,P97", help="Tokens of prompts, instead of a trace.")
@click.option("--response-lengths", metavar="N|P10,P50,P90,P97", help="Tokens of responses, instead of a trace.")
@click.option(
    "--arrivals", type=click.Choice(ARRIVALS), default="poisson", show_default=True, help="Or the trace's own, scaled."
)
@click.option("--ttft", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds; 0: no promise.")
@click.option("--itl", type=click.FloatRange(min=0), default=100.0, show_default=True, help="Milliseconds a token.")
@click.option("--e2e", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Seconds to the last token.")
@click.option(
    "--attainment", type=click.FloatRange(0.5, 1.0), default=0.99, show_default=True, help="Share that keeps them."
)
@click.option(
    "--heavy",
    type=click.FloatRange(0.01, 1.0),
    default=0.25,
    show_default=True,
    help="Share of the requests that presses on prompts, or on responses; 1: all by the same traffic.",
)
@click.option("--requests", type=click.IntRange(100), default=5_000, show_default=True, help="Of a run.")
@click.option("--seeds", type=click.IntRange(1, 20), default=3, show_default=True, help="Runs at each rate.")
@click.option("--max-seqs", type=click.IntRange(1), default=256, show_default=True, help="Seats of the engine.")
@click.option("--max-batch-tokens", type=click.IntRange(2), default=2_048, show_default=True, help="Its token budget.")
@click.option("--kv-tokens", type=click.IntRange(0), default=0, help="What its cache holds. Default: the profile's.")
@click.option("--model", help="Name of the model in what is printed to paste. Default: that of the profile.")
@click.option("--pool", help="Name of the pool in it, where a model has several.")
@json_option
def profile(as_json: bool, **given: Any) -> None:
    """Find the most that one instance serves within its SLO.

    Runs one simulated instance at higher and higher rates until its promises break, by traffic with long prompts, by
    traffic with long responses, and by all of it; and prints the rates in tokens a second, to paste into forebay.toml
    for the policies that size a fleet by them (PreServe, Algorithm 1). Beside them stands what the planners' formula
    says of the same traffic at once, and what would break first.

    \b
    Examples:
      forebay profile --profile H100/Llama-3-8B/tp1
      forebay profile --profile A100-80G/Llama-3-8B/tp1 --trace azure.csv --ttft 2 --itl 50
      forebay profile --profile L4/Llama-3-8B/tp1 --prompt-lengths 100,400,2000,4000 --response-lengths 250
      forebay profile --profile measured.json --trace monday.jsonl --arrivals trace --json
    """
    asked = Asked(**given)
    engine, requests, effort = _engine(asked), _requests(asked), _effort(asked)
    found = _measured(asked, engine, requests, effort)
    if as_json:
        print_json(_plain(asked, found))
    else:
        _print(make_console(), asked, engine, found)


def _engine(asked: Asked) -> "EngineProfile":
    from forebay.simulator.profiles import profile_of

    limits = {"max_seqs": asked.max_seqs, "max_batch_tokens": asked.max_batch_tokens, "kv_tokens": asked.kv_tokens}
    try:
        return profile_of(asked.name, **limits)
    except ValueError as error:
        raise ConfigError(f"--profile: {error}") from error


def _effort(asked: Asked) -> "Effort":
    from forebay.simulator.capability import Effort

    return Effort(asked.requests, tuple(range(1, asked.seeds + 1)), asked.heavy)


def _requests(asked: Asked) -> "Requests":
    from forebay.simulator.capability import Requests

    if not (asked.prompt_lengths or asked.response_lengths):
        return _traced(asked)
    if not (asked.prompt_lengths and asked.response_lengths) or asked.trace:
        raise ConfigError("give both --prompt-lengths and --response-lengths and no --trace, or a trace alone")
    if asked.arrivals == "trace":
        raise ConfigError("--arrivals trace needs a --trace")
    prompt = _quantiles("--prompt-lengths", asked.prompt_lengths)
    response = _quantiles("--response-lengths", asked.response_lengths)
    return Requests(*Mix.of_quantiles(prompt, response).draw(DRAWN, seed=0))


def _traced(asked: Asked) -> "Requests":
    from forebay.simulator.capability import Requests
    from forebay.simulator.config import Group, World
    from forebay.simulator.make_workload import make
    from forebay.simulator.oracles.forecast import served_tokens
    from forebay.simulator.trace_config import TraceConfig, locate

    source = TraceConfig(
        format=asked.format_name or "",
        path=asked.trace or SAMPLE,
        start_s=asked.start,
        duration_s=asked.duration,
        limit=asked.limit,
        model="model",
    )
    world = World(groups=(Group("model", "GPU/MODEL/tp1"),))
    workload = make(locate(source, Path.cwd(), data_dir(), SAMPLES), world, seed=0, load=1.0)
    arrivals = workload.arrival_us / 1e6 if asked.arrivals == "trace" else None
    if len(workload.parents) and arrivals is not None:
        raise ConfigError("--arrivals trace: its requests wait for each other (closed loops); use --arrivals poisson")
    return Requests(workload.prompt_tokens, served_tokens(workload), arrivals)


def _quantiles(option: str, text: str) -> tuple[float, float, float, float]:
    try:
        values = [float(part) for part in names(text)]
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r} is no number, or four with commas between them") from error
    if len(values) == 1:
        values *= 4
    if len(values) != 4 or values != sorted(values) or not 1 <= values[0] <= values[-1] < math.inf:
        raise ConfigError(f"{option}: {text!r} must be one length, or p10,p50,p90,p97 that do not decrease")
    return values[0], values[1], values[2], values[3]


def _measured(asked: Asked, engine: "EngineProfile", requests: "Requests", effort: "Effort") -> "Capability":
    from forebay.core.instance import EngineFlags
    from forebay.simulator.capability import measure

    console, counted = Console(stderr=True, highlight=False), [0]
    level = asked.level
    with console.status("") as status:

        def heard(kind: str, trial: "Trial") -> None:
            counted[0] += 1
            text = f"{kind}: {trial.requests_per_s:.3g} requests/s, {100 * trial.attainment:.1f} % in time"
            status.update(f"run {counted[0]}, {text}")

        return measure(engine, EngineFlags(), requests, level, effort, heard)


def _plain(asked: Asked, found: "Capability") -> dict[str, Any]:
    return {
        "profile": asked.name,
        "lengths": asked.where,
        "arrivals": asked.arrivals,
        "promises": dataclasses.asdict(asked.level),
        "prompt_tokens_per_s": found.prompt_tokens_per_s,
        "response_tokens_per_s": found.response_tokens_per_s,
        "tokens_per_s": found.tokens_per_s,
        "traffic": [dataclasses.asdict(one) for one in found.found],
    }


def _print(console: Console, asked: Asked, engine: "EngineProfile", found: "Capability") -> None:
    columns = ("requests/s", "prompt", "response", "total tokens/s", "formula", "error %")
    title = f"The most of one instance of {asked.name}, {asked.where}"
    table = make_table(title, "traffic", *columns, "breaks", right="|".join(columns))
    for one in found.found:
        knee, said = one.knee, one.said
        rates = (knee.requests_per_s, knee.prompt_tokens_per_s, knee.response_tokens_per_s, knee.tokens_per_s)
        off = f"{100 * (said.requests_per_s / knee.requests_per_s - 1):+.1f}" if knee.requests_per_s else "–"
        table.add_row(one.kind, *(f"{rate:.4g}" for rate in rates), f"{said.requests_per_s:.4g}", off, said.limit)
    console.print(table)
    if engine.status == "uncalibrated":
        console.print(f"{asked.name} is uncalibrated: nobody compared it with a real engine")
    if min(found.prompt_tokens_per_s, found.response_tokens_per_s, found.tokens_per_s) <= 0:
        raise ConfigError(
            f"one instance of {asked.name} cannot keep the promises at any rate ({found.found[-1].said.limit} breaks "
            "first): loosen --ttft, --itl or --e2e, or lower --attainment"
        )
    console.print("For forebay.toml:\n")
    click.echo(_snippet(asked, engine, found))


def _snippet(asked: Asked, engine: "EngineProfile", found: "Capability") -> str:
    catalog = asked.name.split("/")
    model = asked.model or (catalog[1] if len(catalog) > 1 else engine.name)
    pool = [f'pool = "{asked.pool}"'] if asked.pool else []
    rates = [
        f"{key} = {getattr(found, key):.0f}" for key in ("prompt_tokens_per_s", "response_tokens_per_s", "tokens_per_s")
    ]
    head = ["[[autoscaler.models]]", f'name = "{model}"', *pool, f'profile = "{asked.name}"']
    return "\n".join([*head, *rates])
