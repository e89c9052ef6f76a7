"""Makes the plugin known to a planner, and again whenever the planner has forgotten it."""

import asyncio
import logging

import grpc
from lmaas.dynamo import plugin_pb2 as pb
from lmaas.dynamo.plugin_pb2_grpc import PluginRegistryStub

from forebay.predictor.dynamo.config import DynamoConfig

log = logging.getLogger(__name__)

PROTOCOL_VERSION = "1.0"
TIMEOUT_S = 5.0
_TAKEN = "duplicate_plugin_id"


class Registration:
    """One plugin's entry in one registry; a registry that is away is asked again at each heartbeat, for ever."""

    def __init__(self, channel: grpc.aio.Channel, config: DynamoConfig, token: str, version: str) -> None:
        self._stub = PluginRegistryStub(channel)
        self._config = config
        self._token = token
        self._version = version
        self._is_known = False
        self._problem = ""

    async def run(self) -> None:
        """Registers, and says that we are here, for ever."""
        while True:
            try:
                await self.beat()
                self._tell("")
            except grpc.aio.AioRpcError as error:
                self._is_known = False
                self._tell(f"{error.code().name}: {error.details()}")
            await asyncio.sleep(self._config.heartbeat_s)

    async def beat(self) -> None:
        """One heartbeat, or one attempt to register where the registry does not know us."""
        name, token = self._config.plugin_id, self._token
        if self._is_known:
            beat = pb.HeartbeatRequest(plugin_id=name, auth_token=token)
            self._is_known = (await self._stub.Heartbeat(beat, timeout=TIMEOUT_S)).ok
        if not self._is_known:
            await self._register()

    async def close(self) -> None:
        """Takes the entry out, if the registry can be reached."""
        if self._is_known:
            try:
                await self._leave("graceful_shutdown")
            except grpc.aio.AioRpcError as error:
                log.info("the planner is not told that we leave", extra={"fields": {"error": error.code().name}})

    async def _register(self) -> None:
        answer = await self._stub.Register(self._entry(), timeout=TIMEOUT_S)
        if answer.reject_reason.startswith(_TAKEN):
            # Most often it is our own, of before a restart. It may point elsewhere by now.
            await self._leave("version_upgrade")
            answer = await self._stub.Register(self._entry(), timeout=TIMEOUT_S)
        self._is_known = answer.accepted
        if not answer.accepted:
            self._tell(f"refused: {answer.reject_reason}")
        else:
            log.info("a planner knows us", extra={"fields": {"plugin": self._config.plugin_id}})

    async def _leave(self, reason: str) -> None:
        request = pb.UnregisterRequest(plugin_id=self._config.plugin_id, reason=reason, auth_token=self._token)
        await self._stub.Unregister(request, timeout=TIMEOUT_S)

    def _entry(self) -> pb.RegisterRequest:
        config = self._config
        return pb.RegisterRequest(
            plugin_id=config.plugin_id,
            plugin_type="predict",
            priority=config.priority,
            endpoint=config.endpoint,
            version=self._version,
            execution_interval_seconds=config.window_s,
            hold_policy=pb.HOLD_LAST,
            needs=["observations.traffic"],
            protocol_version=PROTOCOL_VERSION,
            auth_token=self._token,
            observation_window_seconds=config.window_s,
        )

    def _tell(self, problem: str) -> None:
        """Says a problem once, not at each attempt."""
        if problem and problem != self._problem:
            log.warning("the planner does not take us", extra={"fields": {"error": problem}})
        self._problem = problem
