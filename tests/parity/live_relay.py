"""The live gateway as its clients and instances see it: requests go through the real relay, answers come in chunks."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from forebay.core.errors import ForebayError
from forebay.core.scheduling import Placement
from forebay.core.tokens import TokenEstimator
from forebay.core.values import InferenceRequest, Outcome
from forebay.gateway.relay import Answer, Relay
from forebay.gateway.triton import Chunk
from forebay.simulator.shell.journal import Entry
from tests.parity import live_gateway
from tests.parity.journal_kit import Replay
from tests.parity.live_gateway import PART
from tests.parity.scenarios import Case

__all__ = ["PART", "Live", "wanted"]
NOT_TOLD = ("on_tokens", "on_gone")
"""Each chunk is told, and the end of each request once more; what follows from them shows at the ports."""


def wanted(journal: Sequence[Entry], case: Case) -> Replay:
    """As for the gateway, but for how often it is told the same."""
    return _without(live_gateway.wanted(journal, case))


def _without(replay: Replay) -> Replay:
    replay.told = [one for one in replay.told if one[0] not in NOT_TOLD]
    return replay


@dataclass
class Live(live_gateway.Live):
    """One live gateway with its relay; instances send what the journal says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        upstream: Any = self
        self._relay = Relay(self.loop, upstream, TokenEstimator())
        self._clients: list[asyncio.Task[None]] = []
        self._wires: dict[str, asyncio.Queue[Chunk | ForebayError]] = {}
        self._tokens: dict[str, int] = {}

    async def run(self, journal: Sequence[Entry]) -> Replay:
        """Hears the journal."""
        found = await super().run(journal)
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        return _without(found)

    async def _client(self, request: InferenceRequest) -> None:
        message = service_pb2.ModelInferRequest()
        try:
            async for _ in self._relay.chunks(Answer(request, 100), message):
                pass
        except ForebayError as error:
            self.replay.note("answers", self.clock.now_us, request.request_id, error)

    # The instances

    async def stream(self, placement: Placement, message: Any, metadata: Any = None) -> AsyncGenerator[Chunk, None]:
        """A request reaches its instance."""
        request_id = message.id
        self.replay.note("answers", self.clock.now_us, request_id, placement)
        wire = self._wires[request_id] = asyncio.Queue()
        self._tokens[request_id] = 0
        while True:
            sent = await wire.get()
            if isinstance(sent, ForebayError):
                raise sent
            yield sent

    # Events

    async def _on_arrive(self, request: InferenceRequest, now_us: int) -> None:
        self._clients.append(asyncio.create_task(self._client(request)))
        await self._rest()

    async def _on_tokens(self, request_id: str, generated_tokens: int, prompt_tokens: int, now_us: int) -> None:
        grown = generated_tokens - self._tokens[request_id]
        self._tokens[request_id] = generated_tokens
        if grown:
            self._wires[request_id].put_nowait(Chunk("", prompt_tokens, grown, "", False, None))
        await self._rest()

    async def _on_failed(self, request_id: str, error: ForebayError, now_us: int) -> None:
        self._wires[request_id].put_nowait(error)
        await self._rest()

    async def _on_finished(self, request_id: str, outcome: Outcome, now_us: int) -> None:
        reason = "length" if outcome is Outcome.LENGTH else "stop"
        self._wires[request_id].put_nowait(Chunk("", 0, 0, reason, True, None))
        await self._rest()

    async def _settle(self, message_count: int) -> None:
        await super()._settle(message_count)
        await self._rest()

    async def _rest(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)
