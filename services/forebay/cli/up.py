"""`forebay up` and `forebay down`: a whole stack on this machine, started and stopped."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click
import uvloop
from rich.console import Console

from forebay.cli.conformance import reach
from forebay.cli.console import make_console, make_table
from forebay.cli.fleet import ModelCount
from forebay.cli.options import port_base_option, state_dir_option
from forebay.cli.processes import end, is_stack, marked, send
from forebay.cli.stack import Stack, check_not_running
from forebay.cli.stack_config import FleetOptions, parse_models, stack_toml, triton_dir
from forebay.cli.state import (
    INSTANCE_PORT,
    SCHEDULER_COUNT_MAX,
    Addresses,
    Run,
    addresses_from,
    read_run,
    run_file,
    with_predictor,
)
from forebay.cli.supervisor import log_tail
from forebay.cli.tenants import wants_keys
from forebay.core.errors import ConfigError, FailedPrecondition, Unavailable
from forebay.wire.channel import connect

DETACH_TIMEOUT_S = 300.0
DOWN_TIMEOUT_S = 90.0
SWEEP_GRACE_S = 10.0
POLL_S = 0.2


@click.command()
@click.option("--emulated", type=click.IntRange(1, 32), metavar="N", help="Emulated instances a model; default 2.")
@click.option("--models", help="Emulated models: NAME or NAME=GPU/MODEL/tpN, separated by commas.")
@click.option(
    "--triton",
    "tritons",
    multiple=True,
    metavar="HOST:PORT[=URL]",
    help="gRPC of a Triton that runs already, with its metrics page.",
)
@click.option("--real", is_flag=True, help="Start one real Triton with a small language model (needs: make triton).")
@click.option("--answers", type=click.Path(path_type=Path, exists=True), help="Answer lengths of the emulators.")
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="Your own settings.")
@click.option(
    "--schedulers",
    type=click.IntRange(1, SCHEDULER_COUNT_MAX),
    default=1,
    metavar="N",
    help="Replicas of the scheduler; models are shared among them.",
)
@click.option(
    "--predictor", default="", metavar="HOST:PORT", help="A predictor of your own that runs there; ours is not started."
)
@port_base_option
@click.option("--detach", is_flag=True, help="Return once it runs; end it with: forebay down.")
@state_dir_option
def up(
    emulated: int | None,
    models: str | None,
    tritons: tuple[str, ...],
    real: bool,
    answers: Path | None,
    config: Path | None,
    schedulers: int,
    predictor: str,
    port_base: int,
    detach: bool,
    state_dir: Path,
) -> None:
    """Start all services and a fleet on this machine, and keep them running until Ctrl-C.

    \b
    Examples:
      forebay up                                    two emulated models, two instances each
      forebay up --emulated 1 --models llama-8b     one instance of one model
      forebay up --models big=H100/Llama-3-70B/tp4  another model of the catalog
      forebay up --real                             one real Triton with SmolLM2
      forebay up --triton 10.0.0.5:8001             adopt a Triton that runs already
      forebay up --predictor 127.0.0.1:9102         your own predictor in place of ours
      forebay up --config forebay.toml --detach     your own settings, in the background
    """
    check_not_running(state_dir)
    state_dir.mkdir(parents=True, exist_ok=True)
    options = fleet_options(emulated, models, tritons, real, answers, config)
    if detach:
        _detach(state_dir)
        return
    config = config or write_config(options, state_dir, port_base)
    addresses = addresses_from(port_base, schedulers)
    if predictor:
        uvloop.run(_check_answers(predictor))
        addresses = with_predictor(addresses, predictor)
    uvloop.run(_serve(make_console(), state_dir, addresses, config))


async def _check_answers(address: str) -> None:
    """Raises Unavailable where nobody answers: lengths would be guessed, and nobody would notice."""
    async with connect(address) as channel:
        await reach(channel, address)


def fleet_options(
    emulated: int | None,
    models: str | None,
    tritons: tuple[str, ...],
    real: bool,
    answers: Path | None,
    config: Path | None,
) -> FleetOptions:
    """The fleet that the options ask for; raises ConfigError when they contradict each other."""
    kinds = [bool(emulated or models or answers), bool(tritons), real, config is not None]
    if sum(kinds) > 1:
        raise ConfigError("give one of: --emulated/--models/--answers, --triton, --real, --config")
    if real:
        check_real()
    count = emulated or 2
    return FleetOptions(
        emulated=parse_models(models),
        instance_count=count,
        instance_count_max=2 * count,
        tritons=tritons,
        real=real,
        answers=answers.resolve() if answers else None,
    )


def check_real() -> None:
    """Raises ConfigError where no real Triton is installed."""
    if not (triton_dir() / "installed.txt").exists():
        raise ConfigError(f"no real Triton is installed in {triton_dir()}; install it with: make triton")


def write_config(options: FleetOptions, state_dir: Path, port_base: int) -> Path:
    """Writes the stack's forebay.toml into the state folder."""
    path = state_dir / "forebay.toml"
    path.write_text(stack_toml(options, state_dir, port_base + INSTANCE_PORT))
    return path


