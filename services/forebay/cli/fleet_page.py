"""`forebay fleet`: the fleet by pool, why it is what it is, what would change it, and what is expected to come."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import grpc
import uvloop
from google.protobuf.duration_pb2 import Duration
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as messages
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.autoscaler.v1.fleet_pb2 import ForecastBand, Mode, ModelFleet
from lmaas.common.v1.instance_pb2 import Instance, InstanceRole, InstanceState
from lmaas.predictor.v1.workload_pb2 import Quantiles
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from forebay.cli.console import make_console, make_table, print_json, seconds
from forebay.cli.fleet import sparkline
from forebay.cli.options import json_option, state_dir_option
from forebay.cli.proto_json import plain
from forebay.cli.state import locate
from forebay.core.errors import NotFound
from forebay.core.units import US_PER_S
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error

CALL_TIMEOUT_S = 5.0
WATCH_INTERVAL_S = 1.0
ABSENT = "–"
STATE_STYLES = {"ready": "green", "draining": "yellow", "lost": "red"}
NO_FORECAST = "No forecast: the policy asks for none, or the predictor has none yet."


@click.command()
@click.option("--model", default="", help="Only this model.")
@click.option("--instances", "with_instances", is_flag=True, help="Show each instance and why it is in its state.")
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@json_option
@state_dir_option
def fleet(model: str, with_instances: bool, watch: bool, as_json: bool, state_dir: Path) -> None:
    """Show how many instances there are of which model and where, why, and what would change that.

    A pool is the instances of one model that are alike: of one region, GPU and role. Its lead is how long a start takes
    from the decision until requests are taken: median and 90th percentile of the newest ones. Forecasts are rates in
    the next window: 10th percentile, median and 90th percentile; the bars are the medians of all windows ahead.

    \b
    Examples:
      forebay fleet
      forebay fleet --model llama-8b --instances
      forebay fleet --watch
      forebay fleet --json | jq '.models[] | {pool, instances_wanted, reason, flip}'
    """
    address = locate(state_dir).grpc["autoscaler"]
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(_watch(address, model, with_instances))
        return
    found = uvloop.run(_look_once(address, model))
    if as_json:
        print_json(plain(found))
    else:
        make_console().print(render(found, with_instances))


async def look(channel: grpc.aio.Channel, model: str = "") -> messages.GetFleetResponse:
    """The fleet now. Raises NotFound for a model that is not in it."""
    request = messages.GetFleetRequest(model=model)
    found = await AutoscalerServiceStub(channel).GetFleet(request, timeout=CALL_TIMEOUT_S)
    if model and not found.models:
        raise NotFound(f"no model {model!r} is in the fleet; see those that are: forebay fleet")
    return found


async def _look_once(address: str, model: str) -> messages.GetFleetResponse:
    async with connect(address) as channel:
        return await look(channel, model)


async def _watch(address: str, model: str, with_instances: bool) -> None:
    async with connect(address) as channel:
        page: RenderableType = render(await look(channel, model), with_instances)
        with Live(page, console=make_console(), auto_refresh=False, screen=True) as live:
            while True:
                await asyncio.sleep(WATCH_INTERVAL_S)
                try:
                    page = render(await look(channel, model), with_instances)
                    live.update(page, refresh=True)
                except grpc.RpcError as error:
                    # What was seen last stays, with a word that it is old.
                    live.update(Group(Text(from_rpc_error(error).message, style="red"), page), refresh=True)


def render(found: messages.GetFleetResponse, with_instances: bool = False) -> RenderableType:
    """The page."""
    parts: list[RenderableType] = [_pools(found), _why(found.models)]
    parts.append(_forecasts(found.forecasts) if found.forecasts else Text(NO_FORECAST, style="dim"))
    if with_instances:
        parts.append(_instances(found.instances))
    parts += warnings_of(found.warnings)
    return Group(*parts)


def pool_name(model: str, pool: str) -> str:
    """A pool as a reader names it: MODEL, its own name where that tells the model, else MODEL/POOL."""
    if not pool or pool.startswith(model):
        return pool or model
    return f"{model}/{pool}"


def warnings_of(warnings: Iterable[str]) -> list[Text]:
    """A line a warning."""
    return [Text(f"! {text}", style="yellow") for text in warnings]


def _pools(found: messages.GetFleetResponse) -> Table:
    pools = found.models
    # Where all are alike nobody needs to be told, and narrow terminals have other uses for the room.
    columns = {
        "region": [one.region or ABSENT for one in pools] if len({one.region for one in pools}) > 1 else [],
        "GPU": [_gpu(one) for one in pools] if any(one.gpu for one in pools) else [],
        "role": [_role(one) for one in pools] if {_role(one) for one in pools} - {"mixed", ABSENT} else [],
    }
    shown = {name: cells for name, cells in columns.items() if cells}
    numbers = ("ready", "starts", "drains", "wanted", "bounds", "lead p50/p90")
    table = make_table(_title(found), "pool", *shown, *numbers, right="|".join(numbers))
    for index, one in enumerate(pools):
        table.add_row(Text(pool_name(one.model, one.pool)), *(cells[index] for cells in shown.values()), *_numbers(one))
    return table


def _title(found: messages.GetFleetResponse) -> str:
    mode = Mode.Name(found.mode).removeprefix("MODE_").lower()
    leader = f"led by {found.leader}" if found.leader else "nobody leads now"
    return f"Fleet: policy {found.policy}, {mode}, {leader}"


def _gpu(one: ModelFleet) -> str:
    return (f"{one.gpu_count}× {one.gpu}" if one.gpu_count > 1 else one.gpu) or ABSENT


def _role(one: ModelFleet) -> str:
    return InstanceRole.Name(one.role).removeprefix("INSTANCE_ROLE_").lower() if one.role else ABSENT


def _numbers(one: ModelFleet) -> tuple[str, ...]:
    counts = (one.ready_count, one.starting_count, one.draining_count, one.instances_wanted)
    bounds = f"{one.bounds.instances_min}–{one.bounds.instances_max}"
    lead_s = [value.ToMicroseconds() / US_PER_S for value in (one.lead_p50, one.lead_p90)]
    lead = f"{_short(lead_s[0])}/{_short(lead_s[1])} s" if any(lead_s) else ABSENT
    return (*map(str, counts), bounds, lead)


def _span(value: Duration) -> str:
    return seconds(value.ToMicroseconds() / US_PER_S) if value.ToMicroseconds() else ABSENT


def _why(pools: Iterable[ModelFleet]) -> Table:
    table = make_table("Why, and what would change it", "pool", "why so many are wanted", "what would change it")
    for one in pools:
        why = reason_of(one.reason, one.bound_by)
        table.add_row(Text(pool_name(one.model, one.pool)), why, Text(one.flip or ABSENT))
    return table


def reason_of(reason: str, bound_by: str) -> Text:
    """Why so many are wanted, and what is in the way."""
    why = Text(reason or ABSENT)
    return why.append(f"; but {bound_by}", style="yellow") if bound_by else why


def _forecasts(bands: Sequence[ForecastBand]) -> Table:
    columns = ("requests/s", "tokens/s")
    table = make_table("Forecast", "model", "from, UTC", "window", *columns, "ahead", right="|".join(columns))
    for model in dict.fromkeys(band.model for band in bands):
        ahead = [band for band in bands if band.model == model]
        first = ahead[0]
        table.add_row(
            Text(model),
            f"{first.start_time.ToDatetime():%H:%M:%S}",
            f"{len(ahead)} × {_span(first.window)}",
            _rates(first.window, first.requests),
            _rates(first.window, first.prompt_tokens, first.response_tokens),
            sparkline([band.requests.p50 for band in ahead]),
        )
    return table


def _rates(window: Duration, *quantities: Quantiles) -> str:
    """Low, median and high of a sum a second; what adds up is taken to come together."""
    window_s = window.ToMicroseconds() / US_PER_S
    sums = (sum(getattr(one, name) for one in quantities) for name in ("p10", "p50", "p90"))
    return " / ".join(_short(value / window_s) if window_s else ABSENT for value in sums)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _instances(instances: Iterable[Instance]) -> Table:
    table = make_table("Instances", "instance", "pool", "state", "since, UTC", "address", "why")
    for one in instances:
        state = InstanceState.Name(one.state).removeprefix("INSTANCE_STATE_").lower()
        table.add_row(
            Text(one.instance_id),
            Text(pool_name(one.model, one.pool)),
            Text(state, style=STATE_STYLES.get(state, "")),
            f"{one.state_time.ToDatetime():%H:%M:%S}" if one.HasField("state_time") else ABSENT,
            Text(one.grpc_address),
            Text(one.state_reason),
        )
    return table
