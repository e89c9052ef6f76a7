"""Sends one request to one Triton and reads its answer as it comes; a client that reads slowly slows only itself."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from lmaas.orca.orca_pb2 import OrcaLoadReport
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.core.errors import Aborted, DeadlineExceeded, ForebayError, InvalidArgument, Unavailable
from forebay.core.scheduling import Placement
from forebay.gateway import triton
from forebay.gateway.config import Config
from forebay.gateway.triton import Chunk
from forebay.wire import orca
from forebay.wire.channel import MESSAGE_BYTES_MAX

# No keep-alive pings: a Triton with default settings closes connections that ping while no token flows.
_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.enable_retries", 0),
]
# Triton ends the stream with a status instead of a bare message, so that a client's fault can be told from its own.
# It also tells its load with the end of the stream, if it can: as text, since gRPC keeps the binary form to itself, for
# its own balancers.
_METADATA = (("triton_grpc_error", "true"), (orca.FORMAT, "text"))
_PEER_COUNT_MAX = 1_000
_DRAIN_TIMEOUT_S = 2.0
_DESCRIBE_TIMEOUT_S = 5.0
_MESSAGE_LENGTH_MAX = 500


OnLoad: TypeAlias = Callable[[str, OrcaLoadReport], None]
"""Takes what an instance, by its id, reports of its load with an answer."""


class Upstream:
    """The Tritons of the fleet, one channel each."""

    def __init__(self, config: Config, on_load: OnLoad | None = None) -> None:
        self._config = config
        self._on_load = on_load
        self._peers: dict[str, _Peer] = {}
        self._closing: set[asyncio.Future[None]] = set()

    async def stream(
        self, placement: Placement, request: Any, metadata: Sequence[tuple[str, str]] = ()
    ) -> AsyncGenerator[Chunk, None]:
        """Sends the request and yields what comes back; the last chunk has a finish_reason or is_final.

        Closing the iterator early cancels the request on the instance. Raises InvalidArgument for what the model
        refuses, DeadlineExceeded for an instance that is silent for too long, Aborted for one that fails.
        """
        peer = self._peer(placement.grpc_address)
        peer.call_count += 1
        call = peer.stream(request, timeout=self._config.answer_timeout_s, metadata=(*_METADATA, *metadata))
        where, is_done = placement.instance_id, False
        try:
            async with aclosing(self._read(call, where)) as responses:
                async for chunk in responses:
                    is_done = chunk.is_final or bool(chunk.finish_reason)
                    yield chunk
                    if is_done:
                        return
        except grpc.aio.AioRpcError as error:
            raise _failure(error, where) from error
        finally:
            try:
                await _hang_up(call, is_done)
                if is_done and self._on_load is not None:
                    await _tell_load(call, where, self._on_load)
            finally:
                peer.call_count -= 1

    async def describe(self, address: str, method: str, request: Any) -> Any:
        """Asks an instance about a model by one of the unary methods of its protocol. Raises Unavailable."""
        try:
            return await getattr(self._peer(address).stub, method)(request, timeout=_DESCRIBE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"the instance does not answer {method}: {error.details()}") from error

    async def close(self) -> None:
        """Closes all channels."""
        for peer in self._peers.values():
            await peer.channel.close()

    async def _read(self, call: Any, where: str) -> AsyncGenerator[Chunk, None]:
        try:
            async with asyncio.timeout(self._config.first_token_timeout_s):
                message = await call.read()
            while message is not grpc.aio.EOF:
                if message.error_message:
                    raise Aborted(f"instance {where} failed: {message.error_message[:_MESSAGE_LENGTH_MAX]}")
                yield triton.read(message)
                async with asyncio.timeout(self._config.inter_token_timeout_s):
                    message = await call.read()
        except TimeoutError as error:
            raise DeadlineExceeded(f"instance {where} sent nothing for too long; try again") from error
        except asyncio.CancelledError as error:
            if _is_cancelled_here():
                raise
            raise Aborted(f"instance {where} cancelled the request; try again") from error
        raise Aborted(f"instance {where} ended its answer without a last token; try again")

    def _peer(self, address: str) -> "_Peer":
        if address not in self._peers:
            self._forget_idle()
            self._peers[address] = _Peer(address)
        return self._peers[address]

    def _forget_idle(self) -> None:
        """Instances come and go under new addresses; those that nobody talks to are let go when there are many."""
        if len(self._peers) < _PEER_COUNT_MAX:
            return
        for address in [address for address, peer in self._peers.items() if not peer.call_count]:
            self._closing.add(closing := asyncio.ensure_future(self._peers.pop(address).channel.close()))
            closing.add_done_callback(self._closing.discard)


class _Peer:
    """One Triton."""

    def __init__(self, address: str) -> None:
        self.call_count = 0
        self.channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        # One request a call: on the wire a stream of one message is a single message, and sending it with the call and
        # the end of the stream in one go saves two rounds through grpc.
        self.stream = self.channel.unary_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )


def _is_cancelled_here() -> bool:
    """Whether our own task is cancelled: grpc raises the same error when the server answers with status CANCELLED."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _hang_up(call: Any, is_done: bool) -> None:
    """Lets a finished call end by itself, since a cancelled one would count as cancelled there; cancels any other."""
    if is_done:
        try:
            async with asyncio.timeout(_DRAIN_TIMEOUT_S):
                while await call.read() is not grpc.aio.EOF:
                    pass
        except (TimeoutError, grpc.aio.AioRpcError):
            pass
    call.cancel()


async def _tell_load(call: Any, where: str, on_load: OnLoad) -> None:
    """Hands on the report in the trailers; an answer that has ended has them, and most servers send none."""
    report = orca.read(await call.trailing_metadata() or ()) if call.done() else None
    if report is not None:
        on_load(where, report)


def _failure(error: grpc.aio.AioRpcError, where: str) -> ForebayError:
    text = (error.details() or "no details")[:_MESSAGE_LENGTH_MAX]
    code = error.code()
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidArgument(f"the model refused the request: {text}", reason="REFUSED_BY_MODEL")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"instance {where} did not finish its answer in time; ask for fewer tokens")
    return Aborted(f"instance {where} failed ({code.name}): {text}; try again")
