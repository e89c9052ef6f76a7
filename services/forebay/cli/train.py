"""`forebay train`: makes new models for the predictor, with the packages that only training needs."""

import click

from forebay.cli.lazy import LazyGroup

COMMANDS = {
    "length": ("forebay.cli.train_length:length", "Train a model that predicts answer lengths."),
    "measure-lengths": ("forebay.cli.train_measure:measure_lengths", "Measure the lengths of a real model's answers."),
}
"""Where each subcommand is, and its line of help."""


@click.group(cls=LazyGroup, lazy=COMMANDS)
def train() -> None:
    """Train models for the predictor (needs the packages of: make dev).

    \b
    Examples:
      forebay train length --data mine.jsonl --licence CC-BY-4.0
      forebay train length --from-db --shadow
      forebay train measure-lengths --url http://127.0.0.1:8080/v1 --model smollm2 --output lengths.csv
    """
