"""A real Envoy with the configuration that ships: OpenAI's clients reach instances that our scheduler picks."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from forebay.gateway.values import RequestStatus
from tests.integration import envoy
from tests.integration.gateway_plant import MODEL, Plant, planted

pytestmark = pytest.mark.asyncio(loop_scope="module")

USER: Any = [{"role": "user", "content": "How deep is the pool?"}]
CHAT = {"model": MODEL, "messages": USER, "max_tokens": 8}
PATH = "/v1/chat/completions"
LONG = {**CHAT, "max_tokens": 4000, "ignore_eos": True, "stream": True}
"""An answer that does not end by itself during a test."""
CONFIG = """
[scheduler]
admission = "tenant_quota"
[scheduler.tenants.poor]
tokens_per_minute = 30
[gateway]
body_bytes_max = 2_000_000
[gateway.picker.objectives]
chatty = "interactive-fast"
"""
HINTED = """- name: envoy.filters.http.header_to_metadata
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config
                      request_rules:
                        - header: x-test-subset
                          on_header_present:
                            metadata_namespace: envoy.lb.subset_hint
                            key: x-gateway-destination-endpoint-subset
                            type: STRING
                  - name: envoy.filters.http.ext_proc
"""
"""What lets a test say which endpoints may be chosen, as a gateway of Kubernetes would."""


class Proxied:
    """Envoy before a plant."""

    def __init__(self, plant: Plant, url: str) -> None:
        self.plant = plant
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=60)
        self.ai = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

    async def post(self, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.http.post(PATH, json=body, headers=headers)

    async def record(self, response: httpx.Response) -> Any:
        """What metrics is told of the request."""
        named = response.headers["x-request-id"]

        def found() -> list[Any]:
            return [one for one in self.plant.records if one.request_id.startswith(named)]

        await self.plant.until(found, "a record of the request")
        return found()[0]

    async def is_free(self) -> bool:
        return not await self.plant.leases()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxied(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxied]:
    envoy.find_envoy()
    folder: Path = tmp_path_factory.mktemp("envoy")
    async with planted(folder, gateway_config=CONFIG) as plant:
        changes = {**envoy.to_gateway(plant.grpc_address), "- name: envoy.filters.http.ext_proc\n": HINTED}
        with envoy.running(folder, changes) as url:
            made = Proxied(plant, url)
            await plant.until(lambda: _serves(made), "Envoy with its picker")
            yield made
            await made.http.aclose()
            await made.ai.close()


async def _serves(made: Proxied) -> bool:
    return (await made.http.get("/v1/models")).status_code == 200


async def test_the_official_client_gets_its_answer_and_the_lease_ends_with_the_model_s_counts(proxied: Proxied) -> None:
    raw = await proxied.ai.chat.completions.with_raw_response.create(model=MODEL, messages=USER, max_tokens=8)
    answer = raw.parse()
    assert answer.usage
    assert answer.usage.completion_tokens == 8
    record = await proxied.record(raw.http_response)
    assert record.status == RequestStatus.OK
    assert (record.prompt_tokens, record.response_tokens) == (answer.usage.prompt_tokens, 8)
    assert record.instance_id == raw.headers["x-forebay-instance"]
    assert record.decision_id == raw.headers["x-forebay-decision-id"]
    assert "x-gateway-destination-endpoint-served" not in raw.headers
    await proxied.plant.until(proxied.is_free, "the end of the lease")


async def test_a_stream_reaches_its_client_as_the_instance_sends_it_though_its_tokens_are_counted(
    proxied: Proxied,
) -> None:
    raw = await proxied.ai.chat.completions.with_raw_response.create(
        model=MODEL, messages=USER, max_tokens=20, stream=True
    )
    events = [event async for event in raw.parse()]
    assert all(event.choices for event in events), "the counts were asked for by the picker, not by the client"
    record = await proxied.record(raw.http_response)
    assert (record.status, record.response_tokens) == (RequestStatus.OK, 20)
    assert record.HasField("time_to_first_token")


async def test_a_client_that_asks_for_the_counts_gets_them(proxied: Proxied) -> None:
    stream = await proxied.ai.chat.completions.create(
        model=MODEL, messages=USER, max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    events = [event async for event in stream]
    assert events[-1].usage
    assert events[-1].usage.completion_tokens == 6


async def test_requests_spread_over_the_instances(proxied: Proxied) -> None:
    answers = await asyncio.gather(*(proxied.post({**CHAT, "max_tokens": 200}) for _ in range(12)))
    assert {one.status_code for one in answers} == {200}
    assert {one.headers["x-forebay-instance"] for one in answers} == {f"s0/{MODEL}", f"s1/{MODEL}"}


async def test_a_long_prompt_arrives_whole(proxied: Proxied) -> None:
    words = "deep water " * 10_000
    body = {**CHAT, "model": MODEL, "messages": [{"role": "user", "content": words}]}
    answer = await proxied.post(body)
    # The instance refuses what its context cannot hold, or the scheduler does: either has read all of it.
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    fitting = await proxied.post({**body, "messages": [{"role": "user", "content": words[:24_000]}]})
    assert fitting.json()["usage"]["prompt_tokens"] == 6_000


async def test_a_body_that_is_too_large_is_refused(proxied: Proxied) -> None:
    answer = await proxied.post({**CHAT, "user": "x" * 2_100_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b'{"messages": []}', b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_no_question_is_refused_in_the_form_of_openai(proxied: Proxied, body: bytes) -> None:
    answer = await proxied.http.post(PATH, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_model_that_nobody_has_is_not_found(proxied: Proxied) -> None:
    with pytest.raises(openai.NotFoundError):
        await proxied.ai.chat.completions.create(model="nobody's", messages=USER)


async def test_only_endpoints_of_the_subset_are_chosen(proxied: Proxied) -> None:
    allowed = proxied.plant.emulators[1].http_address
    hint = {"x-test-subset": f"10.0.0.1:80, {allowed}"}
    answers = await asyncio.gather(*(proxied.post(CHAT, hint) for _ in range(6)))
    assert {one.headers["x-forebay-instance"] for one in answers} == {f"s1/{MODEL}"}
    none = await proxied.post(CHAT, {"x-test-subset": "10.0.0.1:80"})
    assert (none.status_code, none.json()["error"]["code"]) == (503, "no_instance_ready")


async def test_a_client_cannot_choose_its_endpoint(proxied: Proxied) -> None:
    answer = await proxied.post(CHAT, {"x-gateway-destination-endpoint": "127.0.0.1:1"})
    assert answer.status_code == 200


async def test_what_admission_refuses_is_dropped_with_its_reason(proxied: Proxied) -> None:
    poor = {"x-llm-d-inference-fairness-id": "poor"}
    asked = {**CHAT, "max_tokens": 100, "ignore_eos": True}
    answers = [await proxied.post(asked, poor) for _ in range(3)]
    dropped = answers[-1]
    assert dropped.status_code == 429
    assert dropped.headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
    assert int(dropped.headers["retry-after"]) >= 1
    assert (await proxied.record(dropped)).tenant == "poor"


async def test_llm_d_s_headers_name_class_and_tenant(proxied: Proxied) -> None:
    answer = await proxied.post(CHAT, {"x-llm-d-inference-objective": "chatty", "x-llm-d-inference-fairness-id": "t9"})
    record = await proxied.record(answer)
    assert (record.slo_class, record.tenant) == (1, "t9")


async def test_a_client_that_leaves_frees_its_place(proxied: Proxied) -> None:
    async with proxied.http.stream("POST", PATH, json=LONG) as response:
        assert response.status_code == 200, await response.aread()
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith("data: ")
        assert await proxied.plant.leases()
    await proxied.plant.until(proxied.is_free, "the end of the lease")
    record = await proxied.record(response)
    assert record.status == RequestStatus.CANCELLED
    assert record.response_tokens > 0


async def test_without_its_scheduler_the_gateway_chooses_by_itself(proxied: Proxied) -> None:
    plant = proxied.plant
    plant.processes["scheduler"].send_signal(signal.SIGKILL)
    plant.processes["scheduler"].wait()
    await plant.ready("down")
    answer = await proxied.post(CHAT)
    assert answer.status_code == 200
    assert "x-forebay-decision-id" not in answer.headers
    plant.start("scheduler")
    await plant.ready("linked")
    answer = await proxied.post(CHAT)
    assert answer.headers["x-forebay-decision-id"]


async def test_an_instance_that_dies_fails_its_requests_at_once_and_others_go_on(proxied: Proxied) -> None:
    plant = proxied.plant

    async def run() -> tuple[str, bool]:
        """Reads an answer of the instance that dies to its end, and of another one for a while."""
        async with proxied.http.stream("POST", PATH, json=LONG) as response:
            name, count = response.headers["x-forebay-instance"], 0
            try:
                async for _ in response.aiter_lines():
                    count += 1
                    if name == f"s0/{MODEL}":
                        plant.emulators[0].process.kill()
                    elif count == 100:
                        break
            except httpx.HTTPError:
                return name, False
            return name, response.status_code == 200

    ended = await asyncio.gather(*(run() for _ in range(6)))
    assert (f"s1/{MODEL}", True) in ended
    assert {is_whole for name, is_whole in ended if name == f"s0/{MODEL}"} == {False}
    await plant.until(proxied.is_free, "the end of all leases")
    # Nobody tells this fleet that the instance is gone, so some requests still go there: their clients come again.
    refused = [one for one in [await proxied.post(CHAT) for _ in range(6)] if one.status_code != 200]
    for answer in refused:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "instance_unavailable")
        assert answer.headers["retry-after"]
        assert (await proxied.record(answer)).status == RequestStatus.FAILED
    patient = proxied.ai.with_options(max_retries=2)
    answer = await patient.chat.completions.create(model=MODEL, messages=USER, max_tokens=4)
    assert answer.usage
    del plant.fleet.instances[0]


async def test_without_an_instance_that_is_ready_there_is_no_service(proxied: Proxied) -> None:
    plant = proxied.plant
    for instance in plant.fleet.instances:
        instance.state = 4

    async def is_told() -> bool:
        told = await proxied.http.get("/v1/models")
        return told.status_code == 503 and told.json()["error"]["code"] == "no_instance_ready"

    await plant.until(is_told, "a gateway without instances")
    answer = await proxied.post(CHAT, {"x-test-subset": plant.emulators[1].http_address})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_instance_ready")
    assert int(answer.headers["retry-after"]) >= 1


async def test_where_envoy_knows_the_fleet_a_dead_instance_is_passed_over_unseen(tmp_path: Path) -> None:
    envoy.find_envoy()
    async with planted(tmp_path, gateway_config="[gateway.picker]\nfallbacks_max = 2\n") as plant:
        changes = envoy.to_gateway(plant.grpc_address)
        for number, emulator in enumerate(plant.emulators, 1):
            host, _, port = emulator.http_address.rpartition(":")
            known = f"{{address: instance-{number}, port_value: 8000}}"
            changes[known] = f"{{address: {host}, port_value: {port}}}"
        with envoy.running(tmp_path, changes, envoy.CONFIG.with_name("envoy_failover.yaml")) as url:
            made = Proxied(plant, url)
            await plant.until(lambda: _serves(made), "Envoy with its picker")
            plant.emulators[0].process.kill()
            for _ in range(6):
                answer = await made.post(CHAT)
                assert answer.status_code == 200
                assert answer.headers["x-forebay-instance"] == f"s1/{MODEL}"
                assert (await made.record(answer)).instance_id == f"s1/{MODEL}"
            plant.processes["gateway"].kill()
            assert (await made.post(CHAT)).status_code == 503, "nobody picks"
            await made.http.aclose()
            await made.ai.close()
