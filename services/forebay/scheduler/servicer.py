"""Answers lmaas.scheduler.v1.SchedulerService: message in, shell, message out."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from google.protobuf import duration_pb2
from lmaas.scheduler.v1 import scheduler_service_pb2 as pb
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceServicer

from forebay.core import errors
from forebay.core.scheduling import Answer, Placement, Rejected
from forebay.core.units import US_PER_MS, US_PER_S
from forebay.scheduler.config import Config
from forebay.scheduler.shell import Shell
from forebay.scheduler.streams import GatewayStream
from forebay.wire import convert, convert_pressure, convert_scheduler, tracing

SERVICE = "lmaas.scheduler.v1.SchedulerService"
PAGE_SIZE = 1_000
WATCH_INTERVAL_US = 500 * US_PER_MS
STEP_ITERATIONS, STEP_COUNT = 10, 40

T = TypeVar("T")

_ERRORS: dict[str, type[errors.ForebayError]] = {
    "MODEL_UNKNOWN": errors.ModelUnknown,
    "PROMPT_TOO_LONG": errors.PromptTooLong,
    "CANCELLED": errors.Aborted,
    "NO_INSTANCE_READY": errors.NoInstanceReady,
}
"""What a reason becomes where a call must fail; any other Rejected: FAILED_PRECONDITION, Retry: RESOURCE_EXHAUSTED."""


class SchedulerServicer(SchedulerServiceServicer):
    """The contract's servicer; each method's behaviour stands in the contract."""

    def __init__(self, shell: Shell, config: Config) -> None:
        self._shell = shell
        self._engine = shell.engine
        self._grace_us = round(config.resume_grace_s * US_PER_S)

    def Schedule(
        self, request_iterator: AsyncIterator[pb.ScheduleRequest], context: Any
    ) -> AsyncIterator[pb.ScheduleResponse]:
        """Answers a gateway's arrivals for as long as its stream lives."""
        stream = GatewayStream(self._shell)
        context.add_done_callback(lambda _: stream.close())
        return stream.responses(request_iterator)

    async def Place(self, request: pb.PlaceRequest, context: Any) -> pb.PlaceResponse:
        """Waits for one placement."""
        wanted, call = convert.request_from_proto(request.request), tracing.current()
        self._shell.traces.begin(wanted, request.request.traceparent if call is None else call.traceparent)
        answer = await self._shell.place(wanted)
        return pb.PlaceResponse(placement=convert_scheduler.placement_to_proto(_placed(answer)))

    async def Report(self, request: pb.ReportRequest, context: Any) -> pb.ReportResponse:
        """Renews or ends a lease."""
        match request.WhichOneof("event"):
            case "progress":
                self._renew(request.progress.lease_id, request.progress.generated_tokens)
            case "finish":
                outcome = convert.outcome_from_proto(request.finish.outcome)
                self._shell.finish(request.finish.lease_id, outcome, request.finish.generated_tokens)
            case "cancel":
                self._shell.cancel(request.cancel.request_id)
            case _:
                raise errors.InvalidArgument("a report must hold one event", violations={"event": "must be set"})
        return pb.ReportResponse()

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        """The record of one decision."""
        decision = self._engine.explain(request.decision_id)
        return pb.ExplainResponse(decision=convert_scheduler.decision_to_proto(decision))

    async def ListInstances(self, request: pb.ListInstancesRequest, context: Any) -> pb.ListInstancesResponse:
        """One page of instances."""
        instances = self._engine.instances(request.model)
        page, token = _page(
            instances, lambda one: one.instance.instance_id, request.page_token, request.page_size or PAGE_SIZE
        )
        messages = [convert_scheduler.scheduled_instance_to_proto(one) for one in page]
        return pb.ListInstancesResponse(instances=messages, next_page_token=token)

    async def WatchInstances(
        self, request: pb.WatchInstancesRequest, context: Any
    ) -> AsyncIterator[pb.WatchInstancesResponse]:
        """The instances, again whenever they change."""
        interval_us = _duration_us(request.interval_min) if request.HasField("interval_min") else WATCH_INTERVAL_US
        async for instances in self._shell.watch(request.model, interval_us):
            messages = [convert_scheduler.scheduled_instance_to_proto(one) for one in instances]
            yield pb.WatchInstancesResponse(instances=messages)

    async def ListQueues(self, request: pb.ListQueuesRequest, context: Any) -> pb.ListQueuesResponse:
        """What is held, a model each."""
        queues = self._engine.queues(self._shell.clock())
        return pb.ListQueuesResponse(queues=[convert_scheduler.queue_to_proto(one) for one in queues])

    async def GetPressure(self, request: pb.GetPressureRequest, context: Any) -> pb.GetPressureResponse:
        """The load that is on its way."""
        pressure = self._engine.pressure(self._shell.clock())
        return pb.GetPressureResponse(pressure=convert_pressure.pressure_to_proto(pressure))

    async def GetAnticipation(self, request: pb.GetAnticipationRequest, context: Any) -> pb.GetAnticipationResponse:
        """What each instance is expected to hold over the next iterations."""
        step, count = request.step_iterations or STEP_ITERATIONS, request.step_count or STEP_COUNT
        anticipation = self._engine.anticipation(step, count, self._shell.clock())
        return pb.GetAnticipationResponse(anticipation=convert_pressure.anticipation_to_proto(anticipation))

    async def ListLeases(self, request: pb.ListLeasesRequest, context: Any) -> pb.ListLeasesResponse:
        """One page of leases."""
        leases = self._engine.leases(request.instance_id)
        page, token = _page(leases, lambda one: one.lease_id, request.page_token, request.page_size or PAGE_SIZE)
        return pb.ListLeasesResponse(
            leases=[convert_scheduler.lease_to_proto(one) for one in page], next_page_token=token
        )

    async def ListShadows(self, request: pb.ListShadowsRequest, context: Any) -> pb.ListShadowsResponse:
        """What came of the policies that are asked beside the active ones."""
        chosen = [one for one in self._engine.shadows() if request.name in ("", one.name)]
        return pb.ListShadowsResponse(shadows=[convert_scheduler.shadow_to_proto(one) for one in chosen])

    async def DrainInstance(self, request: pb.DrainInstanceRequest, context: Any) -> pb.DrainInstanceResponse:
        """Stops placing on an instance and tells what it still runs."""
        return pb.DrainInstanceResponse(lease_count=self._shell.drain(request.instance_id, self._grace_us))

    def _renew(self, lease_id: str, generated_tokens: int) -> None:
        if not self._engine.has_lease(lease_id):
            raise errors.NotFound(f"lease {lease_id!r} is unknown or has expired; ask for a new placement")
        self._shell.progress(lease_id, generated_tokens)


def _placed(answer: Answer) -> Placement:
    """The placement; raises the error that another answer stands for."""
    if isinstance(answer, Placement):
        return answer
    if isinstance(answer, Rejected):
        kind = _ERRORS.get(answer.reason, errors.FailedPrecondition)
        raise kind(answer.message, reason=answer.reason)
    kind = _ERRORS.get(answer.reason, errors.ResourceExhausted)
    raise kind(answer.message, reason=answer.reason, retry_after_us=answer.retry_delay_us)


def _page(items: Sequence[T], key: Callable[[T], str], token: str, size: int) -> tuple[Sequence[T], str]:
    """The items after `token`, at most `size`, and the token of the next page; `items` are sorted by `key`."""
    rest = [item for item in items if key(item) > token] if token else items
    page = rest[:size]
    return page, key(page[-1]) if len(rest) > size else ""


def _duration_us(message: duration_pb2.Duration) -> int:
    return message.ToMicroseconds()
