"""What the contract promises of a scheduler."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from lmaas.common.v1 import instance_pb2, slo_pb2
from lmaas.scheduler.v1 import decision_pb2, request_pb2
from lmaas.scheduler.v1 import scheduler_service_pb2 as messages
from lmaas.scheduler.v1.request_pb2 import Cancel, Finish, InferenceRequest, Placement, Progress
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.conformance.checks import Suite, Target, Untried, demand, refusal
from forebay.conformance.rules import add_rules, add_tolerance

SCHEDULER = Suite("lmaas.scheduler.v1.SchedulerService")
STOPPED = request_pb2.OUTCOME_STOPPED
REQUEST = InferenceRequest(
    request_id="r", model="m", prompt_tokens=6, slo_class=slo_pb2.SLO_CLASS_INTERACTIVE_NORMAL, tokens_max=16
)
SAMPLES = {
    "Place": messages.PlaceRequest(request=REQUEST),
    "Report": messages.ReportRequest(finish=Finish(lease_id="l", outcome=STOPPED)),
    "Explain": messages.ExplainRequest(decision_id="d"),
    "ListInstances": messages.ListInstancesRequest(),
    "ListLeases": messages.ListLeasesRequest(),
    "ListShadows": messages.ListShadowsRequest(),
    "GetAnticipation": messages.GetAnticipationRequest(),
    "DrainInstance": messages.DrainInstanceRequest(instance_id="i", request_id="r"),
}


@SCHEDULER.check(
    "Place",
    "a placement names lease, decision, instance and address, and predicts a length",
    "Placement: where to go, the lease that allows it, and the decision that explains it.",
)
async def _places(target: Target) -> None:
    async with _placed(target) as placement:
        for field in ("lease_id", "decision_id", "instance_id", "grpc_address"):
            demand(bool(getattr(placement, field)), f"{field} is empty")
        one = placement.predicted_length
        values = [one.p10_tokens, one.p50_tokens, one.p90_tokens, one.p97_tokens]
        demand(values == sorted(values), f"predicted quantiles decrease: {values}")
        demand(placement.lease_ttl.ToMicroseconds() > 0, "lease_ttl is not positive")


@SCHEDULER.check("Place", "the same request has the same lease", "Place: idempotent by the request's id.")
async def _places_once(target: Target) -> None:
    request = await _request(target)
    async with _placed(target, request) as first, _placed(target, request) as again:
        demand(first.lease_id == again.lease_id, "a second lease came for the same request_id")


@SCHEDULER.check("Place", "an unknown model is NOT_FOUND", "Place: fails with NOT_FOUND for an unknown model.")
async def _places_no_unknown_model(target: Target) -> None:
    request = await _request(target)
    request.model = target.new_id()
    await refusal(_place(target, request), grpc.StatusCode.NOT_FOUND)


@SCHEDULER.check(
    "Report", "a lease that ended may be ended again", "Report: idempotent: ending an ended lease changes nothing."
)
async def _ends_twice(target: Target) -> None:
    async with _placed(target) as placement:
        for _ in range(2):
            await _finish(target, placement)


@SCHEDULER.check(
    "Report",
    "a lease is listed while it runs, with the tokens that were told, and not once it has ended",
    "ListLeases: lists what runs.",
)
async def _lists_what_runs(target: Target) -> None:
    async with _placed(target) as placement:
        progress = Progress(lease_id=placement.lease_id, generated_tokens=3)
        await _stub(target).Report(messages.ReportRequest(progress=progress), timeout=target.timeout_s)
        [lease] = await _leases(target, placement) or [None]
        demand(lease is not None, "the lease is not listed")
        demand(lease.generated_tokens == 3, f"3 tokens were told; {lease.generated_tokens} are listed")
        await _finish(target, placement)
        demand(not await _leases(target, placement), "a lease that ended is listed")


@SCHEDULER.check(
    "Report",
    "a lease that nobody has cannot be renewed",
    "Report: fails with NOT_FOUND when a lease to renew has expired.",
)
async def _renews_no_unknown(target: Target) -> None:
    report = messages.ReportRequest(progress=Progress(lease_id=target.new_id()))
    await refusal(_stub(target).Report(report, timeout=target.timeout_s), grpc.StatusCode.NOT_FOUND)


@SCHEDULER.check(
    "Report", "a withdrawn request gives its place back", "ReportRequest.cancel: the request is withdrawn."
)
async def _cancels(target: Target) -> None:
    request = await _request(target)
    async with _placed(target, request) as placement:
        report = messages.ReportRequest(cancel=Cancel(request_id=request.request_id))
        await _stub(target).Report(report, timeout=target.timeout_s)
        demand(not await _leases(target, placement), "the lease of a withdrawn request is listed")


@SCHEDULER.check(
    "Explain",
    "a placement is explained by its candidates, the winner among them",
    "Explain: returns the record of one decision.",
)
async def _explains(target: Target) -> None:
    async with _placed(target) as placement:
        request = messages.ExplainRequest(decision_id=placement.decision_id)
        record = (await _stub(target).Explain(request, timeout=target.timeout_s)).decision
        verdict = decision_pb2.Verdict.Name(record.verdict)
        demand(record.verdict == decision_pb2.VERDICT_PLACED, f"its verdict is {verdict}")
        demand(record.instance_id == placement.instance_id, f"it names {record.instance_id or 'no instance'}")
        known = [one.instance_id for one in record.candidates]
        demand(placement.instance_id in known, f"the winner is not among the candidates: {known}")


@SCHEDULER.check(
    "Explain",
    "an unknown decision is NOT_FOUND",
    "Explain: fails with NOT_FOUND when it is unknown or older than the records kept.",
)
async def _explains_no_unknown(target: Target) -> None:
    request = messages.ExplainRequest(decision_id=target.new_id())
    await refusal(_stub(target).Explain(request, timeout=target.timeout_s), grpc.StatusCode.NOT_FOUND)


@SCHEDULER.check(
    "Schedule",
    "each Arrive is answered exactly once, by its request_id",
    "Schedule: the scheduler answers each Arrive with exactly one Placed, Rejected or Retry, in any order.",
)
async def _answers_once(target: Target) -> None:
    wanted = [await _request(target) for _ in range(5)]
    async with _stream(target) as stream:
        for one in wanted:
            await stream.write(messages.ScheduleRequest(arrive=one))
        answers = [await _next(stream, target) for _ in wanted]
        for answer in answers:
            if answer.HasField("placed"):
                finish = Finish(lease_id=answer.placed.lease_id, outcome=STOPPED)
                await stream.write(messages.ScheduleRequest(finish=finish))
    came = sorted(one.request_id for one in answers)
    demand(came == sorted(one.request_id for one in wanted), f"answers came for {came}")


@SCHEDULER.check(
    "Schedule",
    "a bad Arrive is rejected, and the stream goes on",
    "Schedule: a bad Arrive is answered with Rejected.",
)
async def _goes_on_after_a_bad_arrive(target: Target) -> None:
    bad, unknown = await _request(target), await _request(target)
    bad.prompt_tokens, unknown.model = 0, target.new_id()
    async with _stream(target) as stream:
        for one in (bad, unknown):
            await stream.write(messages.ScheduleRequest(arrive=one))
            answer = await _next(stream, target)
            demand(answer.HasField("rejected"), f"Rejected was due; came {answer.WhichOneof('action')}")
            demand(bool(answer.rejected.reason and answer.rejected.message), "no reason, or no message")


@SCHEDULER.check(
    "Schedule",
    "a message that breaks a rule ends the stream",
    "Schedule: a message that breaks a rule ends the stream with INVALID_ARGUMENT, but for a bad Arrive.",
)
async def _ends_after_a_bad_message(target: Target) -> None:
    async with _stream(target) as stream:
        await stream.write(messages.ScheduleRequest(progress=Progress(lease_id="")))
        await refusal(_next(stream, target), grpc.StatusCode.INVALID_ARGUMENT)


@SCHEDULER.check(
    "ListInstances",
    "pages one by one hold the same instances as one large page",
    "ListInstancesRequest.page_token: where to go on; next_page_token is empty on the last page.",
)
async def _pages_instances(target: Target) -> None:
    stub, token, found = _stub(target), "", list[str]()
    whole = await stub.ListInstances(messages.ListInstancesRequest(), timeout=target.timeout_s)
    names = [one.instance.instance_id for one in whole.instances]
    demand(names == sorted(names), "instances are not sorted by instance_id")
    for _ in range(len(names) + 1):
        request = messages.ListInstancesRequest(page_size=1, page_token=token)
        page = await stub.ListInstances(request, timeout=target.timeout_s)
        found += [one.instance.instance_id for one in page.instances]
        token = page.next_page_token
        if not token:
            break
    demand(found == names, f"pages of one held {found}; one page {names}")


@SCHEDULER.check(
    "WatchInstances",
    "the whole fleet comes at once",
    "WatchInstances: sends the whole fleet at once and again whenever it changes.",
)
async def _watches(target: Target) -> None:
    call = _stub(target).WatchInstances(messages.WatchInstancesRequest(), timeout=target.timeout_s)
    first = await call.read()
    call.cancel()
    demand(isinstance(first, messages.WatchInstancesResponse), "the stream ended without a message")


@SCHEDULER.check("ListQueues", "queues are sorted by model", "ListQueuesResponse.queues: queues, by model.")
async def _lists_queues(target: Target) -> None:
    answer = await _stub(target).ListQueues(messages.ListQueuesRequest(), timeout=target.timeout_s)
    models = [one.model for one in answer.queues]
    demand(models == sorted(models), f"came {models}")


@SCHEDULER.check("GetPressure", "the load on its way is told", "GetPressure: tells the load that is on its way.")
async def _tells_pressure(target: Target) -> None:
    await _stub(target).GetPressure(messages.GetPressureRequest(), timeout=target.timeout_s)


@SCHEDULER.check(
    "DrainInstance",
    "an unknown instance is NOT_FOUND",
    "DrainInstance: fails with NOT_FOUND for an unknown instance.",
)
async def _drains_no_unknown(target: Target) -> None:
    request = messages.DrainInstanceRequest(instance_id=target.new_id(), request_id=target.new_id())
    await refusal(_stub(target).DrainInstance(request, timeout=target.timeout_s), grpc.StatusCode.NOT_FOUND)


add_tolerance(SCHEDULER, "ListInstances", SAMPLES["ListInstances"])
add_rules(SCHEDULER, SAMPLES)


def _stub(target: Target) -> Any:
    return SchedulerServiceStub(target.channel)


async def _request(target: Target) -> InferenceRequest:
    """A request for the model of the target, or of the first instance that is ready."""
    model = target.model
    if not model:
        answer = await _stub(target).ListInstances(messages.ListInstancesRequest(), timeout=target.timeout_s)
        ready = [one.instance for one in answer.instances if one.instance.state == instance_pb2.INSTANCE_STATE_READY]
        if not ready:
            raise Untried("no instance is ready, so that nothing can be placed")
        model = ready[0].model
    made = InferenceRequest()
    made.CopyFrom(REQUEST)
    made.request_id, made.model = target.new_id(), model
    return made


async def _place(target: Target, request: InferenceRequest) -> Placement:
    answer = await _stub(target).Place(messages.PlaceRequest(request=request), timeout=target.timeout_s)
    placement: Placement = answer.placement
    return placement


@asynccontextmanager
async def _placed(target: Target, request: InferenceRequest | None = None) -> AsyncIterator[Placement]:
    """A placement, ended in the end whatever comes."""
    placement = await _place(target, request or await _request(target))
    try:
        yield placement
    finally:
        await _finish(target, placement)


async def _finish(target: Target, placement: Placement) -> None:
    finish = Finish(lease_id=placement.lease_id, outcome=STOPPED, generated_tokens=4)
    await _stub(target).Report(messages.ReportRequest(finish=finish), timeout=target.timeout_s)


async def _leases(target: Target, placement: Placement) -> list[Any]:
    request = messages.ListLeasesRequest(instance_id=placement.instance_id, page_size=10_000)
    answer = await _stub(target).ListLeases(request, timeout=target.timeout_s)
    return [one for one in answer.leases if one.lease_id == placement.lease_id]


@asynccontextmanager
async def _stream(target: Target) -> AsyncIterator[Any]:
    """A stream of a gateway that has nothing in flight."""
    call = _stub(target).Schedule()
    await call.write(messages.ScheduleRequest(resume=messages.Resume(gateway_id=target.new_id())))
    try:
        yield call
    finally:
        call.cancel()


async def _next(stream: Any, target: Target) -> messages.ScheduleResponse:
    try:
        async with asyncio.timeout(target.timeout_s):
            answer = await stream.read()
    except TimeoutError:
        demand(False, f"no answer within {target.timeout_s:g} s")
    demand(isinstance(answer, messages.ScheduleResponse), "the stream ended without an answer")
    return answer  # type: ignore[no-any-return]
