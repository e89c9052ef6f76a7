"""`forebay demo`: the main job from start to end, in under three minutes on two cores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.text import Text

from forebay.cli.console import make_console
from forebay.cli.datasets import Traffic, find_traffic, write_answers
from forebay.cli.explain import find, print_decision
from forebay.cli.load import LoadOutcome, LoadPlan, run_load
from forebay.cli.loaders import SAMPLES, read_prompts
from forebay.cli.options import port_base_option
from forebay.cli.report import print_report
from forebay.cli.stack import Stack, check_not_running
from forebay.cli.stack_config import REAL_MODEL, FleetOptions
from forebay.cli.state import STATE_DIR, addresses_from
from forebay.cli.stats import Summary
from forebay.cli.up import announce, check_real, write_config
from forebay.core.errors import ForebayError

DURATION_S = 60.0
RATE_PER_S_MAX = 5.0
"""Highest mean rate of the demonstration: what two cores carry with everything on them."""
CONCURRENCY_TARGET = 2.0
"""Low enough for this load to need more than the instances of the start, so that scaling shows."""
TOKENS_MAX = 1_024
SLO_CLASSES = ("interactive-fast", "interactive-normal")
REAL_RATE_PER_S = 0.5
REAL_LIMIT = 20
REAL_TOKENS_MAX = 64
REAL_APPLICATIONS = ("chat", "classify", "rewrite", "translation")


@click.command()
@click.option("--real", is_flag=True, help="One real Triton with SmolLM2 on the CPU (needs: make triton).")
@click.option("--duration", type=click.FloatRange(1, 600), default=DURATION_S, help="Seconds of load; default 60.")
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds deal equal requests.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=f"{STATE_DIR}/demo",
    show_default=True,
    help="Folder for logs and a fresh database.",
)
@port_base_option
def demo(real: bool, duration: float, seed: int, state_dir: Path, port_base: int) -> None:
    """Start everything, replay a trace of real prompts, show what came of it, explain one decision, stop everything.

    \b
    Examples:
      forebay demo
      forebay demo --real

    Ends with status 1 when a request failed.
    """
    console = make_console()
    traffic = real_traffic() if real else find_traffic(seed)
    plan = make_plan(traffic, real, duration, seed)
    outcome = uvloop.run(_run(console, fresh_folder(state_dir), traffic, plan, real, port_base))
    if outcome.summary.failed_count or not outcome.summary.ok_count:
        raise SystemExit(1)


def fresh_folder(state_dir: Path) -> Path:
    """The state folder without what an earlier demonstration learnt."""
    check_not_running(state_dir)
    state_dir.mkdir(parents=True, exist_ok=True)
    for old in state_dir.glob("forebay.db*"):
        old.unlink()
    return state_dir


def make_plan(traffic: Traffic, real: bool, duration_s: float, seed: int) -> LoadPlan:
    """The load of the demonstration: the trace at its own pace, or slower where two cores could not carry that."""
    rate_per_s = traffic.rate_per_s(duration_s)
    plan = LoadPlan(
        prompts=traffic.prompts,
        arrivals=traffic.arrivals,
        start_s=traffic.start_s,
        rate_scale=min(1.0, RATE_PER_S_MAX / rate_per_s),
        duration_s=duration_s,
        tokens_max=TOKENS_MAX,
        slo_classes=SLO_CLASSES,
        seed=seed,
    )
    if not real:
        return plan
    return replace(plan, rate_scale=REAL_RATE_PER_S / rate_per_s, limit=REAL_LIMIT, tokens_max=REAL_TOKENS_MAX)


def real_traffic() -> Traffic:
    """Traffic for a small real model: short prompts at any time; its answers are as long as it makes them."""
    traffic = find_traffic()
    prompts = [one for one in read_prompts(SAMPLES / "prompts.jsonl") if one.application in REAL_APPLICATIONS]
    note = f"prompts:  {len(prompts)} samples that ship; the model decides how long its answers are"
    return replace(traffic, prompts=prompts, notes=(*traffic.notes[:1], note))


def fleet_of(real: bool, answers: Path) -> FleetOptions:
    """One real Triton, or one emulated instance of each model to start with and three at most."""
    if real:
        check_real()
        return FleetOptions(real=True)
    return FleetOptions(
        instance_count=1, instance_count_max=3, concurrency_target=CONCURRENCY_TARGET, answers=answers.resolve()
    )


async def _run(
    console: Console, folder: Path, traffic: Traffic, plan: LoadPlan, real: bool, port_base: int
) -> LoadOutcome:
    answers = folder / "answers.jsonl"
    write_answers(answers, traffic.prompts)
    config = write_config(fleet_of(real, answers), folder, port_base)
    addresses = addresses_from(port_base)
    _print_notes(console, [*traffic.notes, _pace(plan), _fleet(real)])
    async with Stack(folder, addresses, config, say=console.print) as stack:
        announce(console, stack.run, await stack.wait_fleet())
        console.print(f"sending (logs in {folder / 'logs'}) …", style="bold")
        outcome = await run_load(console, addresses, plan)
        print_report(console, outcome.summary, outcome.samples, ())
        await _explain_one(console, stack, outcome.summary)
        console.print("stopping everything …")
    _print_next(console, folder)
    return outcome


def _print_next(console: Console, folder: Path) -> None:
    """Where a reader may look next, now that everything is stopped."""
    console.print("\nLook next", style="bold")
    for line in (
        f"{folder / 'logs'}   what each service said",
        f"{folder / 'forebay.db'}   every request with its prediction and its outcome (SQLite)",
        "forebay up, then forebay load and forebay status   the same, for as long as you like",
        "ARCHITECTURE.md   the way of a request and of a scaling decision, with file names",
    ):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _pace(plan: LoadPlan) -> str:
    span = f"{plan.duration_s:.0f} s from second {plan.start_s:.0f} of the trace"
    return f"pace:     {span}, at {plan.rate_scale:.2f} times its own"


def _fleet(real: bool) -> str:
    if real:
        return f"fleet:    one real Triton with {REAL_MODEL} on the CPU"
    return f"fleet:    emulated, with the timing of an A100; scaled to {CONCURRENCY_TARGET:.0f} requests an instance"


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(Text(note, style="dim"))


async def _explain_one(console: Console, stack: Stack, summary: Summary) -> None:
    """Explains the slowest request, the one that a reader asks about first."""
    if not summary.slowest:
        return
    console.print("\nWhy did the slowest request go where it went?", style="bold")
    try:
        print_decision(console, await find(stack.run.addresses, summary.slowest[0].decision_id))
    except ForebayError as error:
        console.print(error.message)
