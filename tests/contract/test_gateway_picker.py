"""The endpoint picker as a proxy sees it, message by message: the rules of the endpoint picker protocol 1.0."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lmaas.extproc import external_processor_pb2 as pb
from lmaas.extproc.external_processor_pb2_grpc import ExternalProcessorStub
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from forebay.gateway.config import Config
from forebay.gateway.picker.config import PickerConfig
from forebay.gateway.tenants import digest
from forebay.gateway.values import RequestStatus
from forebay.wire.tracing_sdk import Outbox, SdkTracer
from tests.contract.gateway_stage import MODEL, Stage, staged, until

BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}).encode()
FIRST, SECOND = "10.0.0.0:8000", "10.0.0.1:8000"
SUBSET, SERVED = "x-gateway-destination-endpoint-subset", "x-gateway-destination-endpoint-served"
PICKER = "envoy.service.ext_proc.v3.ExternalProcessor"


class Proxy:
    """One request as a proxy tells of it."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def head(self, headers: dict[str, str] | None = None, subset: Any = None, *, is_last: bool = False) -> None:
        message = pb.ProcessingRequest()
        message.protocol_config.request_body_mode = pb.FULL_DUPLEX_STREAMED
        message.protocol_config.response_body_mode = pb.FULL_DUPLEX_STREAMED
        named = {":method": "POST", ":path": "/v1/chat/completions", "x-request-id": "r1", **(headers or {})}
        for key, value in named.items():
            message.request_headers.headers.headers.add(key=key, raw_value=value.encode())
        message.request_headers.end_of_stream = is_last
        if subset is not None:
            message.metadata_context.filter_metadata["envoy.lb.subset_hint"].update({SUBSET: subset})
        await self.call.write(message)

    async def body(self, body: bytes = BODY, is_last: bool = True) -> None:
        part = pb.HttpBody(body=body, end_of_stream=is_last)
        await self.call.write(pb.ProcessingRequest(request_body=part))

    async def answer_head(self, status: int = 200, served: str = "", **headers: str) -> pb.ProcessingResponse:
        message = pb.ProcessingRequest()
        named = {":status": str(status), **{key.replace("_", "-"): value for key, value in headers.items()}}
        for key, value in named.items():
            message.response_headers.headers.headers.add(key=key, raw_value=value.encode())
        if served:
            message.metadata_context.filter_metadata["envoy.lb"].update({SERVED: served})
        await self.call.write(message)
        return await self.call.read()

    async def answer_body(self, body: bytes, is_last: bool) -> pb.ProcessingResponse:
        part = pb.HttpBody(body=body, end_of_stream=is_last)
        await self.call.write(pb.ProcessingRequest(response_body=part))
        return await self.call.read()

    async def picked(self) -> str:
        """The endpoint that the picker names, in the header and in the metadata."""
        answer = await self.call.read()
        assert answer.WhichOneof("response") == "request_headers", answer
        (header,) = answer.request_headers.response.header_mutation.set_headers
        assert header.header.key == "x-gateway-destination-endpoint"
        metadata = answer.dynamic_metadata.fields["envoy.lb"].struct_value.fields[header.header.key].string_value
        assert header.header.raw_value.decode() == metadata
        return metadata

    async def refused(self) -> tuple[int, str, dict[str, str]]:
        """Status, code and headers of the answer that the picker gives itself."""
        answer = await self.call.read()
        assert answer.WhichOneof("response") == "immediate_response", answer
        told = answer.immediate_response
        headers = {one.header.key: one.header.raw_value.decode() for one in told.headers.set_headers}
        return told.status.code, json.loads(told.body)["error"]["code"], headers


@asynccontextmanager
async def proxied(stage: Stage) -> AsyncIterator[Proxy]:
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        call = ExternalProcessorStub(channel).Process()
        yield Proxy(call)
        call.cancel()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(instance_count=2) as one:
        yield one


async def test_an_exchange_names_the_endpoint_and_ends_the_lease(stage: Stage) -> None:
    async with proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        assert await proxy.picked() == FIRST
        sent = await proxy.call.read()
        assert sent.request_body.response.body_mutation.streamed_response == pb.StreamedBodyResponse(
            body=BODY, end_of_stream=True
        )
        head = await proxy.answer_head(content_type="application/json")
        told = head.response_headers.response.header_mutation
        assert {one.header.key: one.header.raw_value for one in told.set_headers}["x-forebay-instance"] == b"t0/llama"
        assert told.remove_headers == [SERVED]
        answer = b'{"choices": [{"finish_reason": "length"}], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}'
        back = await proxy.answer_body(answer, True)
        assert back.response_body.response.body_mutation.streamed_response.body == answer
    await until(lambda: stage.scheduler.finished, "the end of the lease")
    ended = stage.scheduler.finished[0]
    assert (ended.outcome, ended.generated_tokens, ended.prompt_tokens) == (2, 9, 3)


async def test_subsets_come_as_lists_or_texts_and_are_obeyed(stage: Stage) -> None:
    for subset in ([SECOND], SECOND, f"10.9.9.9:1, {SECOND}"):
        async with proxied(stage) as proxy:
            await proxy.head(subset=subset)
            await proxy.body()
            assert await proxy.picked() == SECOND


@pytest.mark.parametrize("subset", [[], "", ["10.9.9.9:1"]])
async def test_a_subset_without_an_eligible_endpoint_is_answered_503(stage: Stage, subset: Any) -> None:
    async with proxied(stage) as proxy:
        await proxy.head(subset=subset)
        await proxy.body()
        status, code, headers = await proxy.refused()
    assert (status, code) == (503, "no_instance_ready")
    assert headers["retry-after"] == "2"


