"""Shows a sweep while it goes on: a progress bar on a terminal, a line for each run elsewhere."""

from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from forebay.cli.console import seconds
from forebay.simulator.runner import Ended, State


class SweepView:
    """Goes to standard error, so that standard output holds results alone; equal errors are shown once. Use `with`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rows]}"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=None, rows="")
        self._seen_count = 0
        self._errors: set[str] = set()

    def __enter__(self) -> "SweepView":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def watch(self, state: State) -> None:
        """Takes the state of a sweep."""
        total = state.rows_total
        rows = f"{state.rows_done:,} requests" if total is None else f"{state.rows_done:,} of {total:,} requests"
        description = f"{len(state.ended)} of {state.job_count} runs"
        self._progress.update(self._task, completed=state.rows_done, total=total, description=description, rows=rows)
        for ended in state.ended[self._seen_count :]:
            self._say(ended)
        self._seen_count = len(state.ended)

    def _say(self, ended: Ended) -> None:
        if ended.error:
            error = ended.error.strip().splitlines()[-1]
            if error not in self._errors:
                # A message names tables in brackets, which are no markup.
                said = f"failed  {ended.job.key}: {error}"
                self._progress.console.print(said, style="red", soft_wrap=True, markup=False)
            self._errors.add(error)
        elif not self._console.is_terminal and not ended.skipped and ended.done is not None:
            click.echo(f"done    {ended.job.key}: {ended.done.row_count:,} in {seconds(ended.done.cpu_s)}", err=True)
