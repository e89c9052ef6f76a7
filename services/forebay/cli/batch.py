"""`forebay batch`: jobs of many requests that nobody waits for."""

import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from forebay.cli.batch_client import Batch, BatchClient
from forebay.cli.batch_input import CHAT, TEXT, requests_from
from forebay.cli.console import make_console, make_table, print_json
from forebay.cli.options import json_option, state_dir_option
from forebay.cli.state import locate
from forebay.core.errors import ConfigError, FailedPrecondition, Unavailable

POLL_S = 0.5
AWAY_S_MAX = 60.0
SPOOL_BYTES = 16 * 1024 * 1024
ENDED = ("completed", "failed", "expired", "cancelled")
ENDPOINTS = {"chat": CHAT, "text": TEXT}

_gateway = click.option("--gateway", default="", help="Address of the gateway's HTTP, host:port.")
_tenant = click.option("--tenant", default="", help="Whose jobs, where nobody needs a key.")
_key = click.option("--key", default="", envvar="FOREBAY_API_KEY", help="The tenant's key, or FOREBAY_API_KEY.")


def _talking(command: Callable[..., None]) -> Callable[..., None]:
    """Gives the command a client of the gateway that its options name."""

    @_tenant
    @_key
    @_gateway
    @state_dir_option
    @functools.wraps(command)
    def talk(*, tenant: str, key: str, gateway: str, state_dir: Path, **options: Any) -> None:
        with BatchClient(locate(state_dir, gateway).http_url, tenant, key) as client:
            command(client=client, **options)

    return talk


@click.group()
def batch() -> None:
    """Submit jobs of many requests that nobody waits for, and fetch their answers.

    \b
    Examples:
      forebay batch submit prompts.jsonl --model llama-8b --wait
      forebay batch list
      forebay batch show batch_0f3a
      forebay batch results batch_0f3a --output answers.jsonl
      forebay batch cancel batch_0f3a
    """


