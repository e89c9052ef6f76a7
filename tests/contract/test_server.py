"""What every server promises: health, reflection, mapped errors, idempotent writes, a shutdown that drains."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from lmaas.metrics.v1 import event_pb2, metrics_service_pb2
from lmaas.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    MetricsServiceStub,
    add_MetricsServiceServicer_to_server,
)
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import (
    SchedulerServiceServicer,
    SchedulerServiceStub,
    add_SchedulerServiceServicer_to_server,
)
from prometheus_client import CollectorRegistry, generate_latest

from forebay.core.errors import AlreadyExists, ConfigError, InvalidArgument, NotFound, Unimplemented
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error
from forebay.wire.reporter import Reporter
from forebay.wire.server import Server
from forebay.wire.validate import check

NAME = "lmaas.scheduler.v1.SchedulerService"


class Scheduler(SchedulerServiceServicer):
    def __init__(self) -> None:
        self.drained_count = 0

    async def Explain(self, request: scheduler_service_pb2.ExplainRequest, context: Any) -> Any:  # type: ignore[override]
        if request.decision_id == "bug":
            raise KeyError("the prompt was: secret")
        if request.decision_id == "slow":
            await asyncio.sleep(0.3)
            return scheduler_service_pb2.ExplainResponse()
        raise NotFound("no such decision; list the newest with `forebay status`", retry_after_us=3)

    async def DrainInstance(  # type: ignore[override]
        self, request: scheduler_service_pb2.DrainInstanceRequest, context: Any
    ) -> Any:
        self.drained_count += 1
        return scheduler_service_pb2.DrainInstanceResponse(lease_count=self.drained_count)

    async def WatchInstances(self, request: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        yield scheduler_service_pb2.WatchInstancesResponse()
        raise NotFound("gone")


class Metrics(MetricsServiceServicer):
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def ReportEvents(self, request_iterator: Any, context: Any) -> Any:  # type: ignore[override]
        async for request in request_iterator:
            check(request)
            self.seen.extend(event.event_id for event in request.events)
        return metrics_service_pb2.ReportEventsResponse(accepted_count=len(self.seen))


class Stack:
    """A server with a scheduler and metrics, and a channel to it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.scheduler, self.metrics = Scheduler(), Metrics()
        self.server = Server("127.0.0.1:0", [NAME], self.registry)
        add_SchedulerServiceServicer_to_server(self.scheduler, self.server.grpc)
        add_MetricsServiceServicer_to_server(self.metrics, self.server.grpc)
        self.channel = connect(f"127.0.0.1:{self.server.port}")
        self.stub = SchedulerServiceStub(self.channel)

    async def explain(self, decision_id: str) -> scheduler_service_pb2.ExplainResponse:
        return await self.stub.Explain(scheduler_service_pb2.ExplainRequest(decision_id=decision_id), timeout=5)

    async def drain(self, instance_id: str, request_id: str) -> int:
        request = scheduler_service_pb2.DrainInstanceRequest(instance_id=instance_id, request_id=request_id)
        return (await self.stub.DrainInstance(request, timeout=5)).lease_count


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    made = Stack()
    await made.server.start()
    yield made
    await made.channel.close()
    await made.server.stop(0)


async def test_health_serves_each_name_and_stops_serving_at_shutdown(stack: Stack) -> None:
    health = health_pb2_grpc.HealthStub(stack.channel)
    for name in ("", NAME):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services(stack: Stack) -> None:
    call = reflection_pb2_grpc.ServerReflectionStub(stack.channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5
    )
    async for answer in call:
        assert NAME in [service.name for service in answer.list_services_response.service]
        break


async def test_an_error_of_the_tree_arrives_with_its_details(stack: Stack) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stack.explain("unknown")
    error = from_rpc_error(caught.value)
    assert isinstance(error, NotFound)
    assert error.retry_after_us == 3


