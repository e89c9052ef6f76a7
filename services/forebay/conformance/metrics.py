"""What the contract promises of a metrics service."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from lmaas.common.v1 import slo_pb2
from lmaas.metrics.v1 import event_pb2
from lmaas.metrics.v1 import metrics_service_pb2 as messages
from lmaas.metrics.v1.event_pb2 import Event, RequestRecord
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from lmaas.metrics.v1.snapshot_pb2 import ModelLoad, Snapshot

from forebay.conformance.checks import PREFIX, Suite, Target, demand, paged, refusal
from forebay.conformance.rules import add_rules, add_tolerance
from forebay.wire.clock import now_us

METRICS = Suite("lmaas.metrics.v1.MetricsService")
US_PER_S = 1_000_000
WINDOW_S = 60
WINDOW_COUNT = 5
PROMPT_TOKENS = 6
NOBODY = f"{PREFIX}nobody"
RECORD = RequestRecord(
    request_id=NOBODY,
    model=NOBODY,
    arrival_time=Timestamp(seconds=1_000_000_000),
    status=event_pb2.REQUEST_STATUS_OK,
    slo_class=slo_pb2.SLO_CLASS_INTERACTIVE_NORMAL,
    prompt_tokens=PROMPT_TOKENS,
    held=Duration(nanos=1_000_000),
    time_to_first_token=Duration(nanos=20_000_000),
    end_to_end=Duration(nanos=100_000_000),
    attempt_count=1,
)
"""It arrived in 2001: where a fault of a sample is overlooked, nobody's figures of today change."""
SAMPLES = {
    "ReportEvents": messages.ReportEventsRequest(events=[Event(event_id=NOBODY, request=RECORD)]),
    "QueryWorkloadHistory": messages.QueryWorkloadHistoryRequest(model=NOBODY, window=Duration(seconds=WINDOW_S)),
    "ListRequests": messages.ListRequestsRequest(),
    "WatchSnapshots": messages.WatchSnapshotsRequest(interval=Duration(seconds=1)),
}


@METRICS.check(
    "ReportEvents",
    "the answer counts the events of all messages, and none where there was none",
    "ReportEventsResponse.accepted_count: events taken.",
)
async def _counts_events(target: Target) -> None:
    events = _events(target, 5)
    came = [await _report(target, events[:2], events[2:]), await _report(target)]
    demand(came == [5, 0], f"5 events were sent in two messages, then none; counted: {came}")


@METRICS.check(
    "ReportEvents",
    "an event that is sent again is counted as taken, and changes nothing",
    "ReportEvents: sending an event again changes nothing. accepted_count: those seen before included.",
)
async def _takes_events_once(target: Target) -> None:
    events = _events(target, 2)
    came = [await _report(target, events) for _ in range(2)]
    demand(came == [2, 2], f"the same 2 events were sent twice; counted: {came}")
    model = events[0].request.model
    found = await _requests(target, model)
    demand(len(found) == 2, f"2 events were sent twice; {len(found)} requests are listed")
    requests = sum(one.request_count for one in (await _history(target, model)).points)
    demand(requests == 2, f"2 events were sent twice; the history has {requests} requests")
    ended = (await _load(target, model)).ended_count
    demand(ended == 2, f"2 events were sent twice; the snapshot has {ended} ended")


@METRICS.check(
    "ReportEvents",
    "the first bad event ends the stream and is named; those before it are kept",
    "ReportEvents: fails with INVALID_ARGUMENT at the first bad event; those before it are kept.",
)
async def _keeps_what_came_before(target: Target) -> None:
    good, bad, late = _events(target, 3)
    bad.request.ClearField("arrival_time")
    error = await refusal(_report(target, [good, bad, late]), grpc.StatusCode.INVALID_ARGUMENT)
    demand("events[1].request.arrival_time" in error.violations, f"violations of {', '.join(error.violations) or '–'}")
    found = [one.request_id for one in await _requests(target, good.request.model)]
    demand(found == [good.request.request_id], f"{len(found)} requests are listed, or another one")


@METRICS.check(
    "ListRequests",
    "a request that was reported is listed with all that was told of it",
    "ListRequests: lists what happened to single requests.",
)
async def _lists_what_happened(target: Target) -> None:
    [event] = _events(target, 1)
    await _report(target, [event])
    found = await _requests(target, event.request.model)
    demand(len(found) == 1, f"{len(found)} requests are listed")
    for field, value in event.request.ListFields():
        came = getattr(found[0], field.name)
        demand(came == value, f"{field.name} was {str(value).strip()}; it is {str(came).strip()}")


@METRICS.check("ListRequests", "requests come newest first", "ListRequestsResponse.requests: records, newest first.")
async def _lists_newest_first(target: Target) -> None:
    events = _events(target, 4)
    await _report(target, [events[2], events[0], events[3], events[1]])
    found = [one.request_id for one in await _requests(target, events[0].request.model)]
    demand(found == [one.request.request_id for one in reversed(events)], "4 were reported, and come in another order")


