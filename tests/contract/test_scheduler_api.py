"""The scheduler's contract over real gRPC: what each call promises, and what still works when a neighbour is down."""

import asyncio
import itertools
import os
import signal
import socket
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from lmaas.common.v1 import length_pb2
from lmaas.scheduler.v1 import pressure_pb2, request_pb2
from lmaas.scheduler.v1 import scheduler_service_pb2 as pb
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.core import errors
from forebay.core.values import InstanceState
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error
from tests.contract.scheduler_kit import Event, request, started, until
from tests.unit.scheduler.kit import instance

STOPPED = request_pb2.OUTCOME_STOPPED


async def failure(call: Awaitable[Any]) -> tuple[grpc.StatusCode, errors.ForebayError]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), from_rpc_error(caught.value)


def seconds(value: float) -> duration_pb2.Duration:
    return duration_pb2.Duration(nanos=round(value * 1e9))


# The stream


async def test_each_arrival_gets_exactly_one_answer() -> None:
    async with started(instance("a", concurrency_max=50)) as world:
        stream = await world.stream().open()
        for number in range(40):
            await stream.arrive(f"r{number}", model="m" if number % 4 else "nope")
        found = await stream.read_all(40)
        kinds = [found[f"r{number}"].WhichOneof("action") for number in range(40)]
        assert kinds == ["placed" if number % 4 else "rejected" for number in range(40)]
        await stream.call.done_writing()
        assert await stream.call.read() is grpc.aio.EOF


async def test_a_placement_tells_everything_that_the_gateway_needs() -> None:
    async with started() as world:
        stream = await world.stream().open()
        await stream.arrive("r1", slo_class=1)
        placed = (await stream.read()).placed
        assert (placed.instance_id, placed.grpc_address, placed.triton_priority) == ("a/m", "a:8001", 1)
        assert placed.predicted_length == length_pb2.LengthQuantiles(
            p10_tokens=20, p50_tokens=40, p90_tokens=80, p97_tokens=90
        )
        assert (placed.predicted_by, placed.lease_ttl.seconds) == ("fake@1", 60)
        assert placed.lease_id
        assert placed.decision_id


async def test_a_bad_arrival_is_rejected_and_the_stream_lives() -> None:
    async with started() as world:
        stream = await world.stream().open()
        await stream.arrive("bad", prompt_tokens=0, temperature=9)
        answer = await stream.read()
        assert (answer.request_id, answer.rejected.reason) == ("bad", "INVALID_ARGUMENT")
        assert "prompt_tokens" in answer.rejected.message
        assert "temperature" in answer.rejected.message
        await stream.arrive("good")
        assert (await stream.read()).request_id == "good"


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"progress": request_pb2.Progress()}, "lease_id"),
        ({"finish": request_pb2.Finish(lease_id="x")}, "outcome"),
        ({"cancel": request_pb2.Cancel()}, "request_id"),
        ({"resume": pb.Resume()}, "gateway_id"),
        ({"backlog": pressure_pb2.Backlog(jobs=[pressure_pb2.WaitingJob(job_id="b", model="m")])}, "jobs[0].deadline"),
        ({}, "event"),
    ],
)
async def test_any_other_bad_message_ends_the_stream(event: dict[str, Any], field: str) -> None:
    async with started() as world:
        stream = await world.stream().open()
        await stream.send(**event)
        code, error = await failure(stream.call.read())
        assert (code, error.code) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert field in error.violations


async def test_a_batch_is_its_events_one_after_the_other_and_answers_may_come_together() -> None:
    async with started() as world:
        call = world.stub.Schedule()
        arrivals = [Event(arrive=request(f"r{number}")) for number in range(4)]
        events = [Event(resume=pb.Resume(gateway_id="g")), *arrivals]
        await call.write(Event(batch=pb.ScheduleBatch(events=events)))
        placed: dict[str, str] = {}
        while len(placed) < 4:
            response = await call.read()
            placed |= {one.request_id: one.placed.lease_id for one in response.batch or (response,)}
        assert len(set(placed.values())) == 4
        ends = [
            Event(finish=request_pb2.Finish(lease_id=lease_id, outcome=request_pb2.OUTCOME_STOPPED, generated_tokens=3))
            for lease_id in placed.values()
        ]
        await call.write(Event(batch=pb.ScheduleBatch(events=ends)))
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert not (await world.stub.ListLeases(pb.ListLeasesRequest(), timeout=5)).leases