@batch.command()
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option("--model", default="", help="Model of lines that name none.")
@click.option("--endpoint", type=click.Choice(list(ENDPOINTS)), default="chat", show_default=True, help="Of all lines.")
@click.option("--max-tokens", "tokens_max", type=click.IntRange(1), help="Longest answer where a line says nothing.")
@click.option("--window", default="24h", show_default=True, help="Time until all is due, such as 90m, 24h or 7d.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="A note on the job; repeatable.")
@click.option("--wait", is_flag=True, help="Show progress until the job has ended.")
@json_option
@_talking
def submit(
    client: BatchClient,
    file: TextIO,
    model: str,
    endpoint: str,
    tokens_max: int | None,
    window: str,
    metadata: Sequence[str],
    wait: bool,
    as_json: bool,
) -> None:
    """Submit the requests in FILE (- for standard input) as one job.

    Each line is a request in OpenAI's batch form, a JSON object with "prompt" or "messages", or plain text.

    \b
    Examples:
      forebay batch submit requests.jsonl
      forebay batch submit prompts.txt --model llama-8b --max-tokens 200 --window 2h --wait
      cat prompts.txt | forebay batch submit - --model llama-8b --json
    """
    notes = _pairs(metadata)
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as content:
        for line in requests_from(file, model, ENDPOINTS[endpoint], tokens_max):
            content.write(line.encode() + b"\n")
        content.seek(0)
        name = Path(getattr(file, "name", "") or "requests").stem + ".jsonl"
        found = client.submit(name, content, ENDPOINTS[endpoint], window, notes)  # type: ignore[arg-type]
        _print(_waited(client, found, as_json) if wait else found, as_json)


@batch.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most jobs to list.")
@json_option
@_talking
def list_(client: BatchClient, limit: int, as_json: bool) -> None:
    """List jobs, newest first.

    \b
    Examples:
      forebay batch list
      forebay batch list --limit 5 --json
    """
    found = client.list(limit)
    if as_json:
        print_json(found)
        return
    table = make_table("Jobs", "job", "model", "status", "answered", "errors", "due (UTC)", right="answered|errors")
    for column in table.columns:
        column.no_wrap = True
    for one in found:
        counts = one["request_counts"]
        answered = f"{counts['completed']}/{counts['total']}"
        due = _time(one["expires_at"])[5:16]
        table.add_row(one["id"], Text(one["model"]), one["status"], answered, str(counts["failed"]), due)
    make_console().print(table if found else "No jobs. Submit one with: forebay batch submit FILE --model MODEL")


@batch.command()
@click.argument("batch_id")
@click.option("--wait", is_flag=True, help="Show progress until the job has ended.")
@json_option
@_talking
def show(client: BatchClient, batch_id: str, wait: bool, as_json: bool) -> None:
    """Show where a job stands.

    \b
    Examples:
      forebay batch show batch_0f3a
      forebay batch show batch_0f3a --wait
    """
    found = client.get(batch_id)
    _print(_waited(client, found, as_json) if wait else found, as_json)


@batch.command()
@click.argument("batch_id")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write here; default standard output.")
@click.option("--errors", is_flag=True, help="The requests that have an error, in place of those that have an answer.")
@_talking
def results(client: BatchClient, batch_id: str, output: Path | None, errors: bool) -> None:
    """Print the answers of a job that has ended, JSON line by line, in the order of the input.

    \b
    Examples:
      forebay batch results batch_0f3a --output answers.jsonl
      forebay batch results batch_0f3a --errors
    """
    found = client.get(batch_id)
    if found["status"] not in ENDED:
        raise FailedPrecondition(f"{batch_id} is {found['status']}; wait with: forebay batch show {batch_id} --wait")
    file_id = found["error_file_id" if errors else "output_file_id"]
    lines = client.lines(file_id) if file_id else ()
    with click.open_file(str(output) if output else "-", "w", encoding="utf-8") as target:
        for line in lines:
            target.write(line + "\n")


@batch.command()
@click.argument("batch_id")
@json_option
@_talking
def cancel(client: BatchClient, batch_id: str, as_json: bool) -> None:
    """End a job without the requests that have no answer yet; what is answered stays.

    \b
    Examples:
      forebay batch cancel batch_0f3a
    """
    _print(client.cancel(batch_id), as_json)


def _waited(client: BatchClient, found: Batch, is_quiet: bool) -> Batch:
    """The job once it has ended. A gateway that is away for a while is waited for: the work goes on without us."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    away_since_s: float | None = None
    console = make_console()
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=is_quiet or not console.is_terminal) as bar:
        task = bar.add_task(found["status"], total=found["request_counts"]["total"])
        while found["status"] not in ENDED:
            time.sleep(POLL_S)
            try:
                found, away_since_s = client.get(found["id"]), None
            except Unavailable:
                away_since_s = away_since_s or time.monotonic()
                if time.monotonic() - away_since_s > AWAY_S_MAX:
                    raise
            counts = found["request_counts"]
            bar.update(task, description=found["status"], completed=counts["completed"] + counts["failed"])
    return found


def _print(found: Batch, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    counts = found["request_counts"]
    table = make_table(found["id"], "", "")
    table.show_header = False
    table.add_row("status", Text(found["status"], style="bold"))
    table.add_row("requests", f"{counts['completed']} answered, {counts['failed']} errors, of {counts['total']}")
    table.add_row("model", Text(f"{found['model']}, {found['endpoint']}"))
    table.add_row("submitted", _time(found["created_at"]))
    table.add_row("due", f"{_time(found['expires_at'])} ({found['completion_window']})")
    for status in ENDED:
        if found[f"{status}_at"]:
            table.add_row(status, _time(found[f"{status}_at"]))
    if found["metadata"]:
        table.add_row("metadata", Text(", ".join(f"{key}={value}" for key, value in found["metadata"].items())))
    console = make_console()
    console.print(table)
    verb = "results" if found["status"] in ENDED else "show"
    console.print(f"Next: forebay batch {verb} {found['id']}{'' if verb == 'results' else ' --wait'}", soft_wrap=True)


def _time(at_s: Any) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    found = [text.partition("=") for text in texts]
    for key, separator, _ in found:
        if not key or not separator:
            raise ConfigError("--metadata must be KEY=VALUE")
    return {key: value for key, _, value in found}
