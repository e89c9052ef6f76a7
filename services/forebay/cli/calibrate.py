"""`forebay calibrate`: fits an engine's profile to measured runs and says how far it is from others."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console

from forebay.cli.console import make_console, make_table, print_json
from forebay.cli.options import json_option, names
from forebay.core.errors import ConfigError
from forebay.core.instance import EngineFlags, EngineProfile
from forebay.simulator.calibration.constants import FRONTEND, TABLE, Constant, blank, known, table
from forebay.simulator.calibration.errors import Errors, errors
from forebay.simulator.calibration.replay import replay
from forebay.simulator.calibration.runs import Run, limits_of, read_runs
from forebay.simulator.calibration.steps import StepErrors, Steps, holds_steps, read_steps, step_errors
from forebay.simulator.profiles import profile_of, save
from forebay.wire.clock import now_us

if TYPE_CHECKING:
    from forebay.simulator.calibration.fit import Fitted

NONE = "none"
TRAFFIC = ("step_s",)
SWEEP = ("step_s", "prefill_s", "seq_s", FRONTEND)
NEW = (TABLE, FRONTEND)
CONTEXT = ("context_s", "pair_s")
CONTEXTS_APART = 4.0
"""Long contexts over short ones, from which on runs tell what context costs from what a sequence costs."""
UNITS = {
    "step_s": "ms an iteration",
    "prefill_s": "ms an iteration with prefill",
    "seq_s": "ms a decoding sequence",
    "context_s": "ms a token of context",
    "pair_s": "ms a query-key pair",
    "mixed_context_s": "ms a token of context beside a prefill",
    "mixed_pair_s": "ms a sequence and prompt token",
    FRONTEND: "ms a request",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What a set of files holds: runs of requests, and iterations one by one."""

    runs: list[Run]
    steps: list[Steps]


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says, option by option."""

    name: str
    runs: tuple[Path, ...]
    check: tuple[Path, ...]
    chosen: str
    max_seqs: int | None
    max_batch_tokens: int | None
    kv_tokens: int
    no_prefix_cache: bool
    first_chunk: bool
    ahead: bool
    engine: str
    output: Path | None

    @property
    def hits_known(self) -> bool:
        """Whether runs must say how much was found in the prefix cache."""
        return not self.no_prefix_cache

    @property
    def flags(self) -> EngineFlags:
        """How the engine admits."""
        return EngineFlags(reserve_full_prompt=not self.first_chunk, admits_ahead=self.ahead)


@click.command()
@click.option("--profile", "name", required=True, help="Where to start: GPU/MODEL/tpN, a profile file, or none.")
@click.option("--runs", multiple=True, type=click.Path(path_type=Path, exists=True), help="Measured; fitted to.")
@click.option("--check", multiple=True, type=click.Path(path_type=Path, exists=True), help="Measured; kept apart.")
@click.option("--fit", "chosen", default="auto", show_default=True, help="Constants to fit, such as step_s,seq_s.")
@click.option(
    "--max-seqs", type=click.IntRange(1), help="Seats of the engine. Default: of the runs' meta file, or 256."
)
@click.option("--max-batch-tokens", type=click.IntRange(2), help="Its token budget. Default: likewise, or 2048.")
@click.option("--kv-tokens", type=click.IntRange(0), default=0, help="What its KV cache holds. Default: the profile's.")
@click.option("--no-prefix-cache", is_flag=True, help="The engine had no prefix cache: runs need no hit_tokens.")
@click.option("--first-chunk", is_flag=True, help="The engine admits a prompt when its first chunk fits.")
@click.option("--ahead", is_flag=True, help="It plans an iteration while the last one runs (async scheduling).")
@click.option("--engine", default="", help="Engine and version, kept in the profile.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the fitted profile there.")
@json_option
def calibrate(as_json: bool, **given: Any) -> None:
    """Fit an engine's profile to measured runs.

    A run is a CSV, JSON lines or Parquet file with a row a request (arrival, first_token and last_token times, prompt,
    output and hit tokens), or a row an iteration (decode_count, context_tokens, prompt_tokens, step_s). Without --fit
    the runs decide: traffic tells only the host time of an iteration (step_s), closed loops (with a column client)
    also what grows with sequences and, if contexts differ, with context; with --profile none, the whole table of
    times by tokens.

    \b
    Examples:
      forebay calibrate --profile H100/Llama-3-8B/tp1 --runs monday.jsonl --check tuesday.jsonl --output h100.json
      forebay calibrate --profile none --max-seqs 4 --max-batch-tokens 256 --kv-tokens 8192 --runs sweep.csv

    Errors on --runs say how well the fit went; only those on --check say how good the profile is.
    """
    asked = Asked(**given)
    if not asked.runs:
        raise ConfigError("nothing to fit: name measured files by --runs")
    fitted, result = _calibrated(asked)
    if asked.output is not None:
        status = "checked" if asked.check else "uncalibrated"
        named = dataclasses.replace(fitted.profile, name=asked.output.stem, status=status)
        save(asked.output, named, _plain(result))
    if as_json:
        print_json(_plain(result))
    else:
        _print(make_console(), result, asked.output)


def _calibrated(asked: Asked) -> "tuple[Fitted, dict[str, Any]]":
    """The fit, and all that is told of it."""
    # scipy takes long to load, and every command loads this module.
    from forebay.simulator.calibration.fit import fit

    said = limits_of(asked.runs[0])
    base = _base(asked, said)
    measured, kept_apart = _read(asked.runs, asked.hits_known), _read(asked.check, asked.hits_known)
    constants, flags = _constants(asked.chosen, asked.name, base, measured.runs), asked.flags
    fitted = fit(base, measured.runs, constants, flags, steps=measured.steps)
    return fitted, {
        "base": asked.name,
        "engine": asked.engine,
        "written": datetime.fromtimestamp(now_us() / 1e6, UTC).isoformat(timespec="seconds"),
        "runs": [path.name for path in asked.runs],
        "fitted": fitted.values,
        "fit": _errors(fitted.profile, measured, flags),
        "check": _errors(fitted.profile, kept_apart, flags),
        "warnings": _warnings(fitted, bool(asked.check), said.get("replicas", 1)),
    }


def _base(asked: Asked, said: Mapping[str, int]) -> EngineProfile:
    """What the fit starts from; limits that nobody asked for are those that the runs' own file says."""
    max_seqs = asked.max_seqs or said.get("max_seqs", 256)
    max_batch_tokens = asked.max_batch_tokens or said.get("max_batch_tokens", 2_048)
    limits = {"max_seqs": max_seqs, "max_batch_tokens": max_batch_tokens, "kv_tokens": asked.kv_tokens}
    if asked.name == NONE:
        if not asked.kv_tokens:
            raise ConfigError("--profile none needs --kv-tokens: the engine's own figure for its cache")
        return blank(**limits)
    try:
        return profile_of(asked.name, **limits)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _read(paths: Sequence[Path], hits_known: bool) -> Measured:
    steps = [path for path in paths if holds_steps(path)]
    runs = [run for path in paths if path not in steps for run in read_runs(path, hits_known=hits_known)]
    return Measured(runs, [read_steps(path) for path in steps])


