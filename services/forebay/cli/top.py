"""`forebay top`: the fleet by instance, live in a terminal: what it has, what is expected, and who is away."""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import click
import grpc
import uvloop
from lmaas.common.v1.instance_pb2 import Instance, InstanceState
from lmaas.metrics.v1.snapshot_pb2 import InstanceLoad
from lmaas.predictor.v1 import predictor_service_pb2
from lmaas.predictor.v1.length_pb2 import PredictorAccuracy
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.pressure_pb2 import InstanceAnticipation
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from lmaas.scheduler.v1.status_pb2 import ScheduledInstance
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from forebay.cli.console import make_console, make_table, print_json, seconds, share
from forebay.cli.options import json_option, state_dir_option
from forebay.cli.state import Addresses, locate
from forebay.cli.status import view_json
from forebay.cli.view import CALL_TIMEOUT_S, View, look
from forebay.core.errors import Unavailable
from forebay.wire.channel import connect

ABSENT = "–"
STATE_STYLES = {"ready": "green", "draining": "yellow", "lost": "red"}
STEP_ITERATIONS, STEP_COUNT = 25, 16
"""400 iterations ahead: some ten seconds of an engine."""
SNAPSHOT_WINDOW_S = 60.0
"""What the metrics service's sums of a model span."""
ROW_COUNT = 8


@dataclass(slots=True)
class Frame:
    """What one frame shows: the view of all services, the most that each instance's cache is expected to hold (in
    shares, several replicas' requests added), and how well predictors do."""

    view: View
    peaks: dict[str, float] = field(default_factory=dict)
    accuracy: list[PredictorAccuracy] = field(default_factory=list)


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and exit; so it does where no terminal is.")
@click.option(
    "--interval", "interval_s", type=click.FloatRange(0.2, 3_600), default=1.0, show_default=True, help="Seconds."
)
@json_option
@state_dir_option
def top(once: bool, interval_s: float, as_json: bool, state_dir: Path) -> None:
    """Show the fleet by instance, live, until Ctrl-C.

    KV is the share of the cache in use, and `ahead` the most that it is expected to be within 400 iterations if every
    answer gets as long as predicted. Tokens/s are those of the last minute. Predictions: answers within the p90 bound,
    and the error of the median.

    \b
    Examples:
      forebay top
      forebay top --interval 5
      forebay top --once
      forebay top --json | jq '.anticipated'
    """
    addresses = locate(state_dir)
    console = make_console()
    if console.is_terminal and not (once or as_json):
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(_watch(addresses, interval_s))
        return
    frame = uvloop.run(gather(addresses))
    if as_json:
        print_json(frame_json(frame))
    else:
        console.print(render(frame))
    if not any(frame.view.serving.values()):
        raise Unavailable(f"no service answers (scheduler: {addresses.grpc['scheduler']}); start a stack: forebay up")


