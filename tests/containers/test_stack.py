"""The profile `emulated` in real containers: one command brings it up; nothing is lost while parts die or change."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.containers.load import ANSWERED, BROKEN_OFF, CUT, MODEL, REFUSED, UNREACHED, Job, Seen, load
from tests.containers.stack import NEWER, PORTS, Stack, engine

pytestmark = pytest.mark.containers

SERVICES = ("metrics", "predictor", "autoscaler", "scheduler", "gateway")
BEFORE_S, DOWN_S, AFTER_S = 2.0, 3.0, 3.0
JOB_TIMEOUT_S = 400.0
Say = Callable[[str], None]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with engine() as environment:
        made = Stack(environment, tmp_path_factory.mktemp("stack"))
        made.down()
        try:
            made.up()
            yield made
        finally:
            made.down()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def said(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="", flush=True)

    return said


def models(stack: Stack) -> list[str]:
    (gateway, *_) = stack.gateways()
    return [one["id"] for one in httpx.get(f"{gateway}/v1/models", timeout=10).json()["data"]]


def ready_count(stack: Stack) -> int:
    """Instances that the scheduler places on, by what `forebay status` in a container says."""
    table = stack.podman("exec", stack.names("gateway")[0], "forebay", "status")
    return sum("ready" in line and "yes" in line for line in table.splitlines())


def until(found: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    began_s = time.monotonic()
    while not found():
        assert time.monotonic() - began_s < timeout_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.5)


def assert_nothing_lost(seen: Seen, *allowed: str) -> None:
    """Every request was answered in the end, and what failed on the way failed as it may."""
    assert seen.answered == seen.requests > 0
    assert not set(seen.attempts) - {ANSWERED, *allowed}, (seen.row(), seen.strange[:5])


def test_one_command_brings_it_up_and_says_where(stack: Stack) -> None:
    stack.wait_healthy(*SERVICES, "instance", "postgres")
    until(lambda: ready_count(stack) == 3, "three instances are ready")
    said = stack.podman("logs", stack.names("welcome", running=False)[0])
    assert f"http://127.0.0.1:{PORTS['PAGE_PORT']}" in said
    assert models(stack) == [MODEL]
    page = httpx.get(f"http://127.0.0.1:{PORTS['PAGE_PORT']}/", timeout=10)
    assert page.status_code == httpx.codes.OK
    assert "<html" in page.text
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    answer = httpx.post(f"http://127.0.0.1:{PORTS['HTTP_PORTS']}/v1/chat/completions", json=body, timeout=30)
    assert answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("service", [*SERVICES, "instance"])
def test_a_container_has_no_rights_no_compiler_and_no_writable_code(stack: Stack, service: str) -> None:
    name = stack.names(service)[0]
    script = "id -u; (touch /forebay/x 2>&1); (command -v gcc cc make pip || echo none)"
    user, refusal, tools = stack.podman("exec", name, "sh", "-c", script).splitlines()
    assert user == "1000"
    assert "Read-only file system" in refusal
    assert tools == "none"
    assert stack.inspect(name)["EffectiveCaps"] in (None, [])


def test_a_health_check_fails_where_the_service_hangs(stack: Stack) -> None:
    (name,) = stack.names("predictor")
    assert stack.is_healthy(name)
    stack.podman("pause", name)
    try:
        # Nothing can be run in a container that is paused: what it checks is asked from outside.
        assert stack.inspect(name)["State"]["Paused"]
    finally:
        stack.podman("unpause", name)
    done = stack.podman("exec", name, "sh", "-c", "python -I -S compose/health.py 1 || echo no")
    assert done.splitlines()[-1] == "no"


async def test_each_container_is_killed_in_turn_and_nothing_is_lost(stack: Stack, say: Say) -> None:
    job = Job(stack.gateways, 1500)
    await job.submit()
    for service in (*SERVICES, "postgres", "instance"):
        allowed = {
            "instance": (REFUSED, BROKEN_OFF),
            "gateway": (REFUSED, UNREACHED, CUT),
        }.get(service, ())
        (name, *_) = stack.names(service)
        async with load(stack.gateways) as seen:
            await asyncio.sleep(BEFORE_S)
            await asyncio.to_thread(stack.kill, name)
            await asyncio.sleep(DOWN_S)
            await asyncio.to_thread(stack.start, name)
            back_s = await asyncio.to_thread(stack.wait_healthy, service)
            await asyncio.sleep(AFTER_S)
        say(f"{service:<10} killed, healthy {back_s:4.1f} s after its start: {seen.row()}")
        assert_nothing_lost(seen, *allowed)
    assert await job.completed() < job.count, "there was work left to lose"
    results = await job.results(JOB_TIMEOUT_S)
    say(f"deferred   {len(results)} of {job.count} answered, each once: {set(results.values())}")
    assert results == Counter({(f"r{number}", 200): 1 for number in range(job.count)})


async def test_it_is_scaled_out_and_in_under_load(stack: Stack, say: Say) -> None:
    stack.reach_gateways_by_address()
    counts = {"scheduler": 3, "predictor": 2, "autoscaler": 2, "gateway": 2, "instance": 5}
    job = Job(stack.gateways, 400)
    # Without its dependencies: compose takes every container's network on podman for another one, and makes it anew.
    await asyncio.to_thread(stack.up, "--no-deps", "gateway")
    await asyncio.to_thread(stack.wait_healthy, "gateway")
    await job.submit()
    async with load(stack.gateways) as seen:
        await asyncio.to_thread(stack.up, "--no-recreate", *(f"--scale={name}={many}" for name, many in counts.items()))
        await asyncio.to_thread(stack.wait_healthy, *counts)
        assert {name: len(stack.names(name)) for name in counts} == counts
        await asyncio.to_thread(until, lambda: ready_count(stack) == 5, "five instances are ready")
        logs = [stack.compose("logs", "gateway")]
        for name in stack.names("scheduler"):
            assert f"linked to the scheduler replica={stack.address(name)}:7101" in logs[0]
        await asyncio.sleep(AFTER_S)
    say(f"scaled out to {counts}: {seen.row()}")
    assert_nothing_lost(seen)
    async with load(stack.gateways) as seen:
        one = [f"--scale={name}=1" for name in counts if name != "instance"]
        await asyncio.to_thread(stack.up, "--no-recreate", *one, "--scale=instance=3")
        await asyncio.to_thread(stack.wait_healthy, *counts)
        await asyncio.to_thread(until, lambda: ready_count(stack) == 3, "three instances are ready")
        await asyncio.sleep(AFTER_S)
    say(f"scaled in to one of each and three instances: {seen.row()}")
    assert_nothing_lost(seen, REFUSED, UNREACHED, CUT)
    assert seen.attempts[CUT] == 0, "a gateway that is told to stop ends its answers first"
    results = await job.results(JOB_TIMEOUT_S)
    assert results == Counter({(f"r{number}", 200): 1 for number in range(job.count)})


@pytest.mark.parametrize("service", ["scheduler", "predictor", "autoscaler", "metrics", "instance", "gateway"])
async def test_a_service_is_upgraded_under_load(stack: Stack, say: Say, service: str) -> None:
    before = stack.names(service)
    async with load(stack.gateways) as seen:
        await asyncio.sleep(BEFORE_S)
        await asyncio.to_thread(stack.up, "--no-deps", service, **{f"{service.upper()}_IMAGE": NEWER})
        await asyncio.to_thread(stack.wait_healthy, service)
        await asyncio.sleep(AFTER_S)
    assert len(stack.names(service)) == len(before)
    assert {stack.inspect(name)["ImageName"] for name in stack.names(service)} == {NEWER}
    say(f"{service:<10} upgraded: {seen.row()}")
    # The only gateway there is cannot be reached while it is exchanged; it ends what it has begun.
    assert_nothing_lost(seen, *((REFUSED, UNREACHED) if service == "gateway" else ()))


async def test_a_service_is_replaced_by_one_elsewhere(stack: Stack, say: Say, tmp_path: Path) -> None:
    (known, *_) = stack.names("scheduler")
    (network,) = stack.inspect(known)["NetworkSettings"]["Networks"]
    image = stack.inspect(known)["ImageName"]
    run = ["run", "-d", "--name", "forebay-test-other", "--network", network, "--network-alias", "elsewhere"]
    listen = ["-e", "FOREBAY_LISTEN=0.0.0.0:9102", "-e", "FOREBAY_DATABASE_URL=sqlite:///.forebay/own.db"]
    stack.podman(*run, *listen, image, "forebay.predictor")
    try:
        async with load(stack.gateways) as seen:
            change = {"PREDICTOR": "dns:elsewhere:9102"}
            await asyncio.to_thread(stack.up, "--scale=predictor=0", **change)
            await asyncio.to_thread(stack.wait_healthy, "scheduler", "gateway")
            await asyncio.sleep(AFTER_S)
        assert not stack.names("predictor")
        say(f"predictor  replaced by one elsewhere: {seen.row()}")
        assert_nothing_lost(seen, REFUSED, UNREACHED)
        state = stack.podman("exec", stack.names("gateway")[0], "forebay", "status")
        assert [line.split()[:3] for line in state.splitlines() if "elsewhere" in line] == [
            ["predictor", "dns:elsewhere:9102", "up"]
        ]
    finally:
        stack.podman("rm", "-f", "forebay-test-other")
