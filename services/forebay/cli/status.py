"""`forebay status`: the services, the fleet, the queues and the last scaling decisions on one page."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import click
import uvloop
from lmaas.common.v1.instance_pb2 import Instance, InstanceRole, InstanceState
from lmaas.metrics.v1.snapshot_pb2 import InstanceLoad
from lmaas.scheduler.v1.status_pb2 import ScheduledInstance
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from forebay.cli.console import make_console, make_table, print_json, seconds
from forebay.cli.options import json_option, state_dir_option
from forebay.cli.proto_json import plain
from forebay.cli.state import Addresses, locate
from forebay.cli.view import View, look
from forebay.core.errors import Unavailable
from forebay.core.units import US_PER_S

WATCH_INTERVAL_S = 1.0
STATE_STYLES = {"ready": "green", "draining": "yellow", "lost": "red"}
ABSENT = "–"


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@json_option
@state_dir_option
def status(watch: bool, as_json: bool, state_dir: Any) -> None:
    """Show services, fleet, queues and scaling decisions.

    \b
    Examples:
      forebay status
      forebay status --watch
      forebay status --json | jq .fleet
    """
    addresses = locate(state_dir)
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(_watch(addresses))
        return
    view = uvloop.run(look(addresses))
    if as_json:
        print_json(view_json(view))
    else:
        make_console().print(render(view, addresses))
    if not any(view.serving.values()):
        raise Unavailable(f"no service answers (scheduler: {addresses.grpc['scheduler']}); start a stack: forebay up")


async def _watch(addresses: Addresses) -> None:
    with Live(console=make_console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(render(await look(addresses), addresses), refresh=True)
            await asyncio.sleep(WATCH_INTERVAL_S)


def render(view: View, addresses: Addresses) -> RenderableType:
    """The page; parts that nobody could tell are left out."""
    parts: list[RenderableType] = [_services(view, addresses)]
    if view.fleet is not None:
        parts.append(_models(view))
    if view.all_instances():
        parts.append(_instances(view))
    if view.decisions:
        parts.append(_decisions(view))
    return Group(*parts)


def _services(view: View, addresses: Addresses) -> Table:
    table = make_table("Services", "service", "gRPC", "state", "")
    for name, serving in view.serving.items():
        state = Text("up", style="green") if serving else Text("down", style="red")
        table.add_row(name, addresses.grpc[name], state, _remark(view, name, addresses))
    return table


def _remark(view: View, name: str, addresses: Addresses) -> str:
    if name == "gateway":
        return f"OpenAI API at {addresses.http_url}/v1"
    if name == "predictor":
        active = [f"{one.name}@{one.version}" if one.version else one.name for one in view.predictors if one.active]
        return ", ".join(active)
    if name == "autoscaler" and view.fleet is not None:
        return f"policy {view.fleet.policy}, {_mode(view.fleet.mode)}"
    return ""


def _mode(number: int) -> str:
    return {1: "advisory", 2: "active"}.get(number, "unknown mode")


def _models(view: View) -> Table:
    columns = ("model", "wanted", "ready", "starting", "draining", "bounds", "held", "oldest", "in flight", "TTFT p50")
    table = make_table("Models", *columns, right="|".join(columns[1:]))
    assert view.fleet is not None
    queues = {one.model: one for one in view.queues.queues} if view.queues else {}
    loads = {one.model: one for one in view.snapshot.models} if view.snapshot else {}
    for one in view.fleet.models:
        queue, load = queues.get(one.model), loads.get(one.model)
        table.add_row(
            one.model,
            str(one.instances_wanted),
            str(one.ready_count),
            str(one.starting_count),
            str(one.draining_count),
            f"{one.bounds.instances_min}–{one.bounds.instances_max}",
            str(queue.held_count) if queue else ABSENT,
            seconds(queue.oldest_held.ToMicroseconds() / US_PER_S) if queue and queue.held_count else ABSENT,
            str(queue.lease_count) if queue else ABSENT,
            seconds(load.ttft_p50_s) if load and load.ttft_p50_s else ABSENT,
        )
    return table


def _instances(view: View) -> Table:
    instances, scheduled, observed = view.all_instances(), view.scheduled(), view.observed()
    # Where all serve everything nobody needs to be told, and narrow terminals have other uses for the room.
    has_roles = any(_role(one) not in ("", "mixed") for one in instances)
    columns = ("state", "leases", "cap", "tokens to come", "running", "waiting", "KV", "reachable")
    first = ("instance", "role") if has_roles else ("instance",)
    table = make_table("Instances", *first, *columns, right="leases|cap|tokens to come|running|waiting|KV")
    for one in instances:
        known, load = scheduled.get(one.instance_id), observed.get(one.instance_id)
        named = (one.instance_id, _role(one)) if has_roles else (one.instance_id,)
        table.add_row(*named, _state(one), *_scheduled(known), *_observed(load))
    return table


def _role(instance: Instance) -> str:
    return InstanceRole.Name(instance.role).removeprefix("INSTANCE_ROLE_").lower() if instance.role else ""


def _state(instance: Instance) -> Text:
    name = InstanceState.Name(instance.state).removeprefix("INSTANCE_STATE_").lower()
    return Text(name, style=STATE_STYLES.get(name, ""))


def _scheduled(one: ScheduledInstance | None) -> Iterator[str]:
    if one is None:
        yield from (ABSENT,) * 3
        return
    yield str(one.lease_count)
    yield str(one.concurrency_cap) if one.concurrency_cap else ABSENT
    yield str(one.predicted_tokens)


def _observed(load: InstanceLoad | None) -> Iterator[str]:
    if load is None:
        yield from (ABSENT,) * 4
        return
    yield str(load.running_count) if load.HasField("running_count") else ABSENT
    yield str(load.waiting_count) if load.HasField("waiting_count") else ABSENT
    yield f"{load.kv_utilization * 100:.0f} %" if load.HasField("kv_utilization") else ABSENT
    yield "yes" if load.reachable else "no"


def _decisions(view: View) -> Table:
    table = make_table("Last scaling decisions", "time", "model", "instances", "why", "decision")
    for one in view.decisions:
        at = one.decision_time.ToDatetime().strftime("%H:%M:%S")
        table.add_row(at, one.model, f"{one.instances_before} → {one.instances_after}", one.reason, one.decision_id)
    return table


def view_json(view: View) -> dict[str, object]:
    """The page as JSON, in the contract's own names."""
    return {
        "services": {name: "up" if serving else "down" for name, serving in view.serving.items()},
        "fleet": plain(view.fleet),
        "instances": plain(view.instances).get("instances", []),
        "queues": plain(view.queues).get("queues", []),
        "snapshot": plain(view.snapshot),
        "predictors": [plain(one) for one in view.predictors],
        "decisions": [plain(one) for one in view.decisions],
    }
