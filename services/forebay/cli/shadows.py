"""`forebay shadows`: what other policies would have decided on live traffic, and what that would have cost."""

from collections.abc import Iterable
from pathlib import Path

import click
import uvloop
from lmaas.scheduler.v1 import scheduler_service_pb2 as messages
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from lmaas.scheduler.v1.status_pb2 import Shadow, ShadowCost
from rich.table import Table

from forebay.cli.console import make_console, make_table, print_json, share
from forebay.cli.options import json_option, state_dir_option
from forebay.cli.proto_json import plain
from forebay.cli.state import locate
from forebay.wire.channel import connect

CALL_TIMEOUT_S = 5.0
NONE = (
    "No shadows are configured. Add a table to the scheduler's configuration and start it again, such as:\n"
    '  [scheduler.shadows.preserve]\n  system = "preserve_paper"'
)


@click.command()
@json_option
@state_dir_option
def shadows(as_json: bool, state_dir: Path) -> None:
    """Show how often shadow policies would have decided differently, and at what cost.

    A shadow is asked beside the active policies and decides nothing. Costs are means over all decisions compared;
    less than zero means that the shadow's choices would have cost less. The load is the one that the active policies
    have made, so a shadow's own effect on the load is not in it: for that, compare them in the simulator. Routers are
    compared when a request is placed: what the active router holds until then is no difference.

    \b
    Examples:
      forebay shadows
      forebay shadows --json | jq '.[].rows[]'
    """
    found = uvloop.run(look_everywhere(locate(state_dir).schedulers.values()))
    if as_json:
        print_json([plain(one) for one in found])
    elif found:
        make_console().print(table_of(found))
    else:
        click.echo(NONE)


async def look_everywhere(addresses: Iterable[str]) -> list[Shadow]:
    """The shadows of all replicas of the scheduler: each has the models that are its own."""
    merged: dict[str, Shadow] = {}
    for shadow in [one for address in addresses for one in await look(address)]:
        if shadow.name in merged:
            merged[shadow.name].rows.extend(shadow.rows)
        else:
            merged[shadow.name] = shadow
    return list(merged.values())


async def look(address: str) -> list[Shadow]:
    """The scheduler's shadows."""
    async with connect(address) as channel:
        request = messages.ListShadowsRequest()
        return list((await SchedulerServiceStub(channel).ListShadows(request, timeout=CALL_TIMEOUT_S)).shadows)


def table_of(found: list[Shadow]) -> Table:
    """A row a shadow, kind and model."""
    table = make_table("Shadow policies", "shadow", "policy", "model", "compared", "differs", "would cost more")
    for one in found:
        for row in one.rows:
            differs = share(row.different_count / row.compared_count)
            costs = "\n".join(map(_cost, row.costs))
            table.add_row(one.name, one.policies[row.kind], row.model, f"{row.compared_count:,}", differs, costs)
        if not one.rows:
            table.add_row(one.name, ", ".join(one.policies.values()), "", "0", "", "")
    return table


def _cost(one: ShadowCost) -> str:
    return f"{one.mean:+.3g} {one.unit} of {one.name}"