async def test_an_error_in_a_stream_arrives_after_what_was_sent(stack: Stack) -> None:
    call = stack.stub.WatchInstances(scheduler_service_pb2.WatchInstancesRequest(), timeout=5)
    assert await call.read() == scheduler_service_pb2.WatchInstancesResponse()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc_error(caught.value), NotFound)


async def test_a_bug_is_internal_and_only_the_log_has_its_text(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as caught:
        await stack.explain("bug")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")
    assert "call failed" in caplog.text


async def test_a_broken_rule_is_refused_before_the_handler(stack: Stack) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stack.drain("", "r")
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgument)
    assert error.violations == {"instance_id": "must not be empty"}
    assert stack.scheduler.drained_count == 0


async def test_a_write_with_the_same_id_has_its_effect_once(stack: Stack) -> None:
    assert [await stack.drain("a", "r1"), await stack.drain("a", "r1"), await stack.drain("a", "r2")] == [1, 1, 2]


async def test_an_id_used_for_another_request_is_refused(stack: Stack) -> None:
    await stack.drain("a", "r1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stack.drain("b", "r1")
    assert isinstance(from_rpc_error(caught.value), AlreadyExists)


async def test_a_method_that_is_not_offered_is_unimplemented(stack: Stack) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stack.stub.ListQueues(scheduler_service_pb2.ListQueuesRequest(), timeout=5)
    assert isinstance(from_rpc_error(caught.value), Unimplemented)


async def test_calls_are_counted_by_method_and_code(stack: Stack) -> None:
    await stack.drain("a", "r1")
    with pytest.raises(grpc.aio.AioRpcError):
        await stack.explain("unknown")
    page = generate_latest(stack.registry).decode()
    assert f'forebay_grpc_calls_total{{code="OK",method="/{NAME}/DrainInstance"}} 1.0' in page
    assert f'forebay_grpc_calls_total{{code="NOT_FOUND",method="/{NAME}/Explain"}} 1.0' in page


async def test_shutdown_lets_calls_in_flight_end(stack: Stack) -> None:
    slow = asyncio.ensure_future(stack.explain("slow"))
    await asyncio.sleep(0.1)
    await stack.server.stop(5)
    await slow


async def test_a_port_in_use_is_a_clear_error(stack: Stack) -> None:
    with pytest.raises(ConfigError, match="the port is in use"):
        Server(f"127.0.0.1:{stack.server.port}", [], CollectorRegistry())


def event(number: int) -> event_pb2.Event:
    return event_pb2.Event(event_id=f"e{number}", queue=queue_sample())


def queue_sample() -> event_pb2.QueueSample:
    sample = event_pb2.QueueSample(model="m")
    sample.sample_time.FromMicroseconds(1)
    return sample


async def test_a_reporter_delivers_everything_in_order(stack: Stack) -> None:
    reporter = Reporter(stack.channel)
    for number in range(1200):
        reporter.report(event(number))
    await reporter.flush()
    assert stack.metrics.seen == [f"e{number}" for number in range(1200)]
    assert reporter.pending_count == 0


async def test_a_reporter_keeps_events_while_metrics_is_down_and_drops_the_oldest_when_full() -> None:
    stack = Stack()  # not started
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    reporter = Reporter(channel, capacity=3)
    for number in range(5):
        reporter.report(event(number))
    await reporter.flush()
    assert (reporter.pending_count, reporter.dropped_count) == (3, 2)
    await channel.close()
    await stack.server.start()
    reporter._stub = MetricsServiceStub(stack.channel)
    await reporter.flush()
    assert stack.metrics.seen == ["e2", "e3", "e4"]
    await stack.channel.close()
    await stack.server.stop(0)


async def test_a_batch_that_metrics_refuses_does_not_block_those_behind_it(stack: Stack) -> None:
    reporter = Reporter(stack.channel)
    reporter.report(event_pb2.Event())
    await reporter.flush()
    reporter.report(event(1))
    await reporter.flush()
    assert stack.metrics.seen == ["e1"]
