"""One request is one trace over all services, received by OTLP from a stack as a user starts it."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
import pytest_asyncio
from lmaas.scheduler.v1 import request_pb2, scheduler_service_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from tritonclient.grpc import service_pb2_grpc

from forebay.gateway import triton
from tests.e2e.running_stack import MODEL, RunningStack, start
from tests.integration.otlp_receiver import Received, Seen, receiving

pytestmark = pytest.mark.asyncio(loop_scope="module")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
QUESTION = "A short question, number 1"
SERVER, CLIENT = 2, 3


class Traced(NamedTuple):
    stack: RunningStack
    received: Received


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    async with receiving() as received:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{received.address}")
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
            patch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
            # In a thread: while the stack starts, it sends to the receiver in this event loop.
            stack = await asyncio.to_thread(start, tmp_path_factory.mktemp("traced"))
            try:
                yield Traced(stack, received)
            finally:
                await asyncio.to_thread(stack.stop)


async def chat(stack: RunningStack, headers: dict[str, str], **more: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], **more}
    async with httpx.AsyncClient(timeout=60) as http:
        return await http.post(f"{stack.addresses.http_url}/v1/chat/completions", json=body, headers=headers)


async def one_trace(received: Received, trace: str) -> dict[str, Seen]:
    """The spans of a trace by service and first word of the name, once its root has come."""
    await received.until(lambda: received.named("chat ", trace), f"the root of trace {trace}")
    await received.until(lambda: received.named("InferRequest", trace), f"the instance's span of trace {trace}")
    await received.until(lambda: received.named("predict ", trace), f"the predictor's span of trace {trace}")
    return {f"{one.service}/{one.name.split()[0]}": one for one in received.spans if one.trace == trace}


async def test_a_request_over_http_is_one_trace_through_four_services(traced: Traced) -> None:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=abc"}
    answer = await chat(traced.stack, headers)
    assert answer.status_code == 200, answer.text
    spans = await one_trace(traced.received, TRACE)
    parents = {
        "forebay-gateway/chat": CALLER,
        "forebay-gateway/schedule": spans["forebay-gateway/chat"].span_id,
        "forebay-scheduler/place": spans["forebay-gateway/schedule"].span_id,
        "forebay-scheduler/predict": spans["forebay-scheduler/place"].span_id,
        "forebay-predictor/predict": spans["forebay-scheduler/predict"].span_id,
        "forebay-gateway/infer": spans["forebay-gateway/chat"].span_id,
        "forebay-emulator/InferRequest": spans["forebay-gateway/infer"].span_id,
    }
    assert {name: one.parent_id for name, one in spans.items()} == parents
    assert [spans[name].kind for name in parents] == [SERVER, CLIENT, SERVER, CLIENT, SERVER, CLIENT, SERVER]


async def test_the_whole_says_what_the_genai_conventions_ask_and_leads_to_explain(traced: Traced) -> None:
    trace = "a" * 32
    answer = (await chat(traced.stack, {"traceparent": f"00-{trace}-{CALLER}-01"}, max_tokens=64)).json()
    whole = (await one_trace(traced.received, trace))["forebay-gateway/chat"]
    said = whole.attributes
    assert whole.name == f"chat {MODEL}"
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.request.model"] == MODEL
    assert said["gen_ai.request.max_tokens"] == 64
    assert said["gen_ai.usage.input_tokens"] == answer["usage"]["prompt_tokens"]
    assert said["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"]
    assert said["server.port"] > 0
    assert whole.start_ns <= whole.events["placed"] <= whole.events["first_token"] <= whole.end_ns
    told = traced.stack.cli("explain", said["forebay.decision_id"])
    assert said["forebay.instance_id"] in told


async def test_no_span_holds_the_prompt_or_the_answer(traced: Traced) -> None:
    trace = "b" * 32
    text = (await chat(traced.stack, {"traceparent": f"00-{trace}-{CALLER}-01"})).json()["choices"][0]["message"]
    await one_trace(traced.received, trace)
    everything = repr(traced.received.spans)
    assert QUESTION not in everything
    assert text["content"][:40] not in everything


async def test_requests_of_one_kserve_stream_have_traces_of_their_own(traced: Traced) -> None:
    traces = ("c" * 32, "d" * 32)

    async def requests() -> AsyncIterator[Any]:
        for trace in traces:
            message = triton.text_request(MODEL, QUESTION, {"max_tokens": 5})
            message.id = trace
            message.parameters["traceparent"].string_param = f"00-{trace}-{CALLER}-01"
            yield message

    async with grpc.aio.insecure_channel(traced.stack.addresses.grpc["gateway"]) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(requests(), timeout=60)
        errors = [one.error_message async for one in call if one.error_message]
    assert errors == []
    for trace in traces:
        await traced.received.until(
            lambda trace=trace: traced.received.named("InferRequest", trace),  # type: ignore[misc]
            f"the instance's span of {trace}",
        )


async def test_a_client_of_the_scheduler_is_traced_by_its_metadata(traced: Traced) -> None:
    trace = "e" * 32
    request = request_pb2.InferenceRequest(
        request_id="traced-1", model=MODEL, prompt_tokens=9, slo_class="SLO_CLASS_INTERACTIVE_NORMAL"
    )
    async with grpc.aio.insecure_channel(traced.stack.addresses.grpc["scheduler"]) as channel:
        stub = SchedulerServiceStub(channel)
        metadata = (("traceparent", f"00-{trace}-{CALLER}-01"),)
        placed = await stub.Place(scheduler_service_pb2.PlaceRequest(request=request), timeout=30, metadata=metadata)
        cancel = request_pb2.Cancel(request_id="traced-1")
        await stub.Report(scheduler_service_pb2.ReportRequest(cancel=cancel), timeout=30)
    await traced.received.until(lambda: traced.received.named("lmaas.", trace), "the call's span")
    call, placing = traced.received.named("lmaas.", trace)[0], traced.received.named("place ", trace)[0]
    assert call.parent_id == CALLER
    assert placing.parent_id == call.span_id
    assert placing.attributes["forebay.decision_id"] == placed.placement.decision_id


async def test_a_caller_that_does_not_sample_is_left_alone(traced: Traced) -> None:
    trace = "f" * 32
    assert (await chat(traced.stack, {"traceparent": f"00-{trace}-{CALLER}-00"})).status_code == 200
    later = "1" * 32
    await chat(traced.stack, {"traceparent": f"00-{later}-{CALLER}-01"})
    await one_trace(traced.received, later)
    assert traced.received.named("", trace) == []


@pytest.mark.parametrize("value", ["", "nonsense", f"00-{'0' * 32}-{CALLER}-01", "00-" + "x" * 5_000])
async def test_a_bad_traceparent_counts_as_none(traced: Traced, value: str) -> None:
    before = {one.trace for one in traced.received.spans}
    assert (await chat(traced.stack, {"traceparent": value})).status_code == 200

    def begun() -> list[Seen]:
        return [one for one in traced.received.named("chat ") if one.trace not in before and not one.parent_id]

    await traced.received.until(begun, "a trace that begins at the gateway")


async def test_a_request_that_fails_says_why(traced: Traced) -> None:
    trace = "2" * 32
    body = {"model": "nobody", "messages": [{"role": "user", "content": QUESTION}]}
    async with httpx.AsyncClient(timeout=60) as http:
        headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
        answer = await http.post(f"{traced.stack.addresses.http_url}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 404
    await traced.received.until(lambda: traced.received.named("chat ", trace), "the root")
    assert traced.received.named("chat ", trace)[0].error == "MODEL_UNKNOWN"


async def test_the_genai_metrics_come_by_otlp_under_their_own_names(traced: Traced) -> None:
    wanted = {
        "gen_ai.client.token.usage": "{token}",
        "gen_ai.server.request.duration": "s",
        "gen_ai.server.time_to_first_token": "s",
        "gen_ai.server.time_per_output_token": "s",
    }

    def found() -> dict[str, str]:
        ours = [one for one in traced.received.metrics if one.name in wanted and one.histogram.data_points]
        return {one.name: one.unit for one in ours}

    await traced.received.until(lambda: found() == wanted, "the GenAI metrics")
    usage = [one for one in traced.received.metrics if one.name == "gen_ai.client.token.usage"][-1]
    points = {
        tuple(sorted((a.key, a.value.string_value) for a in point.attributes)): point
        for point in usage.histogram.data_points
    }
    output = points[
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "triton"),
        ("gen_ai.request.model", MODEL),
        ("gen_ai.token.type", "output"),
    ]
    assert output.count == sum(output.bucket_counts) > 0
    assert output.sum >= output.count
    assert len(output.bucket_counts) == len(output.explicit_bounds) + 1


async def test_the_prometheus_page_counts_the_spans_that_were_sent(traced: Traced) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        page = (await http.get(f"http://{traced.stack.addresses.prometheus['gateway']}/metrics")).text
    sent = re.search(r'forebay_tracing_spans_total{result="sent"} (\S+)', page)
    assert sent is not None
    assert float(sent[1]) > 0
    assert 'forebay_tracing_spans_total{result="dropped"} 0.0' in page
    assert "gen_ai_server_time_to_first_token_seconds_bucket" in page
