"""`forebay train`: makes new models for the predictor, in an environment that has the training packages."""

from pathlib import Path

import click

from forebay.cli.datasets import data_dir
from forebay.core.errors import ConfigError


@click.group()
def train() -> None:
    """Train models for the predictor (needs the packages of: make train-env)."""


@train.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder with open/prompts.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the model. Default: where the predictor finds it.",
)
def length(data: Path | None, output: Path | None) -> None:
    """Train the model that predicts answer lengths.

    \b
    Examples:
      make train-env && .train/bin/forebay train length
      .train/bin/forebay train length --data ../shared/data --output models
    """
    folder = data or data_dir()
    if folder is None:
        raise ConfigError("no training data found; name a folder with open/prompts by --data or FOREBAY_DATA")
    raise NotImplementedError(output)
