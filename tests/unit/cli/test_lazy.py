import sys

import click
import pytest
from click.testing import CliRunner

from forebay.cli.evaluate import COMMANDS as EVALUATE
from forebay.cli.lazy import LazyGroup
from forebay.cli.train import COMMANDS as TRAIN


@pytest.fixture
def group() -> click.Group:
    @click.group(cls=LazyGroup, lazy={"late": ("colorsys:rgb_to_hsv", "Comes late.")})
    def made() -> None:
        """A group."""

    @made.command()
    def early() -> None:
        """Comes early."""
        click.echo("early")

    return made


def test_the_help_page_names_all_and_imports_nothing(group: click.Group) -> None:
    sys.modules.pop("colorsys", None)
    found = CliRunner().invoke(group, ["--help"])
    assert found.exit_code == 0
    assert found.output.index("Comes early.") < found.output.index("Comes late.")
    assert "colorsys" not in sys.modules


def test_early_commands_run_and_unknown_ones_are_refused(group: click.Group) -> None:
    assert CliRunner().invoke(group, ["early"]).output == "early\n"
    assert CliRunner().invoke(group, ["never"]).exit_code == 2


@pytest.mark.parametrize("command", [*EVALUATE.values(), *TRAIN.values()], ids=lambda one: one[0])
def test_every_late_command_is_where_it_is_said_to_be(command: tuple[str, str]) -> None:
    pytest.importorskip("pandas")
    lazy = LazyGroup("g", lazy={"one": command})
    found = lazy.get_command(click.Context(lazy), "one")
    assert isinstance(found, click.Command)
