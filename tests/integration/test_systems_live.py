"""Every system and every router by name on a real scheduler, a real gateway and emulated Tritons."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.systems import SYSTEMS
from forebay.wire.channel import connect
from tests.integration.gateway_plant import MODEL, Plant, planted

CLASSES = ("interactive-fast", "interactive-normal", "deferred")
SETTINGS = [f'system = "{name}"' for name in SYSTEMS] + [f'router = "{name}"' for name in ROUTERS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with planted(tmp_path_factory.mktemp("systems")) as made:
        yield made


async def restart(plant: Plant, setting: str) -> None:
    """Another scheduler in the place of the last one."""
    plant.processes["scheduler"].kill()
    plant.processes["scheduler"].wait()
    await plant.ready("down")
    plant.configure(f"[scheduler]\n{setting}\n")
    plant.start("scheduler")
    await plant.ready("linked")


async def ask(http: httpx.AsyncClient, plant: Plant, number: int) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Question {number} " * 90}], "max_tokens": 20}
    headers = {"x-forebay-slo-class": CLASSES[number % 3], "x-forebay-session": f"s{number % 2}"}
    return await http.post(f"{plant.http_url}/v1/chat/completions", json=body, headers=headers)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("setting", SETTINGS)
async def test_requests_of_all_classes_are_answered_and_decisions_are_explained(plant: Plant, setting: str) -> None:
    await restart(plant, setting)
    async with httpx.AsyncClient(timeout=60) as http:
        answers = await asyncio.gather(*(ask(http, plant, number) for number in range(12)))
    assert [answer.status_code for answer in answers] == [200] * 12
    decisions = [answer.headers["x-forebay-decision-id"] for answer in answers]
    assert len(set(decisions)) == 12, "the scheduler decided, not the gateway in its place"
    async with connect(plant.scheduler_address) as channel:
        request = scheduler_service_pb2.ExplainRequest(decision_id=decisions[-1])
        decision = (await SchedulerServiceStub(channel).Explain(request, timeout=10)).decision
    kind, name = setting.replace('"', "").split(" = ")
    expected = name if kind == "router" else SYSTEMS[name].get("router", SYSTEMS["default"]["router"]).name
    assert decision.policies["router"] == expected
    assert decision.instance_id in decision.reason