async def test_a_gateway_that_sends_no_batches_gets_none() -> None:
    async with started() as world:
        stream = await world.stream().open()
        for number in range(4):
            await stream.arrive(f"r{number}")
        answers = [await stream.call.read() for _ in range(4)]
        assert all(one.request_id and not one.batch for one in answers)


@pytest.mark.parametrize(
    "events", [[Event(batch=pb.ScheduleBatch())], [Event(finish=request_pb2.Finish(lease_id="x"))] * 1_025]
)
async def test_a_batch_within_a_batch_or_too_large_ends_the_stream(events: list[Event]) -> None:
    async with started() as world:
        stream = await world.stream().open()
        await stream.send(batch=pb.ScheduleBatch(events=events))
        code, error = await failure(stream.call.read())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "batch" in error.violations


async def test_a_stream_opens_with_resume_only() -> None:
    async with started() as world:
        stream = world.stream()
        await stream.arrive("r1")
        code, error = await failure(stream.call.read())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "resume" in error.message


async def test_the_same_arrival_twice_gets_two_answers_with_one_lease() -> None:
    async with started(instance("a", concurrency_max=1)) as world:
        stream = await world.stream().open()
        for _ in range(2):
            await stream.arrive("r1")
        first, second = await stream.read(), await stream.read()
        assert first == second
        for _ in range(2):
            await stream.arrive("held")
        await stream.send(finish=request_pb2.Finish(lease_id=first.placed.lease_id, outcome=STOPPED))
        third, fourth = await stream.read(), await stream.read()
        assert third == fourth
        assert await world.lease_count() == 1


async def test_progress_and_finish_move_the_load() -> None:
    async with started(instance("a")) as world:
        stream = await world.stream().open()
        await stream.arrive("r1")
        lease_id = (await stream.read()).placed.lease_id
        await stream.send(progress=request_pb2.Progress(lease_id=lease_id, generated_tokens=30))

        async def tokens(count: int) -> bool:
            listed = await world.stub.ListInstances(pb.ListInstancesRequest(), timeout=5)
            return listed.instances[0].predicted_tokens == count

        await until(lambda: tokens(10))
        await stream.send(finish=request_pb2.Finish(lease_id=lease_id, outcome=STOPPED, generated_tokens=44))
        await until(lambda: tokens(0))
        assert await world.lease_count() == 0


async def test_a_cancelled_hold_is_answered() -> None:
    async with started(instance("a", concurrency_max=1)) as world:
        stream = await world.stream().open()
        await stream.arrive("r1")
        await stream.read()
        await stream.arrive("r2")
        await stream.send(cancel=request_pb2.Cancel(request_id="r2"))
        answer = await stream.read()
        assert (answer.request_id, answer.rejected.reason) == ("r2", "CANCELLED")


async def test_a_request_cancelled_while_its_length_is_predicted_is_answered_once_and_never_placed() -> None:
    async with started() as world:
        world.predictor.delay_s = 0.3
        stream = await world.stream().open()
        await stream.arrive("r1")
        await stream.send(cancel=request_pb2.Cancel(request_id="r1"))
        assert (await stream.read()).rejected.reason == "CANCELLED"
        await stream.arrive("r2")
        assert (await stream.read()).request_id == "r2"
        assert await world.lease_count() == 1


async def test_a_stream_that_breaks_keeps_its_leases_and_withdraws_what_is_held() -> None:
    async with started(instance("a", concurrency_max=1)) as world:
        stream = await world.stream().open()
        await stream.arrive("r1")
        await stream.read()
        await stream.arrive("r2")
        await until(lambda: _is(world.held_count(), 1))
        stream.call.cancel()
        await until(lambda: _is(world.held_count(), 0))
        assert await world.lease_count() == 1


