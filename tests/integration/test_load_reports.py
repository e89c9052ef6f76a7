"""An emulated server tells its load in every way of ORCA, and gateway and metrics service take it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import httpx
import pytest
from lmaas.orca import orca_pb2
from lmaas.orca.orca_pb2_grpc import OpenRcaServiceStub

from forebay.core.scheduling import Placement
from forebay.core.values import Instance, LengthQuantiles
from forebay.gateway import triton
from forebay.gateway.config import Config as GatewayConfig
from forebay.gateway.upstream import Upstream
from forebay.metrics.config import Config
from forebay.metrics.engine import MetricsEngine
from forebay.metrics.loop import Prober
from forebay.wire import orca
from forebay.wire.clock import now_us
from tests.integration.emulated_triton import EmulatedTriton, start_emulator

MODEL = "llama"
WAIT_S = 60.0


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatedTriton]:
    one = start_emulator(f"--model={MODEL}=H100/Llama-3-8B", "--time-scale=5")
    yield one
    one.terminate()


@pytest.mark.parametrize("form", ["text", "json", "bin"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_http_client_that_asks_is_told_in_its_form(
    emulator: EmulatedTriton, form: str, is_stream: bool
) -> None:
    url = f"http://{emulator.http_address}/v1/completions"
    body = {"model": MODEL, "prompt": "Why?", "max_tokens": 5, "stream": is_stream}
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        answer = await http.post(url, json=body, headers={orca.FORMAT: form})
        silent = await http.post(url, json=body)
    report = orca.read(answer.headers.items())
    assert report is not None
    assert orca.kv_utilization(report) is not None
    assert orca.count(report, orca.TOKENS_MAX)
    assert orca.read(silent.headers.items()) is None


async def test_the_gateway_takes_the_report_in_the_trailers_of_an_answer(emulator: EmulatedTriton) -> None:
    told: list[tuple[str, orca_pb2.OrcaLoadReport]] = []
    upstream = Upstream(GatewayConfig(), lambda instance_id, report: told.append((instance_id, report)))
    placement = Placement("r", "l", "d", f"e/{MODEL}", emulator.grpc_address, LengthQuantiles(1, 2, 3, 4), "p", 1)
    request = triton.text_request(MODEL, "Why?", {"max_tokens": 5})
    async for chunk in upstream.stream(placement, request):
        assert chunk.message is not None
    await upstream.close()
    ((instance_id, report),) = told
    assert instance_id == f"e/{MODEL}"
    assert orca.kv_utilization(report) is not None


@pytest.fixture
async def prober() -> AsyncIterator[tuple[MetricsEngine, Prober]]:
    # The page is read so rarely that what is seen came out of band.
    config = Config(load_reports=True, load_report_interval_s=0.05, scrape_interval_s=3600)
    engine = MetricsEngine(config.unreachable_after_count, config.queue_stale_after_us)
    one = Prober(engine, config, now_us)
    yield engine, one
    await one.close()


async def test_the_metrics_service_is_told_of_load_between_two_scrapes(
    emulator: EmulatedTriton, prober: tuple[MetricsEngine, Prober]
) -> None:
    engine, one = prober
    await one.follow([Instance(f"e/{MODEL}", MODEL, emulator.grpc_address, "e", metrics_url=emulator.metrics_url)])
    await seen(engine, 0)
    async with httpx.AsyncClient(timeout=WAIT_S) as http:
        body = {"model": MODEL, "prompt": "Why?", "max_tokens": 4_000, "ignore_eos": True}
        asking = asyncio.create_task(http.post(f"http://{emulator.http_address}/v1/completions", json=body))
        await seen(engine, 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await seen(engine, 0)


async def seen(engine: MetricsEngine, running_count: int) -> None:
    """Waits until so many requests are seen to run."""
    async with asyncio.timeout(WAIT_S):
        while [one.running_count for one in engine.snapshot(now_us()).instances] != [running_count]:
            await asyncio.sleep(0.02)


async def test_a_grpc_client_watches_the_load_out_of_band(emulator: EmulatedTriton) -> None:
    request = orca_pb2.OrcaLoadReportRequest()
    request.report_interval.FromMilliseconds(50)
    async with grpc.aio.insecure_channel(emulator.grpc_address) as channel:
        call = OpenRcaServiceStub(channel).StreamCoreMetrics(request, timeout=WAIT_S)
        reports = [await call.read() for _ in range(3)]
        call.cancel()
    assert all(orca.count(one, orca.RUNNING) == 0 for one in reports)
