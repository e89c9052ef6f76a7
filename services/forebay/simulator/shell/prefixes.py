"""What every instance remembers of prompts, and how much of each new prompt lies there already."""

from forebay.simulator.shell.context import Context


class Prefixes:
    """Hits in tokens; nothing is remembered where the world has no prefix cache."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def reached(self, row: int, instance: int) -> int:
        """The row reached the instance: tokens of its prompt that lie in the cache there."""
        return 0

    def left(self, row: int) -> None:
        """The row was taken off its instance before it ended."""