async def test_a_gateway_that_ends_its_side_still_gets_what_it_is_owed() -> None:
    async with started(instance("a", concurrency_max=1)) as world:
        first = await world.place("r0")
        stream = await world.stream().open()
        await stream.arrive("r1")
        await stream.call.done_writing()
        await until(lambda: _is(world.held_count(), 1))
        finish = request_pb2.Finish(lease_id=first.lease_id, outcome=STOPPED)
        await world.stub.Report(pb.ReportRequest(finish=finish), timeout=5)
        assert (await stream.read()).placed.instance_id == "a/m"
        assert await stream.call.read() is grpc.aio.EOF


async def test_a_gateway_that_does_not_read_does_not_stop_another() -> None:
    async with started(instance("a", concurrency_max=4_000)) as world:
        deaf = await world.stream().open(gateway_id="deaf")
        for number in range(3_000):
            await deaf.arrive(f"d{number}")
        stream = await world.stream().open(gateway_id="other")
        await stream.arrive("r1")
        assert (await stream.read()).placed.instance_id == "a/m"
        assert len(await deaf.read_all(3_000)) == 3_000


async def test_one_stream_s_request_is_not_answered_on_another() -> None:
    async with started(instance("a", concurrency_max=9)) as world:
        streams = [await world.stream().open(gateway_id=f"g{number}") for number in range(2)]
        for number, stream in enumerate(streams):
            await stream.arrive(f"r{number}")
        assert [(await stream.read()).request_id for stream in streams] == ["r0", "r1"]


async def test_a_lease_that_is_not_renewed_expires() -> None:
    async with started(instance("a", concurrency_max=1), lease_ttl_s=1.0) as world:
        stream = await world.stream().open()
        await stream.arrive("r1")
        assert (await stream.read()).placed.lease_ttl.seconds == 1
        await stream.arrive("r2")
        answer = await stream.read()
        assert answer.request_id == "r2"
        assert answer.placed.held.ToMicroseconds() >= 900_000


# Restart


async def test_open_leases_are_known_again_after_a_restart() -> None:
    async with started() as world:
        stream = await world.stream().open()
        await stream.arrive("r1")
        placed = (await stream.read()).placed
    lease = request_pb2.OpenLease(
        request=request("r1"),
        lease_id=placed.lease_id,
        instance_id=placed.instance_id,
        generated_tokens=15,
        predicted_length=placed.predicted_length,
    )
    async with started() as world:
        stream = await world.stream().open(lease)
        await until(lambda: _is(world.lease_count(), 1))
        listed = await world.stub.ListInstances(pb.ListInstancesRequest(), timeout=5)
        assert [(one.lease_count, one.predicted_tokens) for one in listed.instances] == [(1, 25), (0, 0)]
        await stream.arrive("r2")
        assert (await stream.read()).placed.instance_id == "b/m"
        await stream.arrive("r1")
        assert (await stream.read()).placed.lease_id == placed.lease_id


async def test_two_runs_never_give_the_same_lease() -> None:
    names = set()
    for _ in range(2):
        async with started() as world:
            names.add((await world.place("r1")).lease_id)
    assert len(names) == 2


async def test_a_drain_gives_no_count_before_gateways_had_time_to_tell() -> None:
    async with started(resume_grace_s=0.8) as world:
        drain = pb.DrainInstanceRequest(instance_id="a/m", request_id="d1")
        code, error = await failure(world.stub.DrainInstance(drain, timeout=5))
        assert (code, error.code) == (grpc.StatusCode.UNAVAILABLE, "RESUMING")
        assert error.retry_after_us
        assert (await world.place("r1")).instance_id == "b/m"
        await asyncio.sleep(error.retry_after_us / 1e6)
        assert (await world.stub.DrainInstance(drain, timeout=5)).lease_count == 0


# Place and Report


async def test_placing_twice_gives_the_same_placement() -> None:
    async with started() as world:
        first, second = await asyncio.gather(world.place("r1"), world.place("r1"))
        assert first == second == await world.place("r1")
        assert await world.lease_count() == 1


