"""`forebay load`: replays traffic against a gateway and says what came of it."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import uvloop
from rich.console import Console

from forebay.cli.client import GatewayClient
from forebay.cli.console import make_console, print_json
from forebay.cli.fleet import FleetSample, FleetWatch
from forebay.cli.live import Display
from forebay.cli.loaders import SAMPLES, Arrival, Prompt, read_prompts, read_trace
from forebay.cli.options import names, state_dir_option
from forebay.cli.plan import CLASS_NAMES, Dealer, arrival_times
from forebay.cli.replay import Replay
from forebay.cli.report import as_json, print_report
from forebay.cli.state import Addresses, locate
from forebay.cli.stats import Summary, summarise
from forebay.core.errors import ConfigError, Unavailable

REQUEST_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to send. `client_count` makes a closed loop; without it arrivals set the times."""

    prompts: Sequence[Prompt]
    arrivals: Sequence[Arrival] = ()
    client_count: int | None = None
    start_s: float = 0.0
    rate_scale: float = 1.0
    duration_s: float | None = None
    limit: int | None = None
    models: Sequence[str] = ()
    tokens_max: int | None = None
    slo_classes: Sequence[str] = ("interactive-normal",)
    seed: int = 1

    def __post_init__(self) -> None:
        if self.rate_scale <= 0:
            raise ConfigError("--rate-scale must be above 0; 2 doubles the rate of the trace")
        if self.client_count is not None and self.duration_s is None and self.limit is None:
            raise ConfigError("a closed loop never ends by itself; give --duration or --limit")


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What came of a load."""

    summary: Summary
    samples: Sequence[FleetSample]


async def run_load(
    console: Console, addresses: Addresses, plan: LoadPlan, show: bool = True, key: str = ""
) -> LoadOutcome:
    """Sends the plan's requests and gathers what came of them; Ctrl-C ends it early.

    Raises Unavailable when no gateway answers or it has no model.
    """
    async with GatewayClient(addresses.http_url, REQUEST_TIMEOUT_S, key=key) as client:
        models = _chosen(plan.models, await client.models())
        replay = Replay(client, Dealer(plan.prompts, models, plan.slo_classes, plan.tokens_max, plan.seed))
        fleet = FleetWatch(addresses.grpc["autoscaler"])
        beside = [fleet.run()]
        if show:
            beside.append(Display(console, client, replay.progress, fleet).run())
        start_s = client.elapsed_s()
        async with _beside(beside), _stopped_by_signal(replay):
            await _send(replay, plan)
        return LoadOutcome(summarise(replay.results, client.elapsed_s() - start_s), fleet.samples)


def _chosen(wanted: Sequence[str], served: Sequence[str]) -> Sequence[str]:
    if not served:
        raise Unavailable("the gateway serves no model yet; see: forebay status")
    for model in wanted:
        if model not in served:
            raise ConfigError(f"the gateway does not serve {model!r}; it serves {', '.join(served)}")
    return wanted or served


async def _send(replay: Replay, plan: LoadPlan) -> None:
    if plan.client_count is not None:
        await replay.closed_loop(plan.client_count, plan.duration_s, plan.limit)
        return
    await replay.open_loop(arrival_times(plan.arrivals, plan.start_s, plan.duration_s, plan.rate_scale, plan.limit))


@contextlib.asynccontextmanager
async def _beside(coroutines: Sequence[object]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(one) for one in coroutines]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _stopped_by_signal(replay: Replay) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, replay.stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def hints(addresses: Addresses, summary: Summary) -> list[str]:
    """Where to look next."""
    lines = [f"metrics: http://{addresses.prometheus['gateway']}/metrics"]
    if summary.slowest:
        lines.insert(0, f"why was it slow: forebay explain {summary.slowest[0].decision_id}")
    return lines


@click.command()
@click.option(
    "--trace", type=click.Path(path_type=Path), help="Arrival times: Azure, Mooncake, BurstGPT, …. Default: sample."
)
@click.option("--prompts", type=click.Path(path_type=Path), help="JSON lines or X.prompts.parquet. Default: samples.")
@click.option("--open-loop", is_flag=True, help="Send at the trace's times, however slow the answers (default).")
@click.option("--closed-loop", type=click.IntRange(1, 1000), metavar="N", help="Keep N requests in flight instead.")
@click.option("--rate-scale", type=float, default=1.0, show_default=True, help="2 replays the trace twice as fast.")
@click.option("--trace-start", type=float, default=0.0, show_default=True, help="Second of the trace to start at.")
@click.option("--duration", type=click.FloatRange(min=0.1), help="Send for so many seconds.")
@click.option("--limit", type=click.IntRange(1), help="Send at most so many requests.")
@click.option("--models", help="Models to ask, separated by commas. Default: all that the gateway serves.")
@click.option("--max-tokens", type=click.IntRange(1), default=1024, show_default=True, help="Longest answer in tokens.")
@click.option(
    "--slo-class",
    "slo_classes",
    type=click.Choice(list(CLASS_NAMES)),
    multiple=True,
    default=("interactive-normal",),
    show_default=True,
    help="Class of the requests; given several times, drawn at random.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds deal equal requests.")
@click.option("--gateway", default="", help="Address of the gateway, host:port. Default: that of the running stack.")
@click.option("--key", default="", envvar="FOREBAY_API_KEY", help="The tenant's key, or FOREBAY_API_KEY.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, allow_dash=True), help="Write figures there (- prints)."
)
@state_dir_option
def load(
    trace: Path | None,
    prompts: Path | None,
    open_loop: bool,
    closed_loop: int | None,
    rate_scale: float,
    trace_start: float,
    duration: float | None,
    limit: int | None,
    models: str | None,
    max_tokens: int,
    slo_classes: tuple[str, ...],
    seed: int,
    gateway: str,
    key: str,
    json_file: Path | None,
    state_dir: Path,
) -> None:
    """Send traffic to a gateway and print what came of it.

    \b
    Examples:
      forebay load                                       the sample trace with sample prompts, 4 minutes
      forebay load --duration 30 --rate-scale 2          half a minute at twice the rate
      forebay load --closed-loop 8 --limit 200           eight clients, 200 requests
      forebay load --trace conv.csv.gz --prompts mine.jsonl --json result.json

    Ends with status 1 when a request failed.
    """
    if open_loop and closed_loop:
        raise ConfigError("--open-loop and --closed-loop exclude each other; give one")
    plan = LoadPlan(
        prompts=read_prompts(prompts or SAMPLES / "prompts.jsonl"),
        arrivals=() if closed_loop else read_trace(trace or SAMPLES / "trace.csv"),
        client_count=closed_loop,
        start_s=trace_start,
        rate_scale=rate_scale,
        duration_s=duration,
        limit=limit,
        models=names(models),
        tokens_max=max_tokens,
        slo_classes=slo_classes,
        seed=seed,
    )
    _report(locate(state_dir, gateway), plan, json_file, key)


def _report(addresses: Addresses, plan: LoadPlan, json_file: Path | None, key: str) -> None:
    console = make_console()
    printed_json = str(json_file) == "-"
    outcome = uvloop.run(run_load(console, addresses, plan, show=not printed_json, key=key))
    result = as_json(outcome.summary, outcome.samples, _options(plan))
    if printed_json:
        print_json(result)
    else:
        print_report(console, outcome.summary, outcome.samples, hints(addresses, outcome.summary))
    if json_file is not None and not printed_json:
        import json

        json_file.write_text(json.dumps(result, indent=2) + "\n")
        console.print(f"figures written to {json_file}")
    if outcome.summary.failed_count or not outcome.summary.ok_count:
        raise SystemExit(1)


def _options(plan: LoadPlan) -> dict[str, object]:
    """The plan without its data: what is needed to repeat the run."""
    kept = ("client_count", "start_s", "rate_scale", "duration_s", "limit", "tokens_max", "slo_classes", "seed")
    return {"prompt_count": len(plan.prompts), **{name: getattr(plan, name) for name in kept}}
