"""`forebay train`: makes new models for the predictor, with the packages that only training needs."""

from pathlib import Path

import click

from forebay.cli.datasets import data_dir
from forebay.core.errors import ConfigError


@click.group()
def train() -> None:
    """Train models for the predictor (needs the packages of: make dev).

    \b
    Example:
      make dev && .venv/bin/forebay train length --output models
    """


@train.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of the prompts.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the model.")
@click.option("--version", default="1", show_default=True, help="Version that the model carries.")
@click.option("--seed", type=int, help="Equal seeds and data give equal models. Default: the shipped model's.")
def length(data: Path | None, output: Path, version: str, seed: int | None) -> None:
    """Train the model that predicts answer lengths from prompts.

    Reads the Parquet pairs of prompts and answers in --data (default: FOREBAY_DATA, or shared/data beside the
    repository). Takes some ten minutes on two cores. The model that ships is replaced only where --output says so.

    \b
    Examples:
      forebay train length --output models
      forebay train length --data ../shared/data --output models --version 2
    """
    folder = data or data_dir()
    if folder is None:
        raise ConfigError("no training data found; name a folder with open/prompts by --data or FOREBAY_DATA")
    try:
        from forebay.train.length import run
        from forebay.train.model import Settings
    except ImportError as error:
        raise ConfigError(f"training needs {error.name}, which is not here; run: make dev") from error
    output.mkdir(parents=True, exist_ok=True)
    run(folder, output, version, Settings() if seed is None else Settings(seed=seed))