async def test_an_unknown_model_fails_with_not_found() -> None:
    async with started() as world:
        code, error = await failure(world.place("r1", model="nope"))
        assert (code, error.code) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")
        assert "known models: m" in error.message


async def test_a_prompt_that_never_fits_fails_with_invalid_argument() -> None:
    async with started(instance("a", context_tokens_max=100)) as world:
        code, error = await failure(world.place("r1", prompt_tokens=99, tokens_max=2))
        assert (code, error.code) == (grpc.StatusCode.INVALID_ARGUMENT, "PROMPT_TOO_LONG")


async def test_a_broken_rule_fails_with_its_field() -> None:
    async with started() as world:
        code, error = await failure(world.place("", prompt_tokens=0))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert error.violations.keys() == {"request.request_id", "request.prompt_tokens"}


async def test_no_ready_instance_fails_with_a_time_to_come_back() -> None:
    async with started(instance("a", state=InstanceState.LOADING)) as world:
        code, error = await failure(world.place("r1", hold_timeout=seconds(0.1)))
        assert (code, error.code) == (grpc.StatusCode.UNAVAILABLE, "NO_INSTANCE_READY")
        assert error.retry_after_us == 2_000_000


async def test_a_hold_that_is_too_long_fails_with_a_time_to_come_back() -> None:
    async with started(instance("a", concurrency_max=1)) as world:
        await world.place("r1")
        code, error = await failure(world.place("r2", hold_timeout=seconds(0.1)))
        assert (code, error.code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "HELD_TOO_LONG")
        assert error.retry_after_us


async def test_a_spent_budget_fails_with_a_time_to_come_back() -> None:
    async with started(admission="token_budget", admission_parameters={"tokens_max": 50}) as world:
        await world.place("r1")
        code, error = await failure(world.place("r2"))
        assert (code, error.code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOKEN_BUDGET_EXHAUSTED")
        assert error.retry_after_us == 1_000_000


async def test_a_caller_that_gives_up_is_not_held_any_more() -> None:
    async with started(instance("a", concurrency_max=1)) as world:
        await world.place("r1")
        call = world.stub.Place(pb.PlaceRequest(request=request("r2")), timeout=0.2)
        assert (await failure(call))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: _is(world.held_count(), 0))


async def test_a_withdrawn_place_fails_with_aborted() -> None:
    async with started(instance("a", concurrency_max=1)) as world:
        await world.place("r1")
        waiting = asyncio.ensure_future(failure(world.place("r2")))
        await until(lambda: _is(world.held_count(), 1))
        await world.stub.Report(pb.ReportRequest(cancel=request_pb2.Cancel(request_id="r2")), timeout=5)
        code, error = await waiting
        assert (code, error.code) == (grpc.StatusCode.ABORTED, "CANCELLED")


async def test_reports_renew_and_end_a_lease_and_ending_it_again_is_fine() -> None:
    async with started() as world:
        lease_id = (await world.place("r1")).lease_id
        progress = pb.ReportRequest(progress=request_pb2.Progress(lease_id=lease_id, generated_tokens=5))
        await world.stub.Report(progress, timeout=5)
        listed = await world.stub.ListLeases(pb.ListLeasesRequest(), timeout=5)
        assert listed.leases[0].generated_tokens == 5
        finish = request_pb2.Finish(lease_id=lease_id, outcome=STOPPED, generated_tokens=9)
        for _ in range(2):
            await world.stub.Report(pb.ReportRequest(finish=finish), timeout=5)
        code, error = await failure(world.stub.Report(progress, timeout=5))
        assert (code, error.code) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_a_report_of_nothing_is_refused() -> None:
    async with started() as world:
        code, error = await failure(world.stub.Report(pb.ReportRequest(), timeout=5))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "event" in error.violations


# Looking