async def _watch(addresses: Addresses, interval_s: float) -> None:
    with Live(console=make_console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(render(await gather(addresses)), refresh=True)
            await asyncio.sleep(interval_s)


async def gather(addresses: Addresses) -> Frame:
    """Asks everybody at once; one that is away leaves its part empty."""
    frame = Frame(View())
    schedulers = [_anticipated(frame, address) for address in addresses.schedulers.values()]
    await asyncio.gather(_view(frame, addresses), _accuracy(frame, addresses.grpc["predictor"]), *schedulers)
    return frame


async def _view(frame: Frame, addresses: Addresses) -> None:
    frame.view = await look(addresses)


async def _anticipated(frame: Frame, address: str) -> None:
    request = scheduler_service_pb2.GetAnticipationRequest(step_iterations=STEP_ITERATIONS, step_count=STEP_COUNT)
    async with connect(address) as channel:
        with contextlib.suppress(grpc.RpcError):
            told = await SchedulerServiceStub(channel).GetAnticipation(request, timeout=CALL_TIMEOUT_S)
            add_peaks(frame.peaks, told.anticipation.instances)


def add_peaks(peaks: dict[str, float], instances: Iterable[InstanceAnticipation]) -> None:
    """Adds what one replica expects; instances of unknown size are left out."""
    for one in instances:
        if one.kv_tokens_max:
            peak = max(one.kv_tokens, default=0) / one.kv_tokens_max
            peaks[one.instance_id] = peaks.get(one.instance_id, 0.0) + peak


async def _accuracy(frame: Frame, address: str) -> None:
    request = predictor_service_pb2.ListAccuracyRequest(page_size=ROW_COUNT)
    async with connect(address) as channel:
        with contextlib.suppress(grpc.RpcError):
            told = await PredictorServiceStub(channel).ListAccuracy(request, timeout=CALL_TIMEOUT_S)
            frame.accuracy = list(told.rows)


def render(frame: Frame) -> RenderableType:
    """The frame; parts that nobody could tell are left out."""
    parts: list[RenderableType] = [*_away(frame.view), _pools(frame.view), _instances(frame)]
    if frame.accuracy:
        parts.append(_predictions(frame.accuracy))
    return Group(*parts)


def _away(view: View) -> list[Text]:
    away = [name for name, serving in view.serving.items() if not serving]
    return [Text(f"! away: {', '.join(away)}; what only they know is left out", style="red")] if away else []


def _pools(view: View) -> Table:
    columns = ("ready", "wanted", "starts", "drains", "held", "in flight", "tokens/s", "TTFT p50")
    table = make_table("Models", "pool", *columns, right="|".join(columns))
    loads = {one.model: one for one in view.snapshot.models} if view.snapshot else {}
    queues = {one.model: one for one in view.queues.queues} if view.queues else {}
    for one in view.fleet.models if view.fleet else ():
        load, queue = loads.get(one.model), queues.get(one.model)
        short = one.ready_count < one.instances_wanted
        table.add_row(
            Text(f"{one.model}/{one.pool}" if one.pool else one.model),
            Text(str(one.ready_count), style="yellow" if short else ""),
            *map(str, (one.instances_wanted, one.starting_count, one.draining_count)),
            str(queue.held_count) if queue else ABSENT,
            str(queue.lease_count) if queue else ABSENT,
            f"{load.response_tokens / SNAPSHOT_WINDOW_S:,.0f}" if load else ABSENT,
            seconds(load.ttft_p50_s) if load and load.ttft_p50_s else ABSENT,
        )
    return table


def _instances(frame: Frame) -> Table:
    columns = ("running", "waiting", "placed", "KV", "ahead", "tokens to come")
    table = make_table("Instances", "instance", "state", *columns, right="|".join(columns))
    scheduled, observed = frame.view.scheduled(), frame.view.observed()
    for one in sorted(frame.view.all_instances(), key=lambda one: one.instance_id):
        known, load = scheduled.get(one.instance_id), observed.get(one.instance_id)
        table.add_row(
            Text(one.instance_id), _state(one, load), *_numbers(load, known, frame.peaks.get(one.instance_id))
        )
    return table


def _state(one: Instance, load: InstanceLoad | None) -> Text:
    name = InstanceState.Name(one.state).removeprefix("INSTANCE_STATE_").lower()
    if load is not None and not load.reachable:
        return Text(f"{name}, silent", style="red")
    return Text(name, style=STATE_STYLES.get(name, ""))


def _numbers(load: InstanceLoad | None, known: ScheduledInstance | None, peak: float | None) -> tuple[str | Text, ...]:
    has = load.HasField if load is not None else lambda name: False
    return (
        str(load.running_count) if load and has("running_count") else ABSENT,
        str(load.waiting_count) if load and has("waiting_count") else ABSENT,
        str(known.lease_count) if known else ABSENT,
        share(load.kv_utilization) if load and has("kv_utilization") else ABSENT,
        Text(share(peak), style="red" if peak is not None and peak > 1 else ""),
        f"{known.predicted_tokens:,}" if known else ABSENT,
    )


def _predictions(rows: Iterable[PredictorAccuracy]) -> Table:
    columns = ("outcomes", "within p90", "error, tokens", "reserve")
    table = make_table(
        "Predicted against actual", "predictor", "model", "application", *columns, right="|".join(columns)
    )
    for one in rows:
        table.add_row(
            Text(one.predictor, style="red" if one.is_drifting else ""),
            Text(one.model),
            Text(one.application),
            str(one.outcome_count),
            share(one.coverage_p90 if one.HasField("coverage_p90") else None),
            f"{one.mae_tokens:,.0f}",
            f"{one.reserve_ratio:.2f}" if one.HasField("reserve_ratio") else ABSENT,
        )
    return table


def frame_json(frame: Frame) -> dict[str, object]:
    """The frame as JSON, in the contract's own names; `anticipated` are shares of the cache by instance."""
    accuracy = [
        {
            "predictor": one.predictor,
            "model": one.model,
            "application": one.application,
            "outcome_count": one.outcome_count,
            "mae_tokens": one.mae_tokens,
            "coverage_p90": one.coverage_p90 if one.HasField("coverage_p90") else None,
            "is_drifting": one.is_drifting,
        }
        for one in frame.accuracy
    ]
    return {**view_json(frame.view), "anticipated": frame.peaks, "accuracy": accuracy}
