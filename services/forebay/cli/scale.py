"""`forebay scale`: asks what a policy would do now without doing it, and sets the bounds of a pool."""

import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import uvloop
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as messages
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.autoscaler.v1.fleet_pb2 import Bounds, ModelFleet, PoolAdvice
from rich.console import Group, RenderableType
from rich.text import Text

from forebay.cli.console import make_console, make_table, print_json
from forebay.cli.fleet_page import ABSENT, look, pool_name, reason_of, warnings_of
from forebay.cli.options import json_option, state_dir_option
from forebay.cli.proto_json import plain
from forebay.cli.state import locate
from forebay.core.errors import ConfigError, NotFound
from forebay.wire.channel import connect

CALL_TIMEOUT_S = 5.0
ADVICE_TIMEOUT_S = 30.0
"""Some policies solve a program over the whole fleet."""
NEITHER = (
    "say what to do: --advise asks the policy without doing anything, and MODEL[/POOL] with --min or --max sets bounds"
)


@click.command()
@click.argument("pool", metavar="[MODEL[/POOL]]", default="")
@click.option("--advise", "advises", is_flag=True, help="Show what would be done now, and do nothing.")
@click.option("--policy", default="", help="With --advise: ask this policy instead of the one in force.")
@click.option(
    "--parameters", multiple=True, metavar="NAME=VALUE", help="With --policy: a parameter, as in TOML; repeatable."
)
@click.option("--min", "least", type=click.IntRange(0, 10_000), help="Set the fewest instances.")
@click.option("--max", "most", type=click.IntRange(0, 10_000), help="Set the most instances.")
@json_option
@state_dir_option
def scale(
    pool: str,
    advises: bool,
    policy: str,
    parameters: tuple[str, ...],
    least: int | None,
    most: int | None,
    as_json: bool,
    state_dir: Path,
) -> None:
    """Show what a policy would do to the fleet now, or set the bounds of a pool.

    Advice is one decision on the live state, limits, budget and step sizes included; nothing is started or stopped, and
    nothing of it is remembered. Another policy is asked with what was seen for the one in force, which may be less than
    it would see in force: then a warning says so. Bounds hold at once.

    \b
    Examples:
      forebay scale --advise
      forebay scale --advise --policy kpa --parameters stable_window_s=120
      forebay scale --advise --json | jq '.pools[] | {pool, instances_before, instances_after, inputs}'
      forebay scale llama-8b --min 2 --max 6
      forebay scale llama-8b/batch --max 0
    """
    address = locate(state_dir).grpc["autoscaler"]
    sets = least is not None or most is not None
    if sets == advises or (sets and not pool):
        raise ConfigError(NEITHER)
    if sets:
        bounds = uvloop.run(_set(address, pool, least, most))
        name = pool_name(bounds.model, bounds.pool)
        if as_json:
            print_json(plain(bounds))
        else:
            click.echo(f"{name} has {bounds.instances_min} to {bounds.instances_max} instances from now on")
        return
    request = messages.AdviseScalingRequest(policy=policy, parameters=parameters_of(parameters))
    advice = uvloop.run(_advise(address, request))
    narrow(advice, pool)
    if as_json:
        print_json(plain(advice))
    else:
        make_console().print(render(advice))


def parameters_of(pairs: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE each. Raises ConfigError for what is none."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name.strip() and equals):
            raise ConfigError(f"--parameters {pair!r}: give NAME=VALUE, such as target=0.7")
        found[name.strip()] = value.strip()
    return found


def narrow(advice: messages.AdviseScalingResponse, wanted: str) -> None:
    """Leaves the pools that a reader asked for. Raises NotFound where there are none."""
    kept = [one for one in advice.pools if not wanted or _is_meant(one, wanted)]
    if wanted and not kept:
        raise NotFound(_unknown(wanted, advice.pools))
    del advice.pools[:]
    advice.pools.extend(kept)


def pool_of(pools: Sequence[ModelFleet], wanted: str) -> ModelFleet:
    """The one pool that a reader means. Raises NotFound when there is none, ConfigError when there are several."""
    exact = [one for one in pools if wanted == (one.pool or one.model)]
    found = exact or [one for one in pools if _is_meant(one, wanted)]
    if not found:
        raise NotFound(_unknown(wanted, pools))
    if len(found) > 1:
        raise ConfigError(f"{wanted} has several pools; name one: {_names(found)}")
    return found[0]


def _is_meant(one: ModelFleet | PoolAdvice, wanted: str) -> bool:
    return wanted in (one.model, one.pool, f"{one.model}/{one.pool}")


def _unknown(wanted: str, pools: Iterable[ModelFleet | PoolAdvice]) -> str:
    return f"no pool {wanted!r} in the fleet; known: {_names(pools)}"


def _names(pools: Iterable[ModelFleet | PoolAdvice]) -> str:
    return ", ".join(pool_name(one.model, one.pool) for one in pools) or "none"


async def _advise(address: str, request: messages.AdviseScalingRequest) -> messages.AdviseScalingResponse:
    async with connect(address) as channel:
        return await AutoscalerServiceStub(channel).AdviseScaling(request, timeout=ADVICE_TIMEOUT_S)


async def _set(address: str, wanted: str, least: int | None, most: int | None) -> Bounds:
    """What is not given stays as it is."""
    async with connect(address) as channel:
        one = pool_of((await look(channel)).models, wanted)
        bounds = Bounds(
            model=one.model,
            pool=one.pool or one.model,
            instances_min=one.bounds.instances_min if least is None else least,
            instances_max=one.bounds.instances_max if most is None else most,
        )
        request = messages.SetBoundsRequest(bounds=bounds, request_id=uuid.uuid4().hex)
        return (await AutoscalerServiceStub(channel).SetBounds(request, timeout=CALL_TIMEOUT_S)).bounds


def render(advice: messages.AdviseScalingResponse) -> RenderableType:
    """The page."""
    title = f"What {advice.policy} would do now; nothing was done"
    table = make_table(title, "pool", "now", "wanted", "then", "why", "what would change it", right="now|wanted|then")
    for one in advice.pools:
        counts = (one.instances_before, one.instances_wanted, one.instances_after)
        why = reason_of(one.reason, one.bound_by)
        table.add_row(Text(pool_name(one.model, one.pool)), *map(str, counts), why, Text(one.flip or ABSENT))
    seen = make_table("What it saw and computed", "pool", "inputs")
    for one in advice.pools:
        if one.inputs:
            inputs = ", ".join(f"{name} {value:.4g}" for name, value in sorted(one.inputs.items()))
            seen.add_row(Text(pool_name(one.model, one.pool)), Text(inputs))
    return Group(table, *([seen] if seen.row_count else []), *warnings_of(advice.warnings))