async def test_a_decision_is_explained_over_the_wire() -> None:
    async with started() as world:
        placed = await world.place("r1")
        answer = await world.stub.Explain(pb.ExplainRequest(decision_id=placed.decision_id), timeout=5)
        decision = answer.decision
        assert (decision.request_id, decision.instance_id, decision.predicted_by) == ("r1", "a/m", "fake@1")
        assert dict(decision.policies)["router"] == "least_predicted_tokens"
        assert [one.instance_id for one in decision.candidates] == ["a/m", "b/m"]
        assert (decision.flip.instance_id, decision.flip.input, decision.flip.to) == ("b/m", "predicted_tokens", 1.0)
        assert getattr(decision.flip, "from") == 0.0
        assert decision.decision_time.seconds > 0


async def test_shadows_are_listed_with_what_they_would_have_cost() -> None:
    shadows = {"by turns": {"router": "round_robin"}, "same": {"router": "least_requests"}}
    async with started(router="least_requests", shadows=shadows) as world:
        for number in range(3):
            await world.place(f"r{number}")
        listed = (await world.stub.ListShadows(pb.ListShadowsRequest(), timeout=5)).shadows
        assert [(one.name, dict(one.policies)) for one in listed] == [
            ("by turns", {"router": "round_robin"}),
            ("same", {"router": "least_requests"}),
        ]
        (row,) = listed[1].rows
        assert (row.kind, row.model, row.compared_count, row.different_count) == ("router", "m", 3, 0)
        assert [cost.unit for cost in row.costs] == ["tokens", "score"]
        (named,) = (await world.stub.ListShadows(pb.ListShadowsRequest(name="same"), timeout=5)).shadows
        assert named.name == "same"


async def test_an_unknown_decision_is_not_found() -> None:
    async with started() as world:
        code, _ = await failure(world.stub.Explain(pb.ExplainRequest(decision_id="nope"), timeout=5))
        assert code is grpc.StatusCode.NOT_FOUND


async def test_lists_are_paged_without_gaps_or_repeats() -> None:
    fleet = [instance(f"i{number:02}", concurrency_max=1) for number in range(7)]
    async with started(*fleet) as world:
        for number in range(5):
            await world.place(f"r{number}")
        instances, token = [], ""
        while True:
            page = await world.stub.ListInstances(pb.ListInstancesRequest(page_size=3, page_token=token), timeout=5)
            instances += [one.instance.instance_id for one in page.instances]
            token = page.next_page_token
            if not token:
                break
        assert instances == [one.instance_id for one in fleet]
        first = await world.stub.ListLeases(pb.ListLeasesRequest(page_size=5), timeout=5)
        assert (len(first.leases), first.next_page_token) == (5, "")


async def test_lists_can_be_narrowed() -> None:
    async with started(instance("a"), instance("a", "n")) as world:
        await world.place("r1")
        await world.place("r2", model="n")
        of_n = await world.stub.ListInstances(pb.ListInstancesRequest(model="n"), timeout=5)
        on_n = await world.stub.ListLeases(pb.ListLeasesRequest(instance_id="a/n"), timeout=5)
        assert [one.instance.instance_id for one in of_n.instances] == ["a/n"]
        assert [one.request_id for one in on_n.leases] == ["r2"]


async def test_queues_tell_what_is_held() -> None:
    async with started(instance("a", concurrency_max=1)) as world:
        await world.place("r1")
        waiting = asyncio.ensure_future(failure(world.place("r2", hold_timeout=seconds(0.3))))
        await until(lambda: _is(world.held_count(), 1))
        [queue] = (await world.stub.ListQueues(pb.ListQueuesRequest(), timeout=5)).queues
        assert (queue.model, queue.held_count, queue.lease_count) == ("m", 1, 1)
        await waiting


