"""Two replicas of the scheduler on one machine: either is killed under load, and the other takes over its models."""

from collections.abc import Iterator

import grpc
import pytest
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.cli.stats import OK
from forebay.wire.channel import connect
from tests.e2e.running_stack import LONG, MODEL, RunningStack, load, reached, start
from tests.e2e.test_parts_down import back, outcomes, settled


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    running = start(tmp_path_factory.mktemp("replicas"), "--emulated", "2", "--models", MODEL, "--schedulers", "2")
    try:
        yield running
    finally:
        running.stop()


async def lease_counts(stack: RunningStack) -> dict[str, int]:
    """Leases that each replica knows; those that do not answer are left out."""
    counts = {}
    for name, address in stack.addresses.schedulers.items():
        async with connect(address) as channel:
            try:
                answer = await SchedulerServiceStub(channel).ListLeases(
                    scheduler_service_pb2.ListLeasesRequest(), timeout=1.0
                )
            except grpc.aio.AioRpcError:
                continue
            counts[name] = len(answer.leases)
    return counts


async def test_a_replica_takes_over_while_the_other_is_down_and_gives_back(replicated: RunningStack) -> None:
    async with load(replicated, clients=2, prompts=[LONG]) as long, load(replicated) as short:
        await reached(lambda: long.progress.in_flight_count == 2, 5, "long answers are under way")
        before = await settled(lambda: lease_counts(replicated), lambda all_: sum(all_.values()) >= 2, "leases")
        owner = max(before, key=before.__getitem__)
        other = next(name for name in before if name != owner)
        assert before[other] == 0, "the model is one replica's"
        placed_before = len(short.results)
        await replicated.outage(owner, times=3)
        down = list(short.results[placed_before:])
        await settled(lambda: lease_counts(replicated), lambda all_: sum(all_.values()) >= 2, "leases are handed over")
        await back(replicated, owner)
        await settled(
            lambda: lease_counts(replicated),
            lambda all_: all_.get(owner, 0) >= 2 and all_[other] == 0,
            "and given back",
        )
    assert outcomes(short.results) == {OK: len(short.results)}
    assert outcomes(long.results) == {OK: len(long.results)}
    decided = [one for one in down if one.decision_id]
    assert len(decided) > len(down) / 2, "the other replica decided while the owner was down"
    none = await settled(lambda: lease_counts(replicated), lambda all_: not any(all_.values()), "no lease is left over")
    assert set(none) == {"scheduler", "scheduler-2"}


async def test_status_and_explain_speak_of_all_replicas(replicated: RunningStack) -> None:
    async with load(replicated) as replay:
        await reached(lambda: len(replay.results) > 5, 20, "answers")
    assert "scheduler-2" in replicated.cli("status")
    decision_id = next(one.decision_id for one in reversed(replay.results) if one.decision_id)
    assert decision_id in replicated.cli("explain", decision_id)
