"""Shows a load run while it goes on: in place on a terminal, as a line every few seconds elsewhere."""

import asyncio

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from forebay.cli.client import GatewayClient
from forebay.cli.console import seconds
from forebay.cli.fleet import FleetWatch, ModelCount
from forebay.cli.replay import Progress
from forebay.cli.report import progress_view

TERMINAL_INTERVAL_S = 0.5
LINE_INTERVAL_S = 5.0
RATE_SPAN_S = 10.0


class Display:
    """Prints the progress of one run until cancelled."""

    def __init__(self, console: Console, client: GatewayClient, progress: Progress, fleet: FleetWatch) -> None:
        self._console, self._client, self._progress, self._fleet = console, client, progress, fleet
        self._seen = [(client.elapsed_s(), 0)]

    async def run(self) -> None:
        """Shows the progress for ever."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(LINE_INTERVAL_S)
                self._console.print(self._view(), soft_wrap=True)
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._view(), refresh=True)
                await asyncio.sleep(TERMINAL_INTERVAL_S)

    def _view(self) -> RenderableType:
        progress, now_s = self._progress, self._client.elapsed_s()
        cells = [
            ("sent", str(progress.sent_count)),
            ("in flight", str(progress.in_flight_count)),
            ("done", str(progress.done_count)),
            ("failed", str(progress.failed_count)),
            ("TTFT p50", seconds(progress.ttft_p50_s)),
            ("tokens/s", f"{self._rate(now_s):.0f}"),
        ]
        return progress_view(f"{now_s:5.0f} s", cells, self._fleet_line())

    def _rate(self, now_s: float) -> float:
        self._seen = [one for one in self._seen if now_s - one[0] <= RATE_SPAN_S]
        self._seen.append((now_s, self._progress.tokens))
        first_s, first_tokens = self._seen[0]
        return (self._progress.tokens - first_tokens) / (now_s - first_s) if now_s > first_s else 0.0

    def _fleet_line(self) -> Text | None:
        if not self._fleet.latest:
            return None
        parts = [f"{model}: {_states(counts)}" for model, counts in self._fleet.latest.items()]
        return Text("         " + "   ".join(parts), style="dim")


def _states(counts: ModelCount) -> str:
    others = ((counts.starting, "starting"), (counts.draining, "draining"))
    return ", ".join([f"{counts.ready} ready", *(f"{count} {name}" for count, name in others if count)])