async def test_the_pressure_tells_what_is_on_its_way() -> None:
    async with started(instance("a", concurrency_max=1, kv_tokens_max=1_000)) as world:
        await world.place("r1")
        waiting = asyncio.ensure_future(failure(world.place("r2", region="west", hold_timeout=seconds(0.3))))
        await until(lambda: _is(world.held_count(), 1))
        told = (await world.stub.GetPressure(pb.GetPressureRequest(), timeout=5)).pressure
        assert told.sample_time.ToMicroseconds() > 0
        [one] = told.instances
        assert (one.instance_id, one.interactive_count, one.deferred_count, one.cap) == ("a/m", 1, 0, 1)
        assert 0 < one.peak_share < 1
        assert one.remaining_tokens > 0
        assert [(each.region, each.request_count) for each in told.demands] == [("local", 1), ("west", 1)]
        [group] = told.waiting
        assert (group.model, group.region, group.request_count) == ("m", "west", 1)
        assert group.due_time.ToMicroseconds() > group.oldest_time.ToMicroseconds() > 0
        await waiting
        assert not (await world.stub.GetPressure(pb.GetPressureRequest(), timeout=5)).pressure.waiting


async def test_the_anticipation_tells_what_each_instance_is_expected_to_hold() -> None:
    async with started(instance("a", kv_tokens_max=1_000), instance("b")) as world:
        stream = await world.stream().open()
        await stream.arrive("r1")
        placed = (await stream.read()).placed
        await stream.send(progress=request_pb2.Progress(lease_id=placed.lease_id, generated_tokens=1))

        async def told(step: int = 0, count: int = 0) -> pressure_pb2.Anticipation:
            asked = pb.GetAnticipationRequest(step_iterations=step, step_count=count)
            return (await world.stub.GetAnticipation(asked, timeout=5)).anticipation

        async def has_begun() -> bool:
            return any(one.kv_tokens[0] for one in (await told()).instances)

        await until(has_begun)
        found = await told()
        assert (found.step_iterations, [len(one.kv_tokens) for one in found.instances]) == (10, [40, 40])
        mine, other = sorted(found.instances, key=lambda one: one.instance_id != placed.instance_id)
        prompt = mine.kv_tokens[0] - 1
        # The predictor of the kit says 40 tokens, 46 on average.
        assert list(mine.kv_tokens)[:4] == [prompt + 1, prompt + 11, prompt + 21, prompt + 31]
        assert mine.kv_tokens[-1] == 0
        assert not any(other.kv_tokens)
        assert {one.instance_id: one.kv_tokens_max for one in found.instances}["a/m"] == 1_000
        assert [len(one.kv_tokens) for one in (await told(1, 200)).instances] == [200, 200]
        for step, count in ((1_001, 0), (0, 201)):
            code, error = await failure(
                world.stub.GetAnticipation(pb.GetAnticipationRequest(step_iterations=step, step_count=count), timeout=5)
            )
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert error.violations


async def test_the_pressure_tells_what_waits_at_gateways() -> None:
    async with started(instance("a")) as world:
        stream = await world.stream().open()
        job = pressure_pb2.WaitingJob(job_id="b", model="m", remaining_count=9, in_flight_count=2, prompt_tokens=5)
        job.deadline.FromSeconds(4_000_000_000)
        await stream.send(backlog=pressure_pb2.Backlog(jobs=[job]))

        async def stored() -> list[tuple[str, int, bool]]:
            told = (await world.stub.GetPressure(pb.GetPressureRequest(), timeout=5)).pressure
            return [(one.region, one.request_count, one.stored) for one in told.waiting]

        await until(lambda: _is(stored(), [("local", 7, True)]))
        await stream.send(backlog=pressure_pb2.Backlog())
        await until(lambda: _is(stored(), []))


async def test_a_watch_tells_the_fleet_at_once_and_then_its_changes() -> None:
    async with started() as world:
        watch = world.stub.WatchInstances(pb.WatchInstancesRequest(interval_min=seconds(0.05)), timeout=20)
        first = await asyncio.wait_for(watch.read(), 5)
        assert [one.lease_count for one in first.instances] == [0, 0]
        await world.place("r1")
        second = await asyncio.wait_for(watch.read(), 5)
        assert [one.lease_count for one in second.instances] == [1, 0]
        await world.autoscaler.tell(instance("a"))
        third = await asyncio.wait_for(watch.read(), 5)
        assert [one.instance.instance_id for one in third.instances] == ["a/m"]
        watch.cancel()


