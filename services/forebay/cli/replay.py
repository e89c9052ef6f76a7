"""Sends planned requests: open loop at the trace's times, or closed loop with a number of clients."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from forebay.cli.client import GatewayClient
from forebay.cli.plan import Dealer, PlannedRequest
from forebay.cli.stats import CANCELLED, OK, Result, spread

RECENT_COUNT = 100


@dataclass(slots=True)
class Progress:
    """How far a run has come, for the display."""

    sent_count: int = 0
    done_count: int = 0
    tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    recent_ttft_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_COUNT))

    @property
    def failed_count(self) -> int:
        """Requests that failed so far."""
        return sum(self.failures.values())

    @property
    def in_flight_count(self) -> int:
        """Requests that are being answered."""
        return self.sent_count - self.done_count

    @property
    def ttft_p50_s(self) -> float | None:
        """Median TTFT of the last requests."""
        return spread(self.recent_ttft_s).p50

    def finish(self, result: Result) -> None:
        """Counts a request that ended."""
        self.done_count += 1
        self.tokens += result.output_tokens
        if result.outcome != OK:
            self.failures[result.outcome] += 1
        if result.ttft_s is not None:
            self.recent_ttft_s.append(result.ttft_s)


class Replay:
    """Runs a load against one gateway and collects what came of each request.

    `stop` ends it early: nothing more is sent, what is in flight is cancelled and counted as CANCELLED.
    """

    def __init__(self, client: GatewayClient, dealer: Dealer) -> None:
        self._client, self._dealer = client, dealer
        self._stopped = asyncio.Event()
        self._open: dict[asyncio.Task[None], PlannedRequest] = {}
        self.progress = Progress()
        self.results: list[Result] = []

    def stop(self) -> None:
        """Ends the run early."""
        self._stopped.set()

    async def open_loop(self, times_s: Iterable[float]) -> None:
        """Sends at the given times, however slow the answers are, and waits for all of them."""
        start_s = self._client.elapsed_s()
        for at_s in times_s:
            if await self._pause(start_s + at_s - self._client.elapsed_s()):
                break
            self._start(self._dealer.deal(at_s))
        await self._drain()

    async def closed_loop(self, client_count: int, duration_s: float | None, limit: int | None) -> None:
        """Keeps `client_count` requests in flight until the time is over or `limit` were sent."""
        start_s = self._client.elapsed_s()

        def more() -> bool:
            in_time = duration_s is None or self._client.elapsed_s() - start_s < duration_s
            return in_time and (limit is None or self.progress.sent_count < limit) and not self._stopped.is_set()

        while more():
            self._start(self._dealer.deal(self._client.elapsed_s() - start_s))
            if len(self._open) >= client_count:
                await self._first_done()
        await self._drain()

    async def _pause(self, span_s: float) -> bool:
        """Waits, and says whether the run was stopped meanwhile."""
        if span_s > 0 and not self._stopped.is_set():
            try:
                await asyncio.wait_for(self._stopped.wait(), span_s)
            except TimeoutError:
                return False
        return self._stopped.is_set()

    def _start(self, request: PlannedRequest) -> None:
        self.progress.sent_count += 1
        task = asyncio.get_running_loop().create_task(self._run(request))
        self._open[task] = request
        task.add_done_callback(self._ended)

    async def _run(self, request: PlannedRequest) -> None:
        self._keep(await self._client.complete(request))

    def _keep(self, result: Result) -> None:
        self.results.append(result)
        self.progress.finish(result)

    def _ended(self, task: asyncio.Task[None]) -> None:
        request = self._open.pop(task)
        if task.cancelled():
            sent_s = request.at_s
            prompt = request.prompt
            self._keep(Result(request.index, request.model, prompt.application, request.slo_class, sent_s, CANCELLED))
        else:
            task.result()

    async def _first_done(self) -> None:
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait([stopped, *self._open], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()

    async def _drain(self) -> None:
        while self._open and not self._stopped.is_set():
            await self._first_done()
        left = list(self._open)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)
