"""What the contract promises of an autoscaler."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as messages
from lmaas.autoscaler.v1 import fleet_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.autoscaler.v1.fleet_pb2 import Bounds, ScalingDecision
from lmaas.common.v1 import instance_pb2
from lmaas.common.v1.instance_pb2 import Instance, InstanceState

from forebay.conformance.checks import PREFIX, Run, Suite, Target, Untried, demand, paged, refusal, told
from forebay.conformance.rules import add_rules, add_tolerance
from forebay.core.errors import NotLeader
from forebay.wire.errors import from_rpc_error

AUTOSCALER = Suite("lmaas.autoscaler.v1.AutoscalerService")
DECISION_COUNT_MAX = 200
TRY_COUNT = 3
POLL_S = 0.1
TTL_S = 1
NO_MODE = 99
"""No version of the contract has it: a request to set it does nothing even where its other faults are overlooked."""
STATES = {
    "ready_count": {instance_pb2.INSTANCE_STATE_READY},
    "starting_count": {instance_pb2.INSTANCE_STATE_PROVISIONING, instance_pb2.INSTANCE_STATE_LOADING},
    "draining_count": {instance_pb2.INSTANCE_STATE_DRAINING},
}
NOBODY = f"{PREFIX}nobody"
INSTANCE = Instance(instance_id=NOBODY, model=NOBODY, grpc_address="127.0.0.1:9", server_id=NOBODY)
"""Port 9 is that of the discard protocol: no Triton listens there."""
SAMPLES = {
    "WatchFleet": messages.WatchFleetRequest(interval_max=Duration(seconds=1)),
    "GetFleet": messages.GetFleetRequest(),
    "RegisterInstance": messages.RegisterInstanceRequest(
        instance=INSTANCE, ttl=Duration(seconds=TTL_S), request_id="r"
    ),
    "HeartbeatInstance": messages.HeartbeatInstanceRequest(instance_id=NOBODY),
    "DeregisterInstance": messages.DeregisterInstanceRequest(instance_id=NOBODY, request_id="r"),
    "ListDecisions": messages.ListDecisionsRequest(),
    "ExplainDecision": messages.ExplainDecisionRequest(decision_id="d"),
    "SetBounds": messages.SetBoundsRequest(bounds=Bounds(model=NOBODY, instances_max=1), request_id="r"),
    "SetMode": messages.SetModeRequest(mode=NO_MODE, request_id="r"),  # type: ignore[arg-type]
    "AdviseScaling": messages.AdviseScalingRequest(),
}


def leading(run: Run) -> Run:
    """Skips a check where the target is a replica that does not lead: it may refuse what changes the fleet."""

    async def tried(target: Target) -> None:
        try:
            await run(target)
        except grpc.aio.AioRpcError as error:
            if from_rpc_error(error).code == NotLeader.reason:
                raise Untried(f"another replica leads: {told(error)}") from error
            raise

    return tried


@AUTOSCALER.check(
    "WatchFleet", "the whole fleet comes at once", "WatchFleet: sends the whole fleet at once and after every change."
)
async def _watches(target: Target) -> None:
    request = messages.WatchFleetRequest(interval_max=Duration(seconds=60))
    async with _watch(target, request) as heard:
        first = await heard()
    names = [one.instance_id for one in first.instances]
    demand(names == sorted(names), f"instances are not sorted by instance_id: {names}")
    models = [one.model for one in first.models]
    demand(models == sorted(models), f"models are not sorted by name: {models}")


@AUTOSCALER.check(
    "WatchFleet",
    "a sign of life comes within the interval, and revisions do not go back",
    "WatchFleet: at least each interval as a sign of life. WatchFleetResponse.revision: grows with every change.",
)
async def _gives_signs_of_life(target: Target) -> None:
    request = messages.WatchFleetRequest(interval_max=Duration(nanos=200_000_000))
    async with _watch(target, request) as heard:
        revisions = [(await heard()).revision for _ in range(3)]
    demand(revisions == sorted(revisions), f"revisions came as {revisions}")


@AUTOSCALER.check(
    "GetFleet",
    "instances are sorted, none is stopped, and mode and policy are told",
    "GetFleetResponse: instances that are not stopped, by instance_id; the mode; the policy in force.",
)
async def _tells_the_fleet(target: Target) -> None:
    fleet = await _fleet(target)
    names = [one.instance_id for one in fleet.instances]
    demand(names == sorted(names), f"instances are not sorted by instance_id: {names}")
    stopped = [one.instance_id for one in fleet.instances if one.state == instance_pb2.INSTANCE_STATE_STOPPED]
    demand(not stopped, f"stopped and listed: {stopped}")
    demand(fleet.mode in (fleet_pb2.MODE_ACTIVE, fleet_pb2.MODE_ADVISORY), f"the mode is {fleet.mode}")
    demand(bool(fleet.policy), "policy is empty")


@AUTOSCALER.check(
    "GetFleet",
    "counts are those of the instances listed, and no lower bound is above its upper one",
    "GetFleetResponse.models: the same in numbers, by pool.",
)
async def _counts(target: Target) -> None:
    fleet = await _fleet(target)
    for field, states in STATES.items():
        listed = Counter(one.model for one in fleet.instances if one.state in states)
        counted: Counter[str] = Counter()
        for one in fleet.models:
            counted[one.model] += getattr(one, field)
        demand(+counted == listed, f"{field}: {dict(+counted)}; listed: {dict(listed)}")
    for one in fleet.models:
        least, most = one.bounds.instances_min, one.bounds.instances_max
        demand(least <= most, f"{one.model} {one.pool}: fewest {least}, most {most}")


@AUTOSCALER.check("GetFleet", "one model's part alone is told", "GetFleetRequest.model: only this model.")
async def _selects_a_model(target: Target) -> None:
    model = target.new_id()
    fleet = await _fleet(target, model)
    demand(not fleet.instances and not fleet.models, f"{model} was asked for, which nobody has; something came")
    for known in {one.model for one in (await _fleet(target)).models}:
        part = await _fleet(target, known)
        others = {one.model for one in part.instances} | {one.model for one in part.models}
        others.discard(known)
        demand(not others, f"{known} was asked for; {', '.join(others)} came too")


@AUTOSCALER.check(
    "RegisterInstance",
    "an instance is listed from its registration on, and gone once it has left",
    "RegisterInstance adds an instance; DeregisterInstance drains it and forgets it once it is empty.",
)
@leading
async def _takes_instances_in(target: Target) -> None:
    async with _registered(target) as instance:
        found = [one for one in (await _fleet(target, instance.model)).instances]
        demand([one.instance_id for one in found] == [instance.instance_id], f"listed of its model: {_names(found)}")
        demand(found[0].grpc_address == instance.grpc_address, f"its address became {found[0].grpc_address}")
        demand(found[0].state != instance_pb2.INSTANCE_STATE_READY, "it is ready, and there is no server")
    demand(await _is_gone(target, instance), f"it is listed {target.timeout_s:g} s after DeregisterInstance")


@AUTOSCALER.check(
    "RegisterInstance", "registering again adds no second one", "RegisterInstance: registering again renews."
)
@leading
async def _registers_once(target: Target) -> None:
    async with _registered(target) as instance:
        await _register(target, instance)
        found = (await _fleet(target, instance.model)).instances
        demand(len(found) == 1, f"listed of its model: {_names(found)}")


@AUTOSCALER.check(
    "RegisterInstance",
    "an id that belongs to another address is ALREADY_EXISTS",
    "RegisterInstance: fails with ALREADY_EXISTS when the id belongs to another address.",
)
@leading
async def _keeps_ids_apart(target: Target) -> None:
    async with _registered(target) as instance:
        other = Instance()
        other.CopyFrom(instance)
        other.grpc_address = "127.0.0.1:10"
        await _refused(_register(target, other), grpc.StatusCode.ALREADY_EXISTS)


@AUTOSCALER.check(
    "RegisterInstance",
    "an instance without heartbeats is LOST",
    "RegisterInstance: LOST when heartbeats stop for longer than the time to live.",
)
@leading
async def _loses_silent_instances(target: Target) -> None:
    async with _registered(target, ttl_s=TTL_S) as instance:

        async def is_lost() -> bool:
            found = (await _fleet(target, instance.model)).instances
            return not found or found[0].state == instance_pb2.INSTANCE_STATE_LOST

        demand(await _becomes(target, is_lost), f"its time to live is {TTL_S} s, and it is not LOST")


@AUTOSCALER.check(
    "HeartbeatInstance",
    "a heartbeat is answered with the state that the fleet shows",
    "HeartbeatInstanceResponse.state: the state that the autoscaler sees.",
)
@leading
async def _answers_heartbeats(target: Target) -> None:
    async with _registered(target) as instance:
        request = messages.HeartbeatInstanceRequest(instance_id=instance.instance_id)

        async def agrees() -> bool:
            state = (await _stub(target).HeartbeatInstance(request, timeout=target.timeout_s)).state
            return [one.state for one in (await _fleet(target, instance.model)).instances] == [state]

        demand(await _becomes(target, agrees), "the state of the answer is another than that of GetFleet")


@AUTOSCALER.check(
    "HeartbeatInstance", "an unknown instance is NOT_FOUND", "HeartbeatInstance: fails with NOT_FOUND when unknown."
)
@leading
async def _hears_no_unknown(target: Target) -> None:
    request = messages.HeartbeatInstanceRequest(instance_id=target.new_id())
    await _unknown(_stub(target).HeartbeatInstance(request, timeout=target.timeout_s))


@AUTOSCALER.check(
    "DeregisterInstance", "an unknown instance is NOT_FOUND", "DeregisterInstance: fails with NOT_FOUND when unknown."
)
@leading
async def _drops_no_unknown(target: Target) -> None:
    request = messages.DeregisterInstanceRequest(instance_id=target.new_id(), request_id=target.new_id())
    await _unknown(_stub(target).DeregisterInstance(request, timeout=target.timeout_s))


@AUTOSCALER.check(
    "ListDecisions", "decisions come newest first", "ListDecisionsResponse.decisions: decisions, newest first."
)
async def _lists_newest_first(target: Target) -> None:
    times = [one.decision_time.ToMicroseconds() for one in await _decisions(target)]
    demand(times == sorted(times, reverse=True), f"{len(times)} decisions, not newest first")


@AUTOSCALER.check(
    "ListDecisions",
    "pages one by one hold the same decisions as one large page",
    "ListDecisionsRequest.page_token: where to go on; next_page_token is empty on the last page.",
)
async def _pages_decisions(target: Target) -> None:
    async def page(token: str) -> Any:
        request = messages.ListDecisionsRequest(page_size=1, page_token=token)
        return await _stub(target).ListDecisions(request, timeout=target.timeout_s)

    # A decision between the two readings is no fault.
    for _ in range(TRY_COUNT):
        whole = [one.decision_id for one in await _decisions(target)]
        found = [one.decision_id for one in await paged(page, "decisions", len(whole))]
        if found == whole:
            return
    demand(False, f"{len(whole)} decisions in one large page; pages of one held {len(found)}, or others")


@AUTOSCALER.check("ListDecisions", "one model's alone are listed", "ListDecisionsRequest.model: only this model.")
async def _lists_decisions_of_a_model(target: Target) -> None:
    for model in {one.model for one in await _decisions(target)} | {target.new_id()}:
        others = {one.model for one in await _decisions(target, model)} - {model}
        demand(not others, f"{model} was asked for; {', '.join(others)} came too")


@AUTOSCALER.check(
    "ExplainDecision", "a decision that is listed is explained the same", "ExplainDecision: returns one decision."
)
async def _explains(target: Target) -> None:
    listed = await _decisions(target)
    if not listed:
        raise Untried("it has decided nothing yet")
    request = messages.ExplainDecisionRequest(decision_id=listed[0].decision_id)
    record = (await _stub(target).ExplainDecision(request, timeout=target.timeout_s)).decision
    demand(record == listed[0], f"it is not what ListDecisions tells: {str(record)[:200]}")
    demand(bool(record.reason and record.policy), "no reason, or no policy")


@AUTOSCALER.check(
    "ExplainDecision",
    "an unknown decision is NOT_FOUND",
    "ExplainDecision: fails with NOT_FOUND when it is unknown or older than the records kept.",
)
async def _explains_no_unknown(target: Target) -> None:
    request = messages.ExplainDecisionRequest(decision_id=target.new_id())
    await _unknown(_stub(target).ExplainDecision(request, timeout=target.timeout_s))


@AUTOSCALER.check(
    "SetBounds", "setting what is set changes nothing, once and again", "SetBounds: sets the bounds. Idempotent."
)
@leading
async def _sets_bounds_again(target: Target) -> None:
    bounds = await _bounds(target)
    request = messages.SetBoundsRequest(bounds=bounds, request_id=target.new_id())
    for _ in range(2):
        came = (await _stub(target).SetBounds(request, timeout=target.timeout_s)).bounds
        demand(_limits(came) == _limits(bounds), f"{_limits(bounds)} was set; {_limits(came)} came")
    now = await _bounds(target)
    demand(_limits(now) == _limits(bounds), f"{_limits(bounds)} was set; GetFleet tells {_limits(now)}")


@AUTOSCALER.check(
    "SetBounds",
    "a lower bound above the upper one is refused, and nothing is set",
    "SetBounds: fails with INVALID_ARGUMENT when the fewest are more than the most.",
)
@leading
async def _sets_no_contradiction(target: Target) -> None:
    stub, bounds, wrong = _stub(target), await _bounds(target), Bounds()
    wrong.CopyFrom(bounds)
    wrong.instances_min, wrong.instances_max = bounds.instances_max, bounds.instances_max - 1
    request = messages.SetBoundsRequest(bounds=wrong, request_id=target.new_id())
    try:
        await _refused(stub.SetBounds(request, timeout=target.timeout_s), grpc.StatusCode.INVALID_ARGUMENT)
    finally:
        back = await _bounds(target)
        if _limits(back) != _limits(bounds):
            mend = messages.SetBoundsRequest(bounds=bounds, request_id=target.new_id())
            await stub.SetBounds(mend, timeout=target.timeout_s)
    demand(_limits(back) == _limits(bounds), f"it was refused, and {_limits(back)} is in force")


@AUTOSCALER.check("SetMode", "setting what is set changes nothing, once and again", "SetMode: idempotent.")
@leading
async def _sets_the_mode_again(target: Target) -> None:
    mode = (await _fleet(target)).mode
    request = messages.SetModeRequest(mode=mode, request_id=target.new_id())
    for _ in range(2):
        came = (await _stub(target).SetMode(request, timeout=target.timeout_s)).mode
        demand(came == mode, f"{mode} was set; {came} came")
    now = (await _fleet(target)).mode
    demand(now == mode, f"{mode} was set; GetFleet tells {now}")


@AUTOSCALER.check(
    "AdviseScaling",
    "the policy in force advises, and nothing of it is done or remembered",
    "AdviseScaling: tells what would be done; nothing is done, and nothing of it is remembered.",
)
@leading
async def _advises(target: Target) -> None:
    policy = (await _fleet(target)).policy
    # What the autoscaler does by itself in between is no fault.
    for _ in range(TRY_COUNT):
        before = await _done(target)
        advice = await _stub(target).AdviseScaling(messages.AdviseScalingRequest(), timeout=target.timeout_s)
        demand(advice.policy == policy, f"{policy} is in force; {advice.policy or 'nobody'} advised")
        if await _done(target) == before:
            return
    demand(False, f"decisions or the number of instances changed with each of {TRY_COUNT} pieces of advice")


@AUTOSCALER.check(
    "AdviseScaling",
    "an unknown policy is refused, and those that are known are named",
    "AdviseScaling: fails with INVALID_ARGUMENT when the policy is unknown, naming those that are known.",
)
@leading
async def _asks_no_unknown_policy(target: Target) -> None:
    known = (await _fleet(target)).policy
    request = messages.AdviseScalingRequest(policy=target.new_id())
    call = _stub(target).AdviseScaling(request, timeout=target.timeout_s)
    error = await _refused(call, grpc.StatusCode.INVALID_ARGUMENT)
    demand(known in str(error), f"{known} is in force, and is not named: {error}")


@AUTOSCALER.check(
    "AdviseScaling",
    "an unknown parameter is refused",
    "AdviseScaling: fails with INVALID_ARGUMENT when a parameter is unknown.",
)
@leading
async def _takes_no_unknown_parameter(target: Target) -> None:
    policy = (await _fleet(target)).policy
    request = messages.AdviseScalingRequest(policy=policy, parameters={"conformance_nobody": "1"})
    call = _stub(target).AdviseScaling(request, timeout=target.timeout_s)
    await _refused(call, grpc.StatusCode.INVALID_ARGUMENT)


add_tolerance(AUTOSCALER, "GetFleet", SAMPLES["GetFleet"])
add_rules(AUTOSCALER, SAMPLES)


def _stub(target: Target) -> Any:
    return AutoscalerServiceStub(target.channel)


@asynccontextmanager
async def _watch(
    target: Target, request: messages.WatchFleetRequest
) -> AsyncIterator[Callable[[], Awaitable[messages.WatchFleetResponse]]]:
    """A stream, ended in the end; what it gives waits for the next message."""
    call = _stub(target).WatchFleet(request, timeout=target.timeout_s)

    async def heard() -> messages.WatchFleetResponse:
        message = await call.read()
        demand(isinstance(message, messages.WatchFleetResponse), "the stream ended without a message")
        return message  # type: ignore[no-any-return]

    try:
        yield heard
    finally:
        call.cancel()


async def _fleet(target: Target, model: str = "") -> messages.GetFleetResponse:
    request = messages.GetFleetRequest(model=model)
    fleet: messages.GetFleetResponse = await _stub(target).GetFleet(request, timeout=target.timeout_s)
    return fleet


async def _decisions(target: Target, model: str = "") -> list[ScalingDecision]:
    """The newest of them."""
    request = messages.ListDecisionsRequest(model=model, page_size=DECISION_COUNT_MAX)
    return list((await _stub(target).ListDecisions(request, timeout=target.timeout_s)).decisions)


async def _bounds(target: Target) -> Bounds:
    """The bounds of a pool that somebody scales."""
    for one in (await _fleet(target)).models:
        if one.bounds.instances_max and target.model in ("", one.model):
            bounds = Bounds(model=one.model, pool=one.bounds.pool or one.pool)
            bounds.instances_min, bounds.instances_max = one.bounds.instances_min, one.bounds.instances_max
            return bounds
    raise Untried("it scales no model, so that there are no bounds")


def _limits(bounds: Bounds) -> tuple[int, int]:
    return bounds.instances_min, bounds.instances_max


async def _done(target: Target) -> tuple[list[str], list[tuple[str, str, int]]]:
    """What was decided, and how many instances each pool is to have."""
    decisions = [one.decision_id for one in await _decisions(target)]
    return decisions, [(one.model, one.pool, one.instances_wanted) for one in (await _fleet(target)).models]


async def _register(target: Target, instance: Instance, ttl_s: int = 0) -> None:
    ttl = Duration(seconds=ttl_s or round(target.timeout_s) + 60)
    request = messages.RegisterInstanceRequest(instance=instance, ttl=ttl, request_id=target.new_id())
    came = (await _stub(target).RegisterInstance(request, timeout=target.timeout_s)).instance
    demand(came.instance_id == instance.instance_id, f"{came.instance_id or 'no instance'} came")


@asynccontextmanager
async def _registered(target: Target, ttl_s: int = 0) -> AsyncIterator[Instance]:
    """An instance of a model that nobody has, gone in the end whatever comes."""
    name = target.new_id()
    instance = Instance(instance_id=name, model=name, grpc_address=INSTANCE.grpc_address, server_id=name)
    await _register(target, instance, ttl_s)
    try:
        yield instance
    finally:
        request = messages.DeregisterInstanceRequest(instance_id=name, request_id=target.new_id())
        await _stub(target).DeregisterInstance(request, timeout=target.timeout_s)


async def _is_gone(target: Target, instance: Instance) -> bool:
    async def gone() -> bool:
        return not (await _fleet(target, instance.model)).instances

    return await _becomes(target, gone)


async def _becomes(target: Target, holds: Callable[[], Awaitable[bool]]) -> bool:
    """Whether something holds before a call's longest time is over."""
    for _ in range(round(target.timeout_s / POLL_S)):
        if await holds():
            return True
        await asyncio.sleep(POLL_S)
    return await holds()


async def _unknown(call: Awaitable[object]) -> None:
    await _refused(call, grpc.StatusCode.NOT_FOUND)


async def _refused(call: Awaitable[object], code: grpc.StatusCode) -> Exception:
    """As `refusal`, but an error that says that another replica leads goes on as it is."""

    async def asked() -> object:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            if from_rpc_error(error).code == NotLeader.reason:
                raise Untried(f"another replica leads: {told(error)}") from error
            raise

    return await refusal(asked(), code)


def _names(instances: Any) -> str:
    return ", ".join(f"{one.instance_id} ({InstanceState.Name(one.state)})" for one in instances) or "none"