def _constants(chosen: str, name: str, base: EngineProfile, runs: Sequence[Run]) -> list[Constant]:
    addable = known(base)
    wanted: Sequence[str] = names(chosen)
    if chosen == "auto":
        looped = not runs or any((run.client >= 0).any() for run in runs)
        wanted = NEW if name == NONE else SWEEP if looped else TRAFFIC
        if wanted is not TRAFFIC and _contexts_differ(runs):
            wanted = (*wanted, *CONTEXT)
    unknown = [one for one in wanted if one != TABLE and one not in addable]
    if unknown:
        raise ConfigError(f"no constant is called {unknown[0]!r}; known: table, {', '.join(addable)}")
    return [each for one in wanted for each in (table(base) if one == TABLE else [addable[one]])]


def _contexts_differ(runs: Sequence[Run]) -> bool:
    lengths = np.concatenate([np.ones(1), *(run.prompt_tokens + run.output_tokens / 2 for run in runs)])[1:]
    short, long = np.quantile(lengths, (0.1, 0.9)) if len(lengths) else (1.0, 1.0)
    return bool(long >= CONTEXTS_APART * short)


def _errors(profile: EngineProfile, measured: Measured, flags: EngineFlags) -> list[Errors | StepErrors]:
    of_runs = [errors(run, replay(run, profile, flags)) for run in measured.runs]
    return [*of_runs, *(step_errors(steps, profile) for steps in measured.steps)]


def _warnings(fitted: "Fitted", is_checked: bool, replicas: int) -> list[str]:
    found = [f"{name} ended on a bound: the runs do not say what it is" for name in fitted.on_bound]
    found += [f"{name} was left as it is: the runs cannot tell it from the others" for name in fitted.unidentified]
    if not is_checked:
        found.append("no --check: errors on fitted runs are no accuracy, and the profile stays uncalibrated")
    if replicas > 1:
        found.append(f"the run had {replicas} data-parallel replicas: the profile stands for all of them together")
    return found


def _plain(value: Any) -> Any:
    """Values for JSON: what is not a number becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(console: Console, result: dict[str, Any], output: Path | None) -> None:
    constants = make_table("Fitted constants", "constant", "added", "unit", right="added")
    for name, value in result["fitted"].items():
        if name in UNITS:
            constants.add_row(name, f"{1e3 * value:.6g}", UNITS[name])
    rises = sum(value for name, value in result["fitted"].items() if name not in UNITS)
    if rises:
        constants.add_row(TABLE, f"{1e3 * rises:.6g}", "ms of a full budget; the profile's own table is replaced")
    console.print(constants)
    _print_errors(console, "Errors on the runs that were fitted: no accuracy", result["fit"])
    if result["check"]:
        _print_errors(console, "Errors on runs that were kept apart", result["check"])
    for warning in result["warnings"]:
        console.print(f"warning: {warning}")
    if output is not None:
        console.print(f"profile written to {output}")


def _print_errors(console: Console, title: str, found: Sequence[Errors | StepErrors]) -> None:
    columns = ("mean %", "p50 %", "p99 %", "of a request %")
    requests = make_table(title, "run", "requests", "latency", *columns, right="|".join(("requests", *columns)))
    for one in found:
        if isinstance(one, StepErrors):
            console.print(f"{title}: {one.run}, {one.step_count} iterations")
            console.print(f"  sum {one.total:+.1f} %, median of an iteration {one.step:.1f} %")
            continue
        for name, each in (("TTFT", one.ttft), ("TPOT", one.tpot), ("E2E", one.e2e)):
            cells = [f"{value:+.1f}" for value in (each.mean, each.p50, each.p99)]
            requests.add_row(one.run, str(one.request_count), name, *cells, f"{each.request:.1f}")
        requests.add_row(one.run, str(one.request_count), "makespan", f"{one.makespan:+.1f}", "", "", "")
    if requests.row_count:
        console.print(requests)
