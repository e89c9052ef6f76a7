"""Keys at the door: both protocols, in their own words."""

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import httpx
import openai
import pytest
from lmaas.deferred.v1 import deferred_service_pb2 as deferred_pb
from lmaas.deferred.v1.deferred_service_pb2_grpc import DeferredServiceStub
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.gateway.config import Config
from forebay.gateway.tenants import digest
from forebay.wire.errors import from_rpc_error
from tests.contract.gateway_stage import MODEL, Stage, staged

CONFIG = Config(tenants={"acme": {"keys_sha256": [digest("k1")]}, "globex": {"keys_sha256": [digest("k2")]}})
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(CONFIG) as made:
        yield made


async def post(stage: Stage, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(base_url=stage.http_url) as client:
        return await client.post("/v1/chat/completions", json=BODY, headers=named)


async def test_a_request_with_a_key_runs_under_the_name_of_its_tenant(stage: Stage) -> None:
    assert (await post(stage, authorization="Bearer k2")).status_code == 200
    assert (await stage.records(1))[0].tenant == "globex"


async def test_without_a_good_key_openai_clients_see_that_they_are_not_known(stage: Stage) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stage.http_url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
    assert caught.value.code == "invalid_api_key"
    answer = await post(stage)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Bearer" in answer.json()["error"]["message"]


async def test_nobody_takes_another_s_name(stage: Stage) -> None:
    answer = await post(stage, authorization="Bearer k1", x_forebay_tenant="globex")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "tenant_not_yours"
    assert (await post(stage, authorization="Bearer k1", x_forebay_tenant="acme")).status_code == 200


async def test_health_needs_no_key(stage: Stage) -> None:
    async with httpx.AsyncClient(base_url=stage.http_url) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert (await stub.ServerLive(service_pb2.ServerLiveRequest())).live
        assert (await stub.ModelReady(service_pb2.ModelReadyRequest(name=MODEL))).ready


def question() -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=MODEL, id="q")
    for name, datatype, raw in (("text_input", "BYTES", b"\x05\x00\x00\x00Hello"), ("stream", "BOOL", b"\x01")):
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        request.raw_input_contents.append(raw)
    return request


async def streamed(channel: grpc.aio.Channel, *metadata: tuple[str, str]) -> None:
    call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([question()]), metadata=metadata)
    assert [answer async for answer in call]


async def inferred(channel: grpc.aio.Channel, *metadata: tuple[str, str]) -> None:
    request = question()
    del request.inputs[1:], request.raw_input_contents[1:]
    await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=metadata)


async def listed(channel: grpc.aio.Channel, *metadata: tuple[str, str]) -> None:
    await DeferredServiceStub(channel).ListJobs(deferred_pb.ListJobsRequest(), metadata=metadata)


async def refusal(call: Awaitable[None]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), from_rpc_error(caught.value).code


@pytest.mark.parametrize("call", [streamed, inferred, listed])
async def test_grpc_calls_need_a_key_too(stage: Stage, call: Callable[..., Awaitable[None]]) -> None:
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        known, other = ("authorization", "Bearer k1"), ("x-forebay-tenant", "globex")
        unknown = grpc.StatusCode.UNAUTHENTICATED
        assert await refusal(call(channel)) == (unknown, "API_KEY_MISSING")
        assert await refusal(call(channel, ("authorization", "Bearer k9"))) == (unknown, "API_KEY_UNKNOWN")
        assert await refusal(call(channel, known, other)) == (grpc.StatusCode.PERMISSION_DENIED, "TENANT_NOT_YOURS")
        await call(channel, known)


async def test_grpc_requests_run_under_the_name_of_their_tenant(stage: Stage) -> None:
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        await streamed(channel, ("authorization", "Bearer k1"))
    assert (await stage.records(1))[0].tenant == "acme"


async def test_without_tenants_the_header_names_the_tenant() -> None:
    async with staged() as open_stage:
        assert (await post(open_stage, x_forebay_tenant="acme")).status_code == 200
        assert (await open_stage.records(1))[0].tenant == "acme"
