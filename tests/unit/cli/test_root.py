"""Every command explains itself with examples, and its errors are one sentence with a status."""

import click
import pytest
from click.testing import CliRunner

from forebay.cli import main
from forebay.cli.root import Commands
from forebay.core.errors import ConfigError, Unavailable


def commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in main.commands.items():
        is_group = isinstance(command, click.Group)
        found += [(name, sub) for sub in command.list_commands(click.Context(command))] if is_group else [(name,)]
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_help_with_examples(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output


def test_the_commands_come_in_the_order_of_a_newcomers_needs() -> None:
    assert list(main.commands)[:4] == ["up", "down", "load", "status"]


@pytest.mark.parametrize(("error", "status"), [(ConfigError("mend it"), 2), (Unavailable("start it"), 1)])
def test_an_error_is_one_sentence_and_a_status(error: Exception, status: int) -> None:
    @click.group(cls=Commands)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == status
    assert result.output == f"Error: {error}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["load", "--open-loop", "--closed-loop", "2"], "exclude each other"),
        (["load", "--closed-loop", "2"], "never ends"),
        (["load", "--rate-scale", "0"], "--rate-scale"),
        (["load", "--trace", "/nowhere.csv"], "/nowhere.csv"),
        (["load", "--prompts", "/nowhere.jsonl"], "/nowhere.jsonl"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert words in result.output
