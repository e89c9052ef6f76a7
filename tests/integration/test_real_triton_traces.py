"""A real Triton's own traces join those of the gateway in front of it."""

import asyncio
from pathlib import Path

import httpx
import pytest
from lmaas.common.v1 import instance_pb2
from lmaas.scheduler.v1 import status_pb2
from prometheus_client import CollectorRegistry

from forebay.wire.tracing_setup import open_tracer
from tests.contract.gateway_stage import Stage, staged
from tests.integration.otlp_receiver import Seen, receiving
from tests.integration.real_triton import INSTALLED, RealTriton, start_server, stop_server

MODEL = "smollm2_short"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
WAIT_S = 30.0


async def test_tritons_spans_are_children_of_ours_over_both_forms_of_otlp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (INSTALLED / "installed.txt").exists():
        pytest.skip(f"no real Triton in {INSTALLED}; `make triton` installs it")
    async with receiving() as received:
        flags = [
            *("--trace-config", "mode=opentelemetry"),
            *("--trace-config", "level=TIMESTAMPS"),
            # What has no parent is traced rarely; what has one, always.
            *("--trace-config", "rate=1000000"),
            *("--trace-config", f"opentelemetry,url={received.http_url}/v1/traces"),
            *("--trace-config", "opentelemetry,bsp_schedule_delay=100"),
        ]
        # Triton sends JSON over HTTP, we protobuf over HTTP; the end-to-end test covers gRPC.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{received.http_url}/v1/traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        tracer = open_tracer("gateway", "test", CollectorRegistry())
        triton, process = await asyncio.to_thread(start_server, MODEL, tmp_path / "server.log", *flags)
        try:
            async with staged(instance_count=0, tracer=tracer) as stage:
                await ask(stage, triton)
                await asyncio.to_thread(tracer.close, WAIT_S)
                await received.until(lambda: received.named(MODEL), "the span of Triton's model")
        finally:
            await asyncio.to_thread(stop_server, process)
        spans = {one.name.split()[0]: one for one in received.spans if one.trace == TRACE}
    assert spans["infer"].service == "forebay-gateway"
    assert spans["InferRequest"].service == "triton-inference-server"
    assert chain(spans, spans[MODEL]) == [MODEL, "InferRequest", "infer", "chat"]


async def ask(stage: Stage, triton: RealTriton) -> None:
    """One answer of the real model through the gateway."""
    instance = instance_pb2.Instance(
        instance_id=f"real/{triton.model}",
        model=triton.model,
        grpc_address=triton.grpc_address,
        server_id="real",
        state="INSTANCE_STATE_READY",
    )
    stage.scheduler.instances = [status_pb2.ScheduledInstance(instance=instance)]
    stage.scheduler.changed.set()
    body = {"model": triton.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    async with httpx.AsyncClient(timeout=120) as http:
        answer = await http.post(f"{stage.http_url}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text


def chain(spans: dict[str, Seen], last: Seen) -> list[str]:
    """Names from a span up to the root."""
    by_id = {one.span_id: one for one in spans.values()}
    names = [last.name.split()[0]]
    while (parent := by_id.get(last.parent_id)) is not None:
        names.append(parent.name.split()[0])
        last = parent
    return names
