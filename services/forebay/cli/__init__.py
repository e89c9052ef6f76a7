"""The command line `forebay`: runs the services of one machine, sends load, shows what happens and why."""

from forebay.cli.root import main

__all__ = ["main"]