@METRICS.check(
    "ListRequests",
    "pages one by one hold the same requests as one large page",
    "ListRequestsRequest.page_token: where to go on; next_page_token is empty on the last page.",
)
async def _pages_requests(target: Target) -> None:
    events = _events(target, 3)
    model = events[0].request.model
    await _report(target, events)

    async def page(token: str) -> Any:
        request = messages.ListRequestsRequest(model=model, page_size=1, page_token=token)
        return await _stub(target).ListRequests(request, timeout=target.timeout_s)

    found = [one.request_id for one in await paged(page, "requests", len(events))]
    whole = [one.request_id for one in await _requests(target, model)]
    demand(found == whole, f"pages of one held {len(found)}; one page {len(whole)}")


@METRICS.check(
    "ListRequests",
    "only what arrived at or after a time is listed",
    "ListRequestsRequest.start_time: only requests that arrived at or after this time.",
)
async def _lists_from_a_time_on(target: Target) -> None:
    events = _events(target, 3)
    await _report(target, events)
    found = await _requests(target, events[0].request.model, events[1].request.arrival_time)
    wanted = [events[2].request.request_id, events[1].request.request_id]
    demand([one.request_id for one in found] == wanted, f"2 of 3 were due; {len(found)} came, or others")


@METRICS.check(
    "QueryWorkloadHistory",
    "windows follow one another, oldest first, at multiples of their length, and those without traffic are zeros",
    "QueryWorkloadHistory: traffic in windows, oldest first, windows without traffic as zeros; windows start at "
    "multiples of their length since 1970.",
)
async def _tells_windows(target: Target) -> None:
    model, first_s = target.new_id(), _first_window_s()
    events = [
        _event(target, model, (first_s + WINDOW_S * number) * US_PER_S + offset, tokens)
        for number, offset, tokens in ((1, 0, 3), (1, WINDOW_S * US_PER_S - 1, 4), (3, 5, 5))
    ]
    await _report(target, events)
    points = (await _history(target, model, first_s)).points
    starts = [one.start_time.seconds for one in points]
    wanted = [first_s + WINDOW_S * number for number in range(WINDOW_COUNT)]
    demand(starts == wanted, f"windows start at {starts}; due: {wanted}")
    for field, sums in (("request_count", [0, 2, 0, 1, 0]), ("response_tokens", [0, 7, 0, 5, 0])):
        came = [getattr(one, field) for one in points]
        demand(came == sums, f"{field} by window: {came}; reported: {sums}")
    prompts = [one.prompt_tokens for one in points]
    demand(prompts == [0, 2 * PROMPT_TOKENS, 0, PROMPT_TOKENS, 0], f"prompt_tokens by window: {prompts}")


@METRICS.check(
    "QueryWorkloadHistory",
    "pages one by one hold the same windows as one large page",
    "QueryWorkloadHistoryRequest.page_token: where to go on; next_page_token is empty on the last page.",
)
async def _pages_windows(target: Target) -> None:
    model, first_s = target.new_id(), _first_window_s()
    await _report(target, [_event(target, model, (first_s + WINDOW_S) * US_PER_S, 3)])
    whole = [_point(one) for one in (await _history(target, model, first_s)).points]

    async def page(token: str) -> Any:
        return await _history(target, model, first_s, page_size=1, page_token=token)

    found = [_point(one) for one in await paged(page, "points", len(whole))]
    demand(found == whole, f"pages of one held {found}; one page {whole}")


@METRICS.check(
    "QueryWorkloadHistory",
    "a class alone is told, and all classes together",
    "QueryWorkloadHistoryRequest.slo_class: UNSPECIFIED: all classes together.",
)
async def _tells_classes_apart(target: Target) -> None:
    events = _events(target, 2)
    events[1].request.slo_class = slo_pb2.SLO_CLASS_INTERACTIVE_FAST
    await _report(target, events)
    for slo_class, due in ((slo_pb2.SLO_CLASS_UNSPECIFIED, 2), (slo_pb2.SLO_CLASS_INTERACTIVE_FAST, 1)):
        points = (await _history(target, events[0].request.model, slo_class=slo_class)).points
        came = sum(one.request_count for one in points)
        demand(came == due, f"{slo_pb2.SloClass.Name(slo_class)}: {came} requests; reported: {due}")


@METRICS.check(
    "GetSnapshot",
    "the snapshot is of now, its instances and models in order",
    "Snapshot: when it was made; instances, by instance_id; models, by name.",
)
async def _tells_the_state(target: Target) -> None:
    snapshot = await _snapshot(target)
    demand(snapshot.HasField("snapshot_time"), "it has no snapshot_time")
    for field, name in (("instances", "instance_id"), ("models", "model")):
        names = [getattr(one, name) for one in getattr(snapshot, field)]
        demand(names == sorted(set(names)), f"{field} come as {names}")
    for one in snapshot.instances:
        demand(0 <= one.kv_utilization <= 1, f"{one.instance_id}: kv_utilization {one.kv_utilization}")


