"""One gateway's Schedule stream: messages in, answers out, each at its own pace."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from lmaas.scheduler.v1 import scheduler_service_pb2

from forebay.core.errors import InvalidArgument
from forebay.core.scheduling import Answer, Rejected
from forebay.scheduler.shell import Shell
from forebay.wire import convert, convert_scheduler, validate

BATCH_MAX = 1_024
Message = scheduler_service_pb2.ScheduleRequest


class GatewayStream:
    """Reads events as they come and sends answers as the gateway takes them; neither waits for the other.

    When the gateway ends its side, the answers still owed are sent before the stream ends. `close` withdraws what is
    held for it: its leases live on, but nobody is left to take a new one.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._gateway_id = ""
        self._owed: Counter[str] = Counter()
        self._outbox: asyncio.Queue[Answer | Exception | None] = asyncio.Queue()
        self._is_read = False
        self.takes_batches = False
        self._reader: asyncio.Task[None] | None = None

    async def answers(self, requests: AsyncIterator[Message]) -> AsyncIterator[list[Answer]]:
        """The answers to the stream's arrivals, several at once only to a gateway that `takes_batches`.

        Raises InvalidArgument when a message breaks a rule.
        """
        self._reader = asyncio.create_task(self._read(requests))
        while not self._is_read or self._owed or not self._outbox.empty():
            ready = [await self._outbox.get()]
            while self.takes_batches and not self._outbox.empty() and len(ready) < BATCH_MAX:
                ready.append(self._outbox.get_nowait())
            answers = [one for one in ready if one is not None and not isinstance(one, Exception)]
            if answers:
                yield answers
            for one in ready:
                if isinstance(one, Exception):
                    raise one

    def close(self) -> None:
        """Ends reading and withdraws what waits for an answer."""
        if self._reader is not None:
            self._reader.cancel()
        for request_id in list(self._owed.elements()):
            self._shell.abandon(request_id, self._reply)
        self._owed.clear()

    async def _read(self, requests: AsyncIterator[Message]) -> None:
        last: Exception | None = None
        try:
            async for message in requests:
                self._take(message)
        except Exception as error:
            last = error
        self._is_read = True
        self._outbox.put_nowait(last)

    def _take(self, message: Message) -> None:
        kind = message.WhichOneof("event")
        if not self._gateway_id and kind not in ("resume", "batch"):
            raise InvalidArgument("the first event of a stream must be resume", violations={"resume": "must be set"})
        match kind:
            case "arrive":
                self._arrive(message)
            case "progress":
                validate.check(message.progress)
                self._shell.progress(message.progress.lease_id, message.progress.generated_tokens)
            case "finish":
                validate.check(message.finish)
                outcome = convert.outcome_from_proto(message.finish.outcome)
                self._shell.finish(message.finish.lease_id, outcome, message.finish.generated_tokens)
            case "cancel":
                validate.check(message.cancel)
                self._shell.cancel(message.cancel.request_id)
            case "resume":
                self._resume(message)
            case "batch":
                self._batch(message)
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

    def _arrive(self, message: Message) -> None:
        request_id = message.arrive.request_id
        violations = dict(validate.violations_of(message.arrive))
        if violations:
            text = "; ".join(f"{field} {broken}" for field, broken in violations.items())
            self._outbox.put_nowait(Rejected(request_id, InvalidArgument.reason, text, ""))
            return
        self._owed[request_id] += 1
        self._shell.arrive(convert.request_from_proto(message.arrive), self._reply, self._gateway_id)

    def _resume(self, message: Message) -> None:
        validate.check(message.resume)
        self._gateway_id = message.resume.gateway_id
        leases = [convert_scheduler.open_lease_from_proto(one) for one in message.resume.open_leases]
        self._shell.resume(self._gateway_id, leases)

    def _reply(self, answer: Answer) -> None:
        self._owed[answer.request_id] -= 1
        if not self._owed[answer.request_id]:
            del self._owed[answer.request_id]
        self._outbox.put_nowait(answer)
