"""The plugin put together, as the predictor's composition root and its tests need it."""

import dataclasses
from pathlib import Path

import grpc
from lmaas.dynamo.plugin_pb2_grpc import add_PredictPluginServicer_to_server
from prometheus_client import CollectorRegistry

from forebay.core.errors import ConfigError
from forebay.predictor.build_forecasts import build_forecasts
from forebay.predictor.config import Config
from forebay.predictor.dynamo.registration import Registration
from forebay.predictor.dynamo.servicer import PredictPlugin
from forebay.predictor.dynamo.told import Told
from forebay.predictor.engine import PredictorEngine
from forebay.predictor.traffic.forecast_loop import Fitter
from forebay.wire.channel import connect
from forebay.wire.clock import Clock


class Plugin:
    """The forecaster that is active in `engine`, over what a planner tells; made known to it where the config says so.

    Raises ConfigError for a file of the secret that cannot be read.
    """

    def __init__(
        self, config: Config, engine: PredictorEngine, clock: Clock, version: str, fitter: Fitter | None = None
    ) -> None:
        self._told = Told(config.history_points_max)
        # What a planner tells is complete, and its time is the history's own. Its figures stay off our page: they would
        # bear the names of our own forecasts.
        settled = dataclasses.replace(config, history_settle_s=0.0)
        self._forecasts = build_forecasts(settled, engine, self._told, self._told.clock, CollectorRegistry(), fitter)
        self._servicer = PredictPlugin(self._told, self._forecasts, config.dynamo.quantile, clock)
        self._channel = connect(config.dynamo.registry) if config.dynamo.registry else None
        self.registration: Registration | None = None
        if self._channel is not None:
            token = _secret(config.dynamo.token_file)
            self.registration = Registration(self._channel, config.dynamo, token, version)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds the service to a server."""
        add_PredictPluginServicer_to_server(self._servicer, server)

    async def close(self) -> None:
        """Leaves the planner and lets go of what is being fitted."""
        if self.registration is not None:
            await self.registration.close()
        if self._channel is not None:
            await self._channel.close()
        await self._forecasts.close()


def _secret(path: str) -> str:
    try:
        return Path(path).read_text().strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read token_file of [predictor.dynamo]: {error}") from error
