"""Quotas from end to end: who is told to come back at a time enters at that time, over both protocols."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.core.errors import ResourceExhausted
from forebay.gateway.tenants import digest
from forebay.wire.errors import from_rpc_error
from tests.integration.gateway_plant import MODEL, Plant, planted

CONFIG = f"""\
[scheduler]
admission = "tenant_quota"
[scheduler.tenants.acme]
tokens_per_minute = 2400
tokens_burst = 30
[gateway.tenants.acme]
keys_sha256 = ["{digest("k1")}"]
[gateway.tenants.globex]
keys_sha256 = ["{digest("k2")}"]
"""
ACME, GLOBEX = ({"authorization": f"Bearer {key}"} for key in ("k1", "k2"))
BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "How deep is the pool?"}],
    "max_tokens": 20,
    "ignore_eos": True,
}


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    async with planted(tmp_path, emulator_count=1, gateway_config=CONFIG, headers=ACME) as made:
        yield made


async def ask(http: httpx.AsyncClient, headers: dict[str, str]) -> httpx.Response:
    return await http.post("/v1/chat/completions", json=BODY, headers=headers)


async def refused_count(http: httpx.AsyncClient, count: int) -> list[httpx.Response]:
    """So many requests at once; gives those that were refused."""
    answers = await asyncio.gather(*(ask(http, ACME) for _ in range(count)))
    assert {one.status_code for one in answers} <= {200, 429}
    return [one for one in answers if one.status_code == 429]


async def back(http: httpx.AsyncClient, refused: httpx.Response) -> httpx.Response:
    """The same request again after exactly the time that the refusal tells."""
    await asyncio.sleep(int(refused.headers["retry-after-ms"]) / 1e3)
    return await ask(http, ACME)


async def test_all_that_are_refused_at_once_enter_when_they_come_back_as_told(plant: Plant) -> None:
    async with httpx.AsyncClient(base_url=plant.http_url, timeout=30) as http:
        refused = await refused_count(http, 5)
        assert len(refused) >= 3
        assert len({one.headers["retry-after-ms"] for one in refused}) == len(refused)
        for one in refused:
            assert one.json()["error"]["code"] == "tenant_quota_exhausted"
            assert 0 <= int(one.headers["retry-after"]) * 1_000 - int(one.headers["retry-after-ms"]) < 1_000
        others = await asyncio.gather(*(ask(http, GLOBEX) for _ in range(5)))
        assert {one.status_code for one in others} == {200}
        again = await asyncio.gather(*(back(http, one) for one in refused))
        assert {one.status_code for one in again} == {200}


def question() -> Any:
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    text, sampling = b"How deep is the pool?", json.dumps({"max_tokens": "20"}).encode()
    for name, raw in (("text_input", text), ("sampling_parameters", sampling)):
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(raw).to_bytes(4, "little") + raw)
    return request


async def test_grpc_clients_are_told_the_time_in_their_own_words(plant: Plant) -> None:
    metadata = list(ACME.items())
    async with grpc.aio.insecure_channel(plant.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.gather(*(stub.ModelInfer(question(), metadata=metadata) for _ in range(3)))
        error = from_rpc_error(caught.value)
        assert isinstance(error, ResourceExhausted)
        assert error.code == "TENANT_QUOTA_EXHAUSTED"
        assert error.retry_after_us
        await asyncio.sleep(error.retry_after_us / 1e6)
        assert (await stub.ModelInfer(question(), metadata=metadata)).model_name == MODEL
