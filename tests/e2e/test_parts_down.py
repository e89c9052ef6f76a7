"""What still works while a part is down: the design's table, with real processes that are killed under load."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from lmaas.metrics.v1 import metrics_service_pb2
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.decision_pb2 import Decision
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from lmaas.scheduler.v1.status_pb2 import Lease

from forebay.cli.explain import find
from forebay.cli.fleet import ModelCount, fleet_counts
from forebay.cli.stats import OK, Result
from forebay.cli.supervisor import is_serving
from forebay.wire.channel import connect
from tests.e2e.running_stack import LONG, MODEL, RunningStack, load, reached

BACK_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 5.0
T = TypeVar("T")


async def settled(ask: Callable[[], Awaitable[T]], good: Callable[[T], bool], what: str) -> T:
    """Asks until the answer is good, and returns it; calls that fail are asked again."""
    last: object = None
    for _ in range(int(BACK_TIMEOUT_S / 0.2)):
        try:
            answer = await ask()
            last = answer
            if good(answer):
                return answer
        except grpc.RpcError as error:
            last = error.code() if isinstance(error, grpc.aio.AioRpcError) else error
        await asyncio.sleep(0.2)
    raise AssertionError(f"not within {BACK_TIMEOUT_S:.0f} s: {what}; last seen: {last}")


async def back(stack: RunningStack, name: str) -> None:
    address = stack.addresses.grpc[name]
    await settled(lambda: is_serving(address), bool, f"{name} serves again")


async def leases(stack: RunningStack) -> list[Lease]:
    async with connect(stack.addresses.grpc["scheduler"]) as channel:
        request = scheduler_service_pb2.ListLeasesRequest()
        return list((await SchedulerServiceStub(channel).ListLeases(request, timeout=CALL_TIMEOUT_S)).leases)


async def fleet(stack: RunningStack) -> ModelCount:
    async with connect(stack.addresses.grpc["autoscaler"]) as channel:
        return (await fleet_counts(channel))[MODEL]


async def records(stack: RunningStack) -> set[str]:
    """The decisions of all requests that metrics has on record."""
    async with connect(stack.addresses.grpc["metrics"]) as channel:
        request = metrics_service_pb2.ListRequestsRequest(page_size=10_000)
        answer = await MetricsServiceStub(channel).ListRequests(request, timeout=CALL_TIMEOUT_S)
    return {one.decision_id for one in answer.requests}


def outcomes(results: list[Result]) -> Counter[str]:
    return Counter(one.outcome for one in results)


async def predictors(stack: RunningStack, results: list[Result]) -> set[str]:
    decisions = [await find(stack.addresses, one.decision_id) for one in results if one.decision_id]
    return {one.predicted_by for one in decisions if isinstance(one, Decision)}


async def test_without_the_predictor_the_scheduler_predicts_from_its_own_histogram(stack: RunningStack) -> None:
    async with load(stack) as replay:
        await stack.outage("predictor", times=3)
        down = list(replay.results)
        await back(stack, "predictor")
        await asyncio.sleep(3)
    assert outcomes(replay.results) == {OK: len(replay.results)}
    assert "scheduler histogram" in await predictors(stack, down)
    assert await predictors(stack, replay.results[-5:]) != {"scheduler histogram"}


async def test_without_the_scheduler_the_gateway_places_and_nothing_is_lost(stack: RunningStack) -> None:
    async with load(stack, clients=2, prompts=[LONG]) as long, load(stack) as short:
        await reached(lambda: long.progress.in_flight_count == 2, 5, "long answers are under way")
        await asyncio.sleep(1)
        await stack.outage("scheduler", times=3)
        placed_by_the_gateway = [one for one in short.results if one.outcome == OK and not one.decision_id]
        await back(stack, "scheduler")
        # The long answers began before the outage: the scheduler knows of them from the gateway's open leases.
        rebuilt = await settled(lambda: leases(stack), lambda found: len(found) >= 2, "leases are rebuilt")
        await asyncio.sleep(2)
    assert outcomes(short.results) == {OK: len(short.results)}
    assert outcomes(long.results) == {OK: len(long.results)}
    assert len(placed_by_the_gateway) > 5
    assert any(one.generated_tokens > 100 for one in rebuilt)
    assert short.results[-1].decision_id
    await settled(lambda: leases(stack), lambda found: not found, "no lease is left when all is answered")


async def test_without_metrics_requests_go_on_and_their_records_arrive_later(stack: RunningStack) -> None:
    async with load(stack) as replay:
        await stack.outage("metrics", times=3)
        await back(stack, "metrics")
    assert outcomes(replay.results) == {OK: len(replay.results)}
    wanted = {one.decision_id for one in replay.results}
    await settled(lambda: records(stack), lambda known: wanted <= known, "all requests are on record")


async def test_without_the_autoscaler_the_fleet_stays_and_a_dead_instance_is_avoided(stack: RunningStack) -> None:
    before = stack.emulators()
    async with load(stack) as replay:
        await stack.outage("autoscaler", times=2)
        assert set(stack.emulators()) == set(before)
        os.kill(next(iter(before)), signal.SIGKILL)
        await stack.outage("autoscaler", times=1)
        await asyncio.sleep(2)
        since = len(replay.results)
        await asyncio.sleep(2)
        assert outcomes(replay.results[since:]) == {OK: len(replay.results) - since}
        await back(stack, "autoscaler")
    refused = [one for one in replay.results if one.outcome != OK]
    assert all(one.ttft_s is not None for one in refused), outcomes(replay.results)
    await settled(lambda: fleet(stack), lambda one: one.ready >= 2, "the dead instance is replaced")


async def test_an_instance_that_dies_fails_only_answers_that_had_begun_and_is_replaced(stack: RunningStack) -> None:
    await settled(lambda: fleet(stack), lambda one: one.ready >= 2, "two instances are ready")
    victim, others = next(iter(stack.emulators())), set(stack.emulators())
    async with load(stack, clients=8) as replay:
        await asyncio.sleep(1)
        os.kill(victim, signal.SIGKILL)
        await settled(lambda: fleet(stack), lambda one: one.ready < len(others), "the death is seen")
        await settled(lambda: fleet(stack), lambda one: one.ready >= 2, "the dead instance is replaced")
        since = len(replay.results)
        await asyncio.sleep(1)
    broken = [one for one in replay.results if one.outcome != OK]
    assert len(broken) <= 8
    assert all(one.ttft_s is not None and one.message for one in broken), broken
    assert outcomes(replay.results[since:]) == {OK: len(replay.results) - since}


async def test_a_gateway_that_dies_is_back_at_once_and_serves(stack: RunningStack) -> None:
    async with load(stack) as replay:
        await stack.outage("gateway", times=1)
        await back(stack, "gateway")
        await asyncio.sleep(1)
        since = len(replay.results)
        await asyncio.sleep(1)
    assert outcomes(replay.results[since:]) == {OK: len(replay.results) - since}
    assert len(replay.results) > since
