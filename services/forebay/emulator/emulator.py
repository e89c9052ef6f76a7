"""All of one emulated Triton, from sockets to models, started and stopped as one thing."""

import asyncio
from collections.abc import Callable, Sequence

from forebay.emulator.answers import Answers
from forebay.emulator.config import Config
from forebay.emulator.faults import Faults, ScheduledFault
from forebay.emulator.http import HttpApi, HttpServer, bind
from forebay.emulator.repository import Repository
from forebay.emulator.server import TritonServer
from forebay.wire.clock import Clock, now_us
from forebay.wire.tracing import OFF, Tracer

STREAM_FLUSH_S = 1.0
_TRACER_CLOSE_S = 2.0


class Emulator:
    """One emulated server. Listens as soon as it is made.

    Raises ConfigError when a port is taken or a model cannot be.

    `ports` holds what was bound under "grpc", "http" and "metrics".
    """

    def __init__(
        self,
        config: Config,
        answers: Answers,
        crash: Callable[[], None],
        clock: Clock = now_us,
        tracer: Tracer = OFF,
    ) -> None:
        self._config = config
        self._tracer = tracer
        self.faults = Faults(crash)
        self.repository = Repository(config, answers, self.faults, clock)
        self._grpc = TritonServer(f"{config.host}:{config.grpc_port}", self.repository, self.faults, tracer)
        self._sockets = [bind(config.host, port) for port in (config.http_port, config.metrics_port)]
        self._http = HttpServer(HttpApi(self.repository, self.faults))
        self._tasks: list[asyncio.Task[None]] = []
        self.ports = {
            "grpc": self._grpc.port,
            "http": int(self._sockets[0].getsockname()[1]),
            "metrics": int(self._sockets[1].getsockname()[1]),
        }

    async def start(self, faults: Sequence[ScheduledFault] = ()) -> None:
        """Answer at once, pass through the cold start, and inject `faults` when their times come."""
        await self._grpc.start()
        self._tasks += [asyncio.ensure_future(self._http.serve(sockets=self._sockets))]
        self._tasks += [asyncio.ensure_future(self._inject(fault)) for fault in faults]
        await self.repository.start()

    async def stop(self) -> bool:
        """Turn new requests away, let those in flight end, then close; False if the time limit cut some off."""
        drained = await self.repository.drain(self._config.exit_timeout_s)
        await self._grpc.stop(STREAM_FLUSH_S)
        self._http.should_exit = True
        await self._tasks[0]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._tracer.close, _TRACER_CLOSE_S)
        return drained

    async def _inject(self, fault: ScheduledFault) -> None:
        await asyncio.sleep(fault.after_s)
        self.faults.change(fault.values)
