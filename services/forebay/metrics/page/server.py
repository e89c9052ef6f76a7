"""The page as a running part of the service: listens, gathers, serves, ends."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Mapping

import grpc
import uvicorn

from forebay.core.errors import ConfigError
from forebay.core.metrics import RequestRecord
from forebay.core.units import US_PER_S
from forebay.metrics.engine import MetricsEngine
from forebay.metrics.page.app import page_app
from forebay.metrics.page.asking import Asked
from forebay.metrics.page.collector import Collector, Sources
from forebay.metrics.page.config import PageConfig
from forebay.metrics.page.explaining import Explainer
from forebay.metrics.page.feed import Feed
from forebay.metrics.page.recent import Recent
from forebay.metrics.page.sources import AskAutoscaler, AskGateway, AskPredictor, AskScheduler
from forebay.metrics.store import Store
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)


class Page:
    """The live page. Raises ConfigError when its address, host:port, cannot be bound; port 0 takes a free one."""

    def __init__(
        self,
        address: str,
        config: PageConfig,
        engine: MetricsEngine,
        store: Store,
        schedulers: Mapping[str, grpc.aio.Channel],
        others: Mapping[str, tuple[str, grpc.aio.Channel]],
        gateway: str,
        clock: Clock,
    ) -> None:
        self._socket, host = _bind(address)
        timeout_s = config.call_timeout_s
        self._recent = Recent(config.promises())
        self._gateway = AskGateway(gateway, timeout_s)

        def sources(collector: Collector) -> Sources:
            (autoscaler, of_autoscaler), (predictor, of_predictor) = others["autoscaler"], others["predictor"]
            ask_predictor = AskPredictor(of_predictor, timeout_s, collector.models_without_forecast)
            return Sources(
                schedulers,
                lambda channel: AskScheduler(channel, timeout_s),
                Asked("autoscaler", autoscaler, AskAutoscaler(of_autoscaler, timeout_s), 2 * US_PER_S),
                Asked("predictor", predictor, ask_predictor, 5 * US_PER_S),
                [Asked("gateway", gateway, self._gateway, 2 * US_PER_S)],
            )

        collector = Collector(engine, store, self._recent, sources)
        self.feed = Feed(collector.state, clock, config.interval_s, config.viewer_count_max)
        explain = Explainer(schedulers, timeout_s)
        self._http = _Http(page_app(self.feed, explain, host))
        self._ended = asyncio.Event()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def observe(self, record: RequestRecord) -> None:
        """Takes a record as it comes."""
        self._recent.observe(record)

    async def run(self) -> None:
        """Serves until cancelled."""
        log.info("serving the page", extra={"fields": {"port": self.port}})
        feeding = asyncio.create_task(self.feed.run())
        try:
            await self._http.serve(sockets=[self._socket])
        finally:
            feeding.cancel()
            await self._gateway.close()
            self._ended.set()

    async def stop(self) -> None:
        """Ends all streams and waits until the server has ended, whose sockets would stay open otherwise."""
        self.feed.close()
        self._http.should_exit = True
        await self._ended.wait()


class _Http(uvicorn.Server):
    """uvicorn without its own signal handling: the composition root decides when to stop."""

    def __init__(self, app: object) -> None:
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def _bind(address: str) -> tuple[socket.socket, str]:
    host, _, port = address.rpartition(":")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), int(port)), family=family), host.strip("[]")
    except (OSError, ValueError) as error:
        text = (
            f"cannot listen on {address} for the page: {error}; choose another FOREBAY_PAGE, or none with FOREBAY_PAGE="
        )
        raise ConfigError(text) from error
