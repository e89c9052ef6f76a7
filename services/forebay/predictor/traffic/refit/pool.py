"""Processes that fit forecasters for the service: few, killed when one takes too long, started anew when one dies."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

from forebay.predictor.policy.forecaster import ForecastFailed
from forebay.predictor.traffic.learned import Learned
from forebay.predictor.traffic.refit.frames import HEAD, FrameError, pack, sizes
from forebay.predictor.traffic.refit.tasks import OURS, Task, outcome

END_S = 2.0
"""A process that has closed its output has so long to be gone."""
START_S = 60.0
"""The first task of a process has so much more time: imports of numeric libraries on a busy machine."""


class RefitPool:
    """Fits in at most `count` processes of its own; tasks wait for a free one, and only then does their time run.

    `modules` are packages beside ours whose forecasters may be fitted. Processes start when they are first needed and
    end with `close`, or with this process however it ends.
    """

    def __init__(
        self, count: int, timeout_s: float, modules: Sequence[str] = (), command: Sequence[str] | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._modules = (OURS, *modules)
        self._command = command or (sys.executable, "-m", "forebay.predictor.traffic.refit", *self._modules)
        self._free: asyncio.Queue[_Worker] = asyncio.Queue()
        self._workers = [_Worker(self._command) for _ in range(count)]
        for worker in self._workers:
            self._free.put_nowait(worker)

    async def fit(self, task: Task) -> Learned:
        """What the forecaster learns. Raises ForecastFailed where it fails, crashes or takes too long."""
        try:
            frame = pack(task)
        except FrameError as error:
            text = f"{type(task.policy).__name__} cannot be told to another process: {error}"
            raise ForecastFailed(text) from error
        worker = await self._free.get()
        try:
            return outcome(*await worker.ask(frame, self._timeout_s), self._modules)
        except FrameError as error:
            await worker.end()
            raise ForecastFailed(str(error)) from error
        finally:
            self._free.put_nowait(worker)

    async def close(self) -> None:
        """Ends the processes, whatever they do."""
        await asyncio.gather(*(worker.end() for worker in self._workers))


class _Worker:
    """One process, or the room for one."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: Process | None = None

    async def ask(self, frame: bytes, timeout_s: float) -> tuple[bytes, bytes]:
        """The answering frame; a process that does not give one in time is killed, and so is one left alone."""
        if self._process is None or self._process.returncode is not None:
            # In a session of its own, no signal of a terminal reaches it: it ends when its standard input does.
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, start_new_session=True
            )
            timeout_s += START_S
        answered = False
        try:
            async with asyncio.timeout(timeout_s):
                found = await _exchange(self._process, frame)
            answered = True
            return found
        except TimeoutError as error:
            raise ForecastFailed(f"the fit took longer than {timeout_s:g} s and was ended") from error
        except (OSError, EOFError) as error:
            raise ForecastFailed(f"the process that fitted ended with status {await self.end(END_S)}") from error
        finally:
            if not answered:
                await self.end()

    async def end(self, grace_s: float = 0.0) -> int | None:
        """Ends the process where there is one, and kills it unless it ends by itself in time; its status."""
        process, self._process = self._process, None
        if process is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                return await process.wait()
        with suppress(ProcessLookupError):
            process.kill()
        return await process.wait()


async def _exchange(process: Process, frame: bytes) -> tuple[bytes, bytes]:
    assert process.stdin is not None, "the process has a standard input"
    assert process.stdout is not None, "the process has a standard output"
    process.stdin.write(frame)
    await process.stdin.drain()
    text_count, array_count = sizes(await process.stdout.readexactly(HEAD.size))
    return await process.stdout.readexactly(text_count), await process.stdout.readexactly(array_count)
