"""One gateway's Schedule stream: messages in, answers out, each at its own pace."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from lmaas.scheduler.v1 import request_pb2, scheduler_service_pb2

from forebay.core.errors import InvalidArgument
from forebay.core.scheduling import Answer, Rejected
from forebay.scheduler.shell import Shell
from forebay.wire import convert, convert_pressure, convert_scheduler, validate

BATCH_MAX = 1_024
Message = scheduler_service_pb2.ScheduleRequest
Response = scheduler_service_pb2.ScheduleResponse


class GatewayStream:
    """Reads events as they come and sends answers as the gateway takes them; neither waits for the other.

    When the gateway ends its side, the answers still owed are sent before the stream ends. `close` withdraws what is
    held for it: its leases live on, but nobody is left to take a new one.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._gateway_id = ""
        self._owed: dict[str, int] = {}
        self._ready: deque[Answer] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._is_read = False
        self._error: Exception | None = None
        self.takes_batches = False
        self._reader: asyncio.Task[None] | None = None

    async def responses(self, requests: AsyncIterator[Message]) -> AsyncIterator[Response]:
        """The answers to the stream's arrivals, several at once only to a gateway that `takes_batches`.

        Raises InvalidArgument when a message breaks a rule.
        """
        self._reader = asyncio.create_task(self._read(requests))
        while await self._has_more():
            count = min(len(self._ready), BATCH_MAX) if self.takes_batches else 1
            messages = [convert_scheduler.answer_to_proto(self._ready.popleft()) for _ in range(count)]
            yield messages[0] if count == 1 else Response(batch=messages)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ends reading and withdraws what waits for an answer."""
        if self._reader is not None:
            self._reader.cancel()
        # Each room that this makes may go to another request of the stream.
        for request_id, count in list(self._owed.items()):
            for _ in range(count):
                self._shell.abandon(request_id, self._reply)
        self._owed.clear()

    async def _has_more(self) -> bool:
        """Waits for an answer; False when none comes any more."""
        while not self._ready:
            if self._error is not None or (self._is_read and not self._owed):
                return False
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _read(self, requests: AsyncIterator[Message]) -> None:
        try:
            async for message in requests:
                self._take(message)
        except Exception as error:
            self._error = error
        self._is_read = True
        self._wake()

    def _take(self, message: Message) -> None:
        kind = message.WhichOneof("event")
        if not self._gateway_id and kind not in ("resume", "batch"):
            raise InvalidArgument("the first event of a stream must be resume", violations={"resume": "must be set"})
        match kind:
            case "arrive":
                self._arrive(message.arrive)
            case "progress":
                validate.check(message.progress)
                self._shell.progress(message.progress.lease_id, message.progress.generated_tokens)
            case "finish":
                end = message.finish
                validate.check(end)
                self._shell.finish(end.lease_id, convert.outcome_from_proto(end.outcome), end.generated_tokens)
            case _:
                self._take_rare(kind, message)

    def _take_rare(self, kind: str | None, message: Message) -> None:
        match kind:
            case "cancel":
                validate.check(message.cancel)
                self._shell.cancel(message.cancel.request_id)
            case "resume":
                self._resume(message)
            case "batch":
                self._batch(message)
            case "backlog":
                validate.check(message.backlog)
                jobs = [convert_pressure.waiting_job_from_proto(one) for one in message.backlog.jobs]
                self._shell.backlog(self._gateway_id, jobs)
            case _:
                raise InvalidArgument("a message must hold one event", violations={"event": "must be set"})

    def _batch(self, message: Message) -> None:
        events = message.batch.events
        if len(events) > BATCH_MAX or any(one.WhichOneof("event") == "batch" for one in events):
            text = f"must hold at most {BATCH_MAX} events and no batch"
            raise InvalidArgument(f"a batch {text}", violations={"batch": text})
        self.takes_batches = True
        for event in events:
            self._take(event)

    def _arrive(self, arrival: request_pb2.InferenceRequest) -> None:
        request_id = arrival.request_id
        if not validate.suffices(arrival) and (violations := dict(validate.violations_of(arrival))):
            text = "; ".join(f"{field} {broken}" for field, broken in violations.items())
            self._ready.append(Rejected(request_id, InvalidArgument.reason, text, ""))
            self._wake()
            return
        self._owed[request_id] = self._owed.get(request_id, 0) + 1
        request = convert.request_from_proto(arrival)
        if arrival.traceparent:
            self._shell.traces.begin(request, arrival.traceparent)
        self._shell.arrive(request, self._reply, self._gateway_id)

    def _resume(self, message: Message) -> None:
        validate.check(message.resume)
        self._gateway_id = message.resume.gateway_id
        leases = [convert_scheduler.open_lease_from_proto(one) for one in message.resume.open_leases]
        self._shell.resume(self._gateway_id, leases)

    def _reply(self, answer: Answer) -> None:
        count = self._owed.pop(answer.request_id)
        if count > 1:
            self._owed[answer.request_id] = count - 1
        self._ready.append(answer)
        self._wake()
