"""`forebay doctor`: looks at everything that Forebay needs on this machine and says what to do about the rest."""

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.text import Text

from forebay.cli.console import make_console, make_table, print_json
from forebay.cli.datasets import data_dir
from forebay.cli.options import json_option, state_dir_option
from forebay.cli.processes import answers, is_free, is_stack
from forebay.cli.stack_config import triton_dir
from forebay.cli.state import PORT_BASE, addresses_from, read_run
from forebay.core.errors import ForebayError

OK, WARN, FAIL = "ok", "warn", "fail"
STYLES = {OK: "green", WARN: "yellow", FAIL: "red"}
COMMAND_TIMEOUT_S = 10
PYTHON_MINIMUM = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it stands, what was seen, and what to do unless it is ok."""

    check: str
    level: str
    seen: str
    advice: str = ""


@click.command()
@json_option
@state_dir_option
def doctor(as_json: bool, state_dir: Path) -> None:
    """Check this machine: Python, packages, GPU, Triton, ports, database, data.

    \b
    Examples:
      forebay doctor
      forebay doctor --json

    Ends with status 1 when something has to be done first.
    """
    found = list(findings(state_dir))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        _print(found)
    if any(one.level == FAIL for one in found):
        raise SystemExit(1)


def _print(found: list[Finding]) -> None:
    table = make_table("Doctor", "", "check", "seen", "what to do")
    for one in found:
        table.add_row(Text(one.level, style=STYLES[one.level]), one.check, one.seen, one.advice)
    make_console().print(table)


def findings(state_dir: Path) -> Iterator[Finding]:
    """What all checks found."""
    return run_checks(
        {
            "python": check_python,
            "packages": check_packages,
            "onnxruntime": check_onnxruntime,
            "GPU": check_gpu,
            "Triton": check_triton,
            "ports": lambda: check_ports(state_dir),
            "database": lambda: check_database(state_dir),
            "data": check_data,
        }
    )


def run_checks(checks: Mapping[str, Callable[[], Iterator[Finding]]]) -> Iterator[Finding]:
    """Runs the checks in turn; one that breaks is a finding too, and hides none of the others."""
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(name, FAIL, f"the check itself failed: {error!r}", "report this line as a bug")


def check_python() -> Iterator[Finding]:
    """The interpreter's version."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < PYTHON_MINIMUM:
        yield Finding("python", FAIL, version, "install Python 3.11 or newer and run: make setup")
    else:
        yield Finding("python", OK, f"{version} ({sys.prefix})")


def check_packages() -> Iterator[Finding]:
    """Installed packages against the pins of our own metadata."""
    try:
        requirements = importlib.metadata.requires("forebay") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", WARN, "forebay is not installed as a package", "run: make setup")
        return
    wanted = dict(filter(None, (_pin(one) for one in requirements)))
    missing = [name for name in wanted if _version(name) is None]
    other = [
        f"{name} {_version(name)} (pinned: {pin})" for name, pin in wanted.items() if _version(name) not in (None, pin)
    ]
    if missing:
        yield Finding("packages", FAIL, f"missing: {', '.join(missing)}", "run: make setup")
    if other:
        yield Finding("packages", WARN, f"other versions: {', '.join(other)}", "run: make setup")
    if not missing and not other:
        yield Finding("packages", OK, f"{len(wanted)} packages as pinned")


def _pin(requirement: str) -> tuple[str, str] | None:
    """Name and version of a run-time pin; None for extras and ranges."""
    found = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^;\s]+)", requirement.strip())
    return (found[1], found[2]) if found else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_onnxruntime() -> Iterator[Finding]:
    """The runtime of the predictors' models, and where it can run them."""
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        yield Finding(
            "onnxruntime",
            FAIL,
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other",
            "run: pip uninstall -y onnxruntime onnxruntime-gpu && make setup",
        )
        return
    import onnxruntime

    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    yield Finding("onnxruntime", OK, f"{onnxruntime.__version__}, built for {', '.join(providers)}")


def check_gpu() -> Iterator[Finding]:
    """The GPUs that the driver shows."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        listed = ""
    if listed:
        yield Finding("GPU", OK, "; ".join(listed.splitlines()))
    else:
        yield Finding(
            "GPU", WARN, "none seen", "nothing: predictors run on the CPU; use emulated instances or --triton"
        )


def check_triton() -> Iterator[Finding]:
    """The real Triton that `make triton` installs."""
    folder = triton_dir()
    stamp = folder / "installed.txt"
    if stamp.exists():
        yield Finding("Triton", OK, f"{folder}: {stamp.read_text().strip()}")
    else:
        yield Finding("Triton", WARN, f"none in {folder}", "for a real model on the CPU: make triton")


def check_ports(state_dir: Path) -> Iterator[Finding]:
    """Whether the running stack answers, or else whether a new one could listen."""
    run = read_run(state_dir)
    if run is None or not is_stack(run.pid):
        yield from _free_ports()
        return
    parts = {"gateway HTTP": run.addresses.http, **run.addresses.grpc}
    silent = [f"{name} {address}" for name, address in parts.items() if not answers(address)]
    if silent:
        yield Finding("ports", FAIL, f"no answer from {', '.join(silent)}", f"read the logs in {run.log_dir}")
    else:
        yield Finding("ports", OK, f"the running stack ({run.pid}) answers on all {len(parts)} addresses")


def _free_ports() -> Iterator[Finding]:
    addresses = addresses_from(PORT_BASE)
    wanted = [addresses.http, *addresses.grpc.values(), *addresses.prometheus.values()]
    taken = [address for address in wanted if not is_free(address)]
    if taken:
        yield Finding("ports", WARN, f"taken: {', '.join(taken)}", "stop their owner, or: forebay up --port-base 17000")
    else:
        yield Finding("ports", OK, f"no stack runs here; its {len(wanted)} ports are free")


def check_database(state_dir: Path) -> Iterator[Finding]:
    """Whether the database can be opened: that of the running stack, or the one that the environment names."""
    run = read_run(state_dir)
    url = run.database_url if run else os.environ.get("FOREBAY_DATABASE_URL", "")
    if not url:
        yield _writable(state_dir)
        return
    from forebay import sql

    try:
        engine = sql.open_engine(url)
    except ForebayError as error:
        yield Finding("database", FAIL, error.message, "correct FOREBAY_DATABASE_URL or start the database")
        return
    yield Finding("database", OK, f"{engine.url.render_as_string()} opens")
    engine.dispose()


def _writable(state_dir: Path) -> Finding:
    folder = next(one for one in (state_dir.absolute(), *state_dir.absolute().parents) if one.exists())
    if os.access(folder, os.W_OK):
        return Finding("database", OK, f"SQLite, will be made in {state_dir}")
    return Finding("database", FAIL, f"{folder} is not writable", "choose another folder with --state-dir")


def check_data() -> Iterator[Finding]:
    """The public traces and prompts beside the repository, and whether they can be read."""
    folder = data_dir()
    if folder is None:
        yield Finding(
            "data", WARN, "no shared data", "nothing: samples ship; or set FOREBAY_DATA to a folder with open/"
        )
    elif _version("pyarrow") is None:
        yield Finding("data", WARN, f"{folder}, but pyarrow is missing", "run: pip install 'forebay[data]'")
    else:
        yield Finding("data", OK, str(folder))
