"""Both clients against a live scheduler and predictor in process: verbs, errors with reasons, deadlines."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from lmaas.autoscaler.v1 import autoscaler_service_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import (
    AutoscalerServiceServicer,
    add_AutoscalerServiceServicer_to_server,
)
from lmaas.common.v1 import instance_pb2, length_pb2
from lmaas.predictor.v1 import length_pb2 as prediction_pb2
from lmaas.predictor.v1 import predictor_service_pb2
from lmaas.predictor.v1.predictor_service_pb2_grpc import (
    PredictorServiceServicer,
    add_PredictorServiceServicer_to_server,
)
from lmaas.scheduler.v1 import decision_pb2, request_pb2, scheduler_service_pb2, status_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import (
    SchedulerServiceServicer,
    add_SchedulerServiceServicer_to_server,
)
from prometheus_client import CollectorRegistry

from forebay.core.errors import NotFound, ResourceExhausted, Unavailable
from forebay.wire.server import Server
from lmaas_client import Addresses, AsyncClient, Client, ForebayError, new_request
from lmaas_client.requests import SERVICE_CONFIG, length_query


class FakeScheduler(SchedulerServiceServicer):
    """Places everything on one instance, but for the model "full"; remembers what was reported."""

    def __init__(self) -> None:
        self.reports: list[scheduler_service_pb2.ReportRequest] = []
        self.refusal_count = 0

    async def Place(self, request: scheduler_service_pb2.PlaceRequest, context: Any) -> Any:  # type: ignore[override]
        if request.request.model == "full":
            raise ResourceExhausted("all instances are full", retry_after_us=2_500_000)
        if request.request.model == "away":
            self.refusal_count += 1
            if self.refusal_count % 5 < 3:
                raise Unavailable("restarting")
        placement = request_pb2.Placement(lease_id="l-1", decision_id="d-1", instance_id="a/llama")
        return scheduler_service_pb2.PlaceResponse(placement=placement)

    async def Report(self, request: scheduler_service_pb2.ReportRequest, context: Any) -> Any:  # type: ignore[override]
        self.reports.append(request)
        return scheduler_service_pb2.ReportResponse()

    async def Explain(self, request: scheduler_service_pb2.ExplainRequest, context: Any) -> Any:  # type: ignore[override]
        if request.decision_id == "slow":
            await asyncio.sleep(30)
        if request.decision_id != "d-1":
            raise NotFound(f"decision {request.decision_id} is unknown")
        return scheduler_service_pb2.ExplainResponse(
            decision=decision_pb2.Decision(decision_id="d-1", reason="only one")
        )

    async def ListInstances(  # type: ignore[override]
        self, request: scheduler_service_pb2.ListInstancesRequest, context: Any
    ) -> Any:
        is_first = not request.page_token
        one = status_pb2.ScheduledInstance(
            instance=instance_pb2.Instance(instance_id="a/llama" if is_first else "b/llama")
        )
        return scheduler_service_pb2.ListInstancesResponse(instances=[one], next_page_token="more" if is_first else "")


class FakePredictor(PredictorServiceServicer):
    """Predicts twice the prompt."""

    async def PredictLength(  # type: ignore[override]
        self, request: predictor_service_pb2.PredictLengthRequest, context: Any
    ) -> Any:
        answers = [
            prediction_pb2.LengthPrediction(
                query_id=query.query_id,
                quantiles=length_pb2.LengthQuantiles(p50_tokens=2 * query.prompt_tokens),
            )
            for query in request.queries
        ]
        return predictor_service_pb2.PredictLengthResponse(predictions=answers)


class FakeAutoscaler(AutoscalerServiceServicer):
    """Shows a fleet of one: once, or for ever where all models are asked for; counts who watches."""

    def __init__(self) -> None:
        self.watcher_count = 0
        self.watch_count = 0

    async def GetFleet(  # type: ignore[override]
        self, request: autoscaler_service_pb2.GetFleetRequest, context: Any
    ) -> Any:
        return autoscaler_service_pb2.GetFleetResponse(policy="kpa")

    async def WatchFleet(  # type: ignore[override]
        self, request: autoscaler_service_pb2.WatchFleetRequest, context: Any
    ) -> AsyncIterator[autoscaler_service_pb2.WatchFleetResponse]:
        yield autoscaler_service_pb2.WatchFleetResponse(instances=[instance_pb2.Instance(instance_id="a/llama")])
        if not request.model:
            self.watcher_count += 1
            self.watch_count += 1
            try:
                await asyncio.sleep(60)
            finally:
                self.watcher_count -= 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def scheduler() -> FakeScheduler:
    return FakeScheduler()


@pytest.fixture
def autoscaler() -> FakeAutoscaler:
    return FakeAutoscaler()


@pytest.fixture
async def addresses(scheduler: FakeScheduler, autoscaler: FakeAutoscaler) -> AsyncIterator[Addresses]:
    server = Server("127.0.0.1:0", [], CollectorRegistry())
    add_SchedulerServiceServicer_to_server(scheduler, server.grpc)
    add_PredictorServiceServicer_to_server(FakePredictor(), server.grpc)
    add_AutoscalerServiceServicer_to_server(autoscaler, server.grpc)
    await server.start()
    address = f"127.0.0.1:{server.port}"
    yield Addresses(address, address, address)
    await server.stop(0)


async def test_async_client_predicts_places_reports_and_explains(
    addresses: Addresses, scheduler: FakeScheduler
) -> None:
    request = new_request("llama", "hello", prompt_tokens=7)
    async with AsyncClient(addresses) as client:
        [prediction] = await client.predict(request)
        assert prediction.quantiles.p50_tokens == 14
        placement = await client.place(request)
        assert placement.instance_id == "a/llama"
        await client.progress(placement.lease_id, 3)
        await client.finish(placement.lease_id, request_pb2.OUTCOME_STOPPED, 9)
        await client.cancel(request.request_id)
        assert (await client.explain("d-1")).reason == "only one"
        fleets = [[one.instance_id for one in fleet] async for fleet in client.watch_fleet("llama")]
    assert fleets == [["a/llama"]]
    assert [report.WhichOneof("event") for report in scheduler.reports] == ["progress", "finish", "cancel"]


async def test_blocking_client_has_the_same_verbs(addresses: Addresses, scheduler: FakeScheduler) -> None:
    def use() -> list[str]:
        request = new_request("llama", "hello", prompt_tokens=7)
        with Client(addresses) as client:
            [prediction] = client.predict(request)
            placement = client.place(request)
            client.progress(placement.lease_id, 3)
            client.finish(placement.lease_id, request_pb2.OUTCOME_LENGTH, 9)
            client.cancel(request.request_id)
            fleet = next(iter(client.watch_fleet()))
            return [str(prediction.quantiles.p50_tokens), client.explain("d-1").reason, fleet[0].instance_id]

    assert await asyncio.to_thread(use) == ["14", "only one", "a/llama"]
    assert [report.WhichOneof("event") for report in scheduler.reports] == ["progress", "finish", "cancel"]


async def test_instances_joins_all_pages_and_the_fleet_tells_its_policy(addresses: Addresses) -> None:
    async with AsyncClient(addresses) as client:
        assert [one.instance.instance_id for one in await client.instances()] == ["a/llama", "b/llama"]
        assert (await client.fleet()).policy == "kpa"

    def use() -> tuple[list[str], str]:
        with Client(addresses) as client:
            return [one.instance.instance_id for one in client.instances()], client.fleet().policy

    assert await asyncio.to_thread(use) == (["a/llama", "b/llama"], "kpa")


async def test_who_leaves_a_watch_ends_it_at_the_server(addresses: Addresses, autoscaler: FakeAutoscaler) -> None:
    async with AsyncClient(addresses) as client, aclosing(client.watch_fleet()) as fleets:
        await anext(fleets)
        await until(lambda: autoscaler.watcher_count == 1)
        await fleets.aclose()
        await until(lambda: autoscaler.watcher_count == 0)

    def use(left: threading.Event) -> None:
        with Client(addresses) as client:
            fleets = client.watch_fleet()
            next(fleets)
            fleets.close()
            left.wait(30)

    left = threading.Event()
    using = asyncio.create_task(asyncio.to_thread(use, left))
    try:
        await until(lambda: autoscaler.watch_count == 2 and autoscaler.watcher_count == 0)
    finally:
        left.set()
    await using


async def test_a_call_is_tried_three_times_while_a_server_is_away(
    addresses: Addresses, scheduler: FakeScheduler
) -> None:
    request = new_request("away", "hello", prompt_tokens=7)
    async with AsyncClient(addresses) as client:
        assert (await client.place(request)).instance_id == "a/llama"
        assert scheduler.refusal_count == 3
        scheduler.refusal_count = 4
        with pytest.raises(ForebayError) as caught:
            await client.place(request)
    assert (caught.value.code, scheduler.refusal_count) == (grpc.StatusCode.UNAVAILABLE, 7)


def test_the_service_config_is_that_of_all_clients() -> None:
    shared = Path(__file__).parents[2] / "service_config.json"
    assert json.loads(SERVICE_CONFIG) == json.loads(shared.read_text())


async def test_errors_carry_reason_and_time_to_come_back(addresses: Addresses) -> None:
    async with AsyncClient(addresses) as client:
        with pytest.raises(ForebayError, match="all instances are full") as caught:
            await client.place(new_request("full", "hello", prompt_tokens=7))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.reason == "RESOURCE_EXHAUSTED"
    assert caught.value.retry_after_s == 2.5


async def test_a_broken_rule_names_its_field(addresses: Addresses) -> None:
    async with AsyncClient(addresses) as client:
        with pytest.raises(ForebayError) as caught:
            await client.place(new_request("", "hello", prompt_tokens=0))
    assert set(caught.value.violations) == {"request.model", "request.prompt_tokens"}
    assert caught.value.reason == "INVALID_ARGUMENT"


async def test_blocking_errors_are_the_same(addresses: Addresses) -> None:
    def use() -> ForebayError:
        with Client(addresses) as client, pytest.raises(ForebayError) as caught:
            client.explain("nothing")
        return caught.value

    error = await asyncio.to_thread(use)
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_a_call_ends_at_its_deadline(addresses: Addresses) -> None:
    async with AsyncClient(addresses, timeout_s=0.2) as client:
        with pytest.raises(ForebayError) as caught:
            await client.explain("slow")
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_long_prompt_is_cut_at_a_whole_character() -> None:
    request = new_request("llama", "ä" * 5000 + "x", prompt_tokens=7)
    assert len(request.prompt_head.encode()) == 8192
    assert set(request.prompt_head) == {"ä"}


def test_a_request_tells_its_turn_and_names_its_system_prompt() -> None:
    request = new_request("llama", "Hi", prompt_tokens=1, turn_number=2, system_prompt="Be brief.")
    assert (request.turn_number, request.system_digest) == (2, "213c22ed7234eb11")
    assert (length_query(request).turn_number, length_query(request).system_digest) == (2, "213c22ed7234eb11")
    assert new_request("llama", "Hi", prompt_tokens=1).system_digest == ""