async def test_a_request_that_is_shed_is_answered_429_with_the_time_to_come_back(stage: Stage) -> None:
    stage.scheduler.answer = lambda request: stage.scheduler.retry(request, "TOKEN_BUDGET_EXHAUSTED", 2.5)
    async with proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        status, _, headers = await proxy.refused()
    assert status == 429
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("3", "2500")
    assert headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"


async def test_a_request_that_was_held_too_long_says_so(stage: Stage) -> None:
    stage.scheduler.answer = lambda request: stage.scheduler.retry(request, "HELD_TOO_LONG", 1)
    async with proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        _, _, headers = await proxy.refused()
    assert headers["x-llm-d-request-dropped-reason"] == "rejected-ttl-expired"


async def test_a_client_that_leaves_while_it_is_held_is_withdrawn(stage: Stage) -> None:
    stage.scheduler.answer = lambda request: None
    async with proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        await until(lambda: stage.scheduler.arrived, "the question for a place")
    await until(lambda: stage.scheduler.cancelled, "the withdrawal")
    assert stage.engine.flight_count == 0


async def test_a_proxy_that_hangs_up_in_the_middle_gives_the_place_back(stage: Stage) -> None:
    async with proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        await proxy.picked()
        await proxy.call.read()
        await proxy.answer_head(content_type="text/event-stream")
        await proxy.answer_body(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', False)
    (record,) = await stage.records(1)
    assert (record.status, record.response_tokens) == (RequestStatus.CANCELLED, 1)
    assert record.HasField("time_to_first_token")
    await until(lambda: stage.scheduler.finished, "the end of the lease")


async def test_the_endpoint_that_served_moves_the_request_there(stage: Stage) -> None:
    async with proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        assert await proxy.picked() == FIRST
        await proxy.call.read()
        head = await proxy.answer_head(served=SECOND)
        told = head.response_headers.response.header_mutation.set_headers
        assert {one.header.key: one.header.raw_value for one in told}["x-forebay-instance"] == b"t1/llama"
        assert stage.loop.suspected() == {"t0/llama"}
        assert stage.engine.fleet.outstanding("t1/llama") == 1
        assert stage.engine.fleet.outstanding("t0/llama") == 0


async def test_what_an_instance_failed_is_not_sent_there_again_at_once(stage: Stage) -> None:
    for expected in (FIRST, SECOND):
        async with proxied(stage) as proxy:
            await proxy.head()
            await proxy.body()
            assert await proxy.picked() == expected
            await proxy.call.read()
            head = await proxy.answer_head(503)
            told = head.response_headers.response.header_mutation.set_headers
            assert "retry-after" in {one.header.key for one in told}


async def test_instances_without_an_endpoint_are_passed_over(stage: Stage) -> None:
    stage.scheduler.instances[0].instance.openai_address = ""
    stage.scheduler.changed.set()
    await until(lambda: not stage.engine.fleet.ready(MODEL)[0].openai_address, "the changed fleet")
    async with proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        assert await proxy.picked() == SECOND
    stage.scheduler.instances[1].instance.openai_address = "no-such-host.invalid:80"
    stage.scheduler.changed.set()
    await until(lambda: stage.engine.fleet.ready(MODEL)[1].openai_address != SECOND, "the changed fleet")
    async with proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        assert (await proxy.refused())[0] == 503


async def test_names_become_addresses(stage: Stage) -> None:
    stage.scheduler.instances[0].instance.openai_address = "localhost:8000"
    stage.scheduler.changed.set()
    await until(lambda: stage.engine.fleet.ready(MODEL)[0].openai_address != FIRST, "the changed fleet")
    async with proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        assert await proxy.picked() == "127.0.0.1:8000"


async def test_fallbacks_follow_the_first_endpoint_where_they_are_wanted() -> None:
    config = Config(picker=PickerConfig(fallbacks_max=3))
    async with staged(config, instance_count=2) as stage, proxied(stage) as proxy:
        await proxy.head()
        await proxy.body()
        assert await proxy.picked() == f"{FIRST},{SECOND}"


async def test_without_a_known_key_nobody_is_served() -> None:
    config = Config(tenants={"acme": {"keys_sha256": [digest("k1")]}})
    async with staged(config) as stage:
        for headers, is_last in (({}, False), ({"authorization": "Bearer wrong"}, False), ({}, True)):
            async with proxied(stage) as proxy:
                await proxy.head(headers, is_last=is_last)
                if not is_last:
                    await proxy.body()
                assert (await proxy.refused())[0] == 401
        async with proxied(stage) as proxy:
            await proxy.head({"authorization": "Bearer k1", "x-llm-d-inference-fairness-id": "globex"})
            await proxy.body()
            await proxy.picked()
        assert stage.scheduler.arrived[0].tenant == "acme"


async def test_health_has_the_names_that_the_protocol_asks_for(stage: Stage) -> None:
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "liveness", "readiness", PICKER):

            async def serves(name: str = name) -> bool:
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            async with asyncio.timeout(10):
                while not await serves():
                    await asyncio.sleep(0.05)


async def test_a_traced_request_hands_its_trace_on_to_the_instance() -> None:
    spans = InMemorySpanExporter()
    outbox = Outbox(spans, 100, 1, interval_s=60.0)
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    async with staged(tracer=SdkTracer(Resource({}), outbox)) as stage:
        async with proxied(stage) as proxy:
            await proxy.head({"traceparent": parent})
            await proxy.body()
            mutation = (await proxy.call.read()).request_headers.response.header_mutation
            told = {one.header.key: one.header.raw_value.decode() for one in mutation.set_headers}
            assert told["traceparent"].startswith(parent[:36])
            assert told["traceparent"] != parent
        await until(lambda: len(spans.get_finished_spans()) == 3, "the spans of request, question and attempt")
    await asyncio.to_thread(outbox.close, 10.0)