@METRICS.check(
    "GetSnapshot",
    "what ended in the last minute is counted by model, what failed apart",
    "ModelLoad: requests and tokens that ended in the last 60 s; of them, those that failed.",
)
async def _sums_up_the_last_minute(target: Target) -> None:
    events = _events(target, 3)
    events[0].request.status = event_pb2.REQUEST_STATUS_FAILED
    await _report(target, events)
    load = await _load(target, events[0].request.model)
    counts = load.ended_count, load.failed_count
    demand(counts == (3, 1), f"3 ended, 1 of them failed; ended and failed are {counts}")
    ttft_s = load.ttft_p50_s
    demand(0.015 <= ttft_s <= 0.025, f"all had their first token after 0.02 s; ttft_p50_s is {ttft_s}")


@METRICS.check(
    "WatchSnapshots", "snapshots come, and time does not go back", "WatchSnapshots: sends a snapshot each interval."
)
async def _sends_snapshots(target: Target) -> None:
    request = messages.WatchSnapshotsRequest(interval=Duration(nanos=100_000_000))
    async with _watch(target, request) as heard:
        times = [(await heard()).snapshot_time.ToMicroseconds() for _ in range(3)]
    demand(times == sorted(times), f"snapshots were made at {times}")


add_tolerance(METRICS, "ListRequests", SAMPLES["ListRequests"])
add_rules(METRICS, SAMPLES)


def _stub(target: Target) -> Any:
    return MetricsServiceStub(target.channel)


def _events(target: Target, count: int) -> list[Event]:
    """Requests of one model that nobody has, which ended a moment ago, the oldest first."""
    model, start_us = target.new_id(), now_us() - 2 * US_PER_S
    return [_event(target, model, start_us + 1_000 * number, 4) for number in range(count)]


def _event(target: Target, model: str, arrival_us: int, response_tokens: int) -> Event:
    event = Event(event_id=target.new_id(), request=RECORD)
    event.request.request_id, event.request.model = target.new_id(), model
    event.request.arrival_time.FromMicroseconds(arrival_us)
    event.request.response_tokens = response_tokens
    return event


def _first_window_s() -> int:
    """The start of the first of the windows that are asked for, all of them over by now."""
    now_s = now_us() // US_PER_S
    return now_s - now_s % WINDOW_S - WINDOW_COUNT * WINDOW_S


async def _report(target: Target, *batches: Sequence[Event]) -> int:
    async def sent() -> AsyncIterator[messages.ReportEventsRequest]:
        for batch in batches:
            yield messages.ReportEventsRequest(events=batch)

    answer = await _stub(target).ReportEvents(sent(), timeout=target.timeout_s)
    return int(answer.accepted_count)


async def _requests(target: Target, model: str, start_time: Timestamp | None = None) -> list[RequestRecord]:
    request = messages.ListRequestsRequest(model=model, start_time=start_time)
    return list((await _stub(target).ListRequests(request, timeout=target.timeout_s)).requests)


async def _history(
    target: Target, model: str, first_s: int = 0, **fields: Any
) -> messages.QueryWorkloadHistoryResponse:
    """The windows from `first_s` on, those that are over; all up to now where it is 0."""
    request = messages.QueryWorkloadHistoryRequest(model=model, window=Duration(seconds=WINDOW_S), **fields)
    if first_s:
        request.start_time.seconds = first_s
        request.end_time.seconds = first_s + WINDOW_COUNT * WINDOW_S
    answer: messages.QueryWorkloadHistoryResponse = await _stub(target).QueryWorkloadHistory(
        request, timeout=target.timeout_s
    )
    return answer


def _point(one: messages.WorkloadPoint) -> tuple[int, int, int, int]:
    return one.start_time.seconds, one.request_count, one.prompt_tokens, one.response_tokens


async def _snapshot(target: Target) -> Snapshot:
    answer = await _stub(target).GetSnapshot(messages.GetSnapshotRequest(), timeout=target.timeout_s)
    snapshot: Snapshot = answer.snapshot
    return snapshot


async def _load(target: Target, model: str) -> ModelLoad:
    found = [one for one in (await _snapshot(target)).models if one.model == model]
    demand(len(found) == 1, f"the model of requests that ended a moment ago is told {len(found)} times")
    return found[0]


@asynccontextmanager
async def _watch(
    target: Target, request: messages.WatchSnapshotsRequest
) -> AsyncIterator[Callable[[], Awaitable[Snapshot]]]:
    """A stream, ended in the end; what it gives waits for the next snapshot."""
    call = _stub(target).WatchSnapshots(request, timeout=target.timeout_s)

    async def heard() -> Snapshot:
        message = await call.read()
        demand(isinstance(message, messages.WatchSnapshotsResponse), "the stream ended without a message")
        return message.snapshot  # type: ignore[no-any-return]

    try:
        yield heard
    finally:
        call.cancel()