async def test_a_watch_is_silent_without_changes_and_slow_where_asked() -> None:
    async with started() as world:
        slow = world.stub.WatchInstances(pb.WatchInstancesRequest(interval_min=seconds(0.6)), timeout=20)
        other = world.stub.WatchInstances(pb.WatchInstancesRequest(model="other"), timeout=20)
        for watch in (slow, other):
            await asyncio.wait_for(watch.read(), 5)
        pending = [asyncio.ensure_future(watch.read()) for watch in (slow, other)]
        for number in range(3):
            await world.place(f"r{number}")
        # All three changes come in one message, and another model's watcher hears of none.
        answer = await asyncio.wait_for(pending[0], 5)
        assert sum(one.lease_count for one in answer.instances) == 3
        assert not pending[1].done()
        slow.cancel()
        other.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


# Drain


async def test_a_drained_instance_gets_nothing_and_tells_when_it_is_empty() -> None:
    async with started() as world:
        placed = await world.place("r1")
        assert placed.instance_id == "a/m"

        async def drain(name: str) -> int:
            message = pb.DrainInstanceRequest(instance_id="a/m", request_id=name)
            return int((await world.stub.DrainInstance(message, timeout=5)).lease_count)

        assert await drain("d1") == 1
        assert {(await world.place(f"s{number}")).instance_id for number in range(2)} == {"b/m"}
        finish = request_pb2.Finish(lease_id=placed.lease_id, outcome=STOPPED)
        await world.stub.Report(pb.ReportRequest(finish=finish), timeout=5)
        assert await drain("d2") == 0


async def test_draining_an_unknown_instance_is_not_found() -> None:
    async with started() as world:
        message = pb.DrainInstanceRequest(instance_id="nope", request_id="d1")
        assert (await failure(world.stub.DrainInstance(message, timeout=5)))[0] is grpc.StatusCode.NOT_FOUND


# Neighbours


async def test_without_a_predictor_the_histogram_answers_at_once() -> None:
    async with started(instance("a", concurrency_max=99)) as world:
        await world.stop("predictor")
        for number in range(8):
            assert (await world.place(f"r{number}")).predicted_by == "scheduler histogram"


async def test_a_slow_predictor_is_waited_for_until_its_deadline_only() -> None:
    async with started(predictor_deadline_ms=30.0) as world:
        world.predictor.delay_s = 5.0
        began = asyncio.get_running_loop().time()
        placed = await world.place("r1")
        assert placed.predicted_by == "scheduler histogram"
        assert asyncio.get_running_loop().time() - began < 2.0


async def test_a_predictor_that_fails_is_left_alone_for_a_while_and_asked_again() -> None:
    async with started(instance("a", concurrency_max=99), predictor_deadline_ms=30.0, predictor_pause_s=0.5) as world:
        world.predictor.delay_s = 5.0
        for number in range(10):
            await world.place(f"r{number}")
        assert len(world.predictor.batches) == 3
        world.predictor.delay_s = 0.0

        names = itertools.count()

        async def answers() -> bool:
            return (await world.place(f"s{next(names)}")).predicted_by == "fake@1"

        await until(answers)


async def test_arrivals_that_come_together_are_predicted_together() -> None:
    async with started(instance("a", concurrency_max=300)) as world:
        stream = await world.stream().open()
        for number in range(200):
            await stream.arrive(f"r{number}")
        await stream.read_all(200)
        assert sum(len(batch) for batch in world.predictor.batches) == 200
        assert len(world.predictor.batches) < 100


async def test_the_predictor_hears_what_became_of_its_predictions() -> None:
    async with started() as world:
        placed = await world.place("r1", prompt_head="Say hello")
        finish = request_pb2.Finish(lease_id=placed.lease_id, outcome=request_pb2.OUTCOME_LENGTH, generated_tokens=77)
        await world.stub.Report(pb.ReportRequest(finish=finish), timeout=5)

        async def heard() -> bool:
            return bool(world.predictor.outcomes)

        await until(heard)
        [outcome] = world.predictor.outcomes
        assert (outcome.query.query_id, outcome.query.prompt_head) == ("r1", "Say hello")
        assert (outcome.generated_tokens, outcome.censored, outcome.predicted.p50_tokens) == (77, True, 40)


