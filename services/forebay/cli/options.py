"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from forebay.cli.state import PORT_BASE, STATE_DIR

F = TypeVar("F", bound=Callable[..., Any])

state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=STATE_DIR,
    show_default=True,
    help="Folder of the running stack: run.json, logs, database.",
)
port_base_option = click.option(
    "--port-base",
    type=click.IntRange(1024, 60_000),
    default=PORT_BASE,
    show_default=True,
    help="First port of the stack; the gateway's HTTP is 80 above.",
)
head_bytes_option = click.option(
    "--head-bytes",
    type=click.IntRange(0, 8_192),
    default=2_048,
    show_default=True,
    help="Read so much of each prompt: as much as the gateways send, [gateway] prompt_head_bytes.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


def names(text: str | None) -> list[str]:
    """The parts of a list such as `a,b`, without blanks."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
