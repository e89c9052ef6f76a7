"""`forebay conformance`: asks an implementation of a service for everything that the contract promises of it."""

import asyncio
import importlib
from collections.abc import Sequence
from dataclasses import asdict

import click
import grpc
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from forebay.cli.console import make_console, make_table, print_json
from forebay.cli.options import json_option
from forebay.conformance.checks import Check, Result, Suite, Target, Verdict, run_all
from forebay.core.errors import ConfigError, Unavailable
from forebay.wire.channel import connect

SERVICES = ("predictor", "scheduler", "autoscaler", "metrics")
STYLES = {Verdict.PASSED: "green", Verdict.FAILED: "bold red", Verdict.SKIPPED: "yellow"}
CONNECT_TIMEOUT_S = 10.0


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.option("--target", "address", required=True, metavar="HOST:PORT", help="Where the implementation listens.")
@click.option("--model", default="", help="A model that it knows. Default: the first that it tells of.")
@click.option("--only", default="", metavar="TEXT", help="Only checks with this text in their RPC or name.")
@click.option("--timeout", "timeout_s", default=10.0, show_default=True, help="Seconds that one call may take.")
@click.option("--list", "lists", is_flag=True, help="Show the checks and the promises they rest on; ask nobody.")
@json_option
def conformance(
    service: str, address: str, model: str, only: str, timeout_s: float, lists: bool, as_json: bool
) -> None:
    """Ask an implementation of a service, in any language, for what the contract (protos/lmaas) promises of it.

    It is asked over gRPC alone, by requests of its own whose ids begin with "conformance-", and left as it was found as
    far as the contract allows. The exit status is 1 where a check fails.

    \b
    Examples:
      forebay conformance predictor --target 127.0.0.1:7102
      forebay conformance scheduler --target 127.0.0.1:7101 --only Place
      forebay conformance metrics --target 127.0.0.1:7104 --json | jq '.[] | select(.verdict == "failed")'
      forebay conformance autoscaler --target nobody --list
    """
    suite: Suite = getattr(importlib.import_module(f"forebay.conformance.{service}"), service.upper())
    checks = [one for one in suite.checks if only.lower() in f"{one.area} {one.name}".lower()]
    if not checks:
        raise ConfigError(f"no check of {service} has {only!r} in its RPC or name; see: --list")
    if lists:
        _show_checks(checks, as_json)
        return
    results = uvloop.run(_run(checks, address, model, timeout_s, as_json))
    if as_json:
        print_json([{**_plain(one.check), "verdict": one.verdict.value, "detail": one.detail} for one in results])
    else:
        _show(service, address, results)
    raise SystemExit(any(one.verdict is Verdict.FAILED for one in results))


async def _run(checks: Sequence[Check], address: str, model: str, timeout_s: float, quiet: bool) -> list[Result]:
    results = []
    async with connect(address) as channel:
        await reach(channel, address, timeout_s)
        with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
            task = progress.add_task("asking", total=len(checks))
            async for result in run_all(checks, Target(channel, model, timeout_s)):
                results.append(result)
                progress.advance(task)
    return results


async def reach(channel: grpc.aio.Channel, address: str, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Waits until the channel is connected. Raises Unavailable when that takes too long."""
    try:
        async with asyncio.timeout(timeout_s):
            await channel.channel_ready()
    except TimeoutError:
        raise Unavailable(f"nobody answers gRPC on {address}; is it started, and is the port right?") from None


def _show_checks(checks: Sequence[Check], as_json: bool) -> None:
    if as_json:
        print_json([_plain(one) for one in checks])
        return
    table = make_table("", "RPC", "check", "promise")
    for one in checks:
        table.add_row(one.area, one.name, one.promise)
    make_console().print(table)


def _plain(check: Check) -> dict[str, str]:
    return {name: value for name, value in asdict(check).items() if name != "run"}


def _show(service: str, address: str, results: Sequence[Result]) -> None:
    console = make_console()
    console.print(_counts(results))
    for one in results:
        if one.verdict is not Verdict.PASSED:
            text = Text(f"\n{one.verdict.value} ", style=STYLES[one.verdict])
            console.print(text.append(f"{one.check.area}: {one.check.name}", style="not bold default"))
            console.print(Text(f"  {one.detail}"))
            console.print(Text(f"  {one.check.promise}", style="dim"))
    count = {verdict: sum(one.verdict is verdict for one in results) for verdict in Verdict}
    end = "conforms" if not count[Verdict.FAILED] else "does not conform"
    said = ", ".join(f"{count[one]} {one.value}" for one in Verdict)
    console.print(f"\nThe {service} on {address} {end}: {said}.")


def _counts(results: Sequence[Result]) -> Table:
    table = make_table("", "RPC", *(one.value for one in Verdict), right="|".join(Verdict))
    for area in dict.fromkeys(one.check.area for one in results):
        of = [one.verdict for one in results if one.check.area == area]
        table.add_row(area, *(str(of.count(verdict) or "") for verdict in Verdict))
    return table