async def _serve(console: Console, state_dir: Path, addresses: Addresses, config: Path) -> None:
    """Runs a stack until SIGINT or SIGTERM; further ones do not hurry it, so that nothing stays behind."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    running = asyncio.create_task(_run(console, state_dir, addresses, config))
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        console.print("stopping …")
        running.cancel()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _run(console: Console, state_dir: Path, addresses: Addresses, config: Path) -> None:
    started_s = time.monotonic()
    console.print(f"starting {', '.join(addresses.own)} (logs in {state_dir / 'logs'}) …")
    async with Stack(state_dir, addresses, config, say=console.print) as stack:
        console.print("waiting for the fleet …")
        counts = await stack.wait_fleet()
        console.print(f"ready after {time.monotonic() - started_s:.1f} s")
        announce(console, stack.run, counts)
        suggest(console, addresses, next(iter(counts)), wants_keys(config))
        console.print("running; Ctrl-C stops everything")
        await asyncio.Event().wait()


def announce(console: Console, run: Run, counts: Mapping[str, ModelCount]) -> None:
    """Prints where everything answers and what to try next."""
    addresses = run.addresses
    table = make_table("Addresses", "part", "gRPC", "Prometheus page", "process")
    for name, address in addresses.grpc.items():
        page = addresses.prometheus[name]
        table.add_row(name, address, f"http://{page}/metrics" if page else "–", str(run.pids.get(name, "–")))
    console.print(table)
    fleet = ", ".join(f"{model} ({one.ready} ready)" for model, one in counts.items())
    page = f"live page    http://{addresses.page}/\n" if addresses.page else ""
    console.print(f"OpenAI API   {addresses.http_url}/v1\n{page}models       {fleet}\n")


def suggest(console: Console, addresses: Addresses, model: str, needs_key: bool) -> None:
    """Prints what to try next."""
    console.print("Try next:", style="bold")
    export = "  export FOREBAY_API_KEY=…    # a tenant's key\n" if needs_key else ""
    key = ' -H "authorization: Bearer $FOREBAY_API_KEY"' if needs_key else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'
    console.print(
        f"{export}  curl -s {addresses.http_url}/v1/chat/completions -H 'content-type: application/json'{key} \\\n"
        f"    -d '{body}'\n"
        "  forebay load --duration 30\n  forebay status\n",
        soft_wrap=True,
        markup=False,
    )


def _detach(state_dir: Path) -> None:
    """Starts the same command without --detach in a session of its own and waits until it is ready."""
    log = state_dir / "up.log"
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "forebay.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline_s = time.monotonic() + DETACH_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        run = read_run(state_dir)
        if run is not None and run.ready:
            click.echo(log.read_text(), nl=False)
            click.echo("it goes on in the background; end it with: forebay down")
            return
        time.sleep(POLL_S)
    raise Unavailable(f"the stack did not come up; the end of {log}:\n{log_tail(log)}")


@click.command()
@state_dir_option
def down(state_dir: Path) -> None:
    """Stop a running stack and everything that belongs to it.

    \b
    Examples:
      forebay down
      forebay down --state-dir /var/lib/forebay
    """
    run = read_run(state_dir)
    if run is None:
        raise FailedPrecondition(f"no stack runs from {state_dir}; nothing to stop")
    if is_stack(run.pid):
        send([run.pid], signal.SIGTERM)
        _wait_gone(run.pid)
    asyncio.run(end(lambda: marked(run.run_id), SWEEP_GRACE_S))
    run_file(state_dir).unlink(missing_ok=True)
    click.echo("stopped")


def _wait_gone(pid: int) -> None:
    deadline_s = time.monotonic() + DOWN_TIMEOUT_S
    while is_stack(pid) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