async def test_without_an_autoscaler_the_last_fleet_stays() -> None:
    async with started() as world:
        await world.stop("autoscaler")
        await asyncio.sleep(0.2)
        assert (await world.place("r1")).instance_id == "a/m"


async def test_before_any_fleet_is_known_a_request_waits_for_one() -> None:
    async with started(fleet_known=False) as world:
        waiting = asyncio.ensure_future(world.place("r1"))
        await until(lambda: _is(world.held_count(), 1))
        await world.start("autoscaler")
        assert (await waiting).instance_id == "a/m"


async def test_the_fleet_follows_the_autoscaler() -> None:
    async with started(instance("a", concurrency_max=1)) as world:
        await world.place("r1")
        waiting = asyncio.ensure_future(world.place("r2"))
        await until(lambda: _is(world.held_count(), 1))
        await world.autoscaler.tell(instance("a", concurrency_max=1), instance("c"))
        assert (await waiting).instance_id == "c/m"


async def test_an_instance_that_metrics_cannot_reach_is_avoided() -> None:
    async with started() as world:
        world.metrics.dead.add("a/m")
        names = itertools.count()

        async def avoided() -> bool:
            placed = await world.place(f"r{next(names)}")
            finish = request_pb2.Finish(lease_id=placed.lease_id, outcome=STOPPED)
            await world.stub.Report(pb.ReportRequest(finish=finish), timeout=5)
            return placed.instance_id == "b/m"

        await until(avoided)


async def test_metrics_hears_about_the_queues() -> None:
    async with started(instance("a", concurrency_max=1), queue_sample_interval_s=0.05) as world:
        await world.place("r1")

        async def heard() -> bool:
            return any(one.queue.model == "m" and one.queue.in_flight_count == 1 for one in world.metrics.events)

        await until(heard)
        assert len({one.event_id for one in world.metrics.events}) == len(world.metrics.events)


async def test_our_own_channel_repeats_a_place_without_placing_twice() -> None:
    async with started() as world, connect(world.address) as channel:
        stub: Any = SchedulerServiceStub(channel)
        for _ in range(2):
            await stub.Place(pb.PlaceRequest(request=request("r1")), timeout=5)
        assert await world.lease_count() == 1


async def _is(value: Awaitable[int], wanted: int) -> bool:
    return await value == wanted


# The process


async def started_process(*arguments: str, listen: str) -> asyncio.subprocess.Process:
    root = Path(__file__).parents[2]
    nowhere = {f"FOREBAY_{name}": "127.0.0.1:1" for name in ("AUTOSCALER", "PREDICTOR", "METRICS")}
    paths = os.pathsep.join(str(root / path) for path in ("services", "clients/python"))
    environment = {**os.environ, "PYTHONPATH": paths, "FOREBAY_LISTEN": listen, "FOREBAY_PROMETHEUS": "", **nowhere}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "forebay.scheduler", *arguments, env=environment, cwd=root, stderr=asyncio.subprocess.PIPE
    )


async def test_the_process_serves_without_any_neighbour_and_ends_when_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = await started_process(listen=address)
    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)
        stub: Any = SchedulerServiceStub(channel)
        assert not (await stub.ListInstances(pb.ListInstancesRequest(), timeout=5)).instances
        code, error = await failure(
            stub.Place(pb.PlaceRequest(request=request("r1", hold_timeout=seconds(0.1))), timeout=5)
        )
        assert (code, error.code) == (grpc.StatusCode.UNAVAILABLE, "NO_INSTANCE_READY")
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 0


async def test_a_bad_configuration_ends_the_process_with_one_line(tmp_path: Path) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text('[scheduler]\nrouter = "least_request"\n')
    process = await started_process("--config", str(file), listen="127.0.0.1:0")
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    [line] = said.decode().strip().splitlines()
    assert "unknown router 'least_request'" in line
    assert "least_requests" in line
