"""`forebay evaluate`: how good a predictor is on anybody's data, beside what needs no model."""

import click

from forebay.cli.lazy import LazyGroup

COMMANDS = {
    "length": ("forebay.cli.evaluate_length:length", "Score predictions of answer lengths on your own data."),
    "workload": ("forebay.cli.evaluate_workload:workload", "Score forecasts of traffic on your own data."),
}
"""Where each subcommand is, and its line of help."""


@click.group(cls=LazyGroup, lazy=COMMANDS)
def evaluate() -> None:
    """Score a predictor on data of your own, beside simple baselines.

    \b
    Examples:
      forebay evaluate length --model onnx_quantile --data lengths.jsonl
      forebay evaluate workload --data workload.csv
    """
