"""Deferred work gives way on the wire: an emulated engine heeds the priority that the scheduler's placements name."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from forebay.core.values import SloClass
from forebay.scheduler.placing import TRITON_PRIORITY
from tests.integration.emulated_triton import start_emulator

PROFILE = "H100/Llama-3-8B"
SEATS = ("--set=max_seqs=2", "--set=preemption=swap", "--time-scale=4")


def request(name: str, tokens: int, slo_class: SloClass) -> dict[str, Any]:
    sampling = json.dumps({"max_tokens": tokens, "ignore_eos": True})
    built = []
    for tensor, text in {"text_input": "Tell me all.", "sampling_parameters": sampling}.items():
        built.append(triton.InferInput(tensor, [1], "BYTES"))
        built[-1].set_data_from_numpy(np.array([text.encode()], dtype=np.object_))
    return {"model_name": "llm", "inputs": built, "request_id": name, "priority": TRITON_PRIORITY[slo_class]}


async def ends(address: str) -> list[str]:
    """Two deferred requests take both seats, an interactive one comes later; the order in which they end."""

    async def requests() -> Any:
        for name, tokens in (("d1", 600), ("d2", 800)):
            yield request(name, tokens, SloClass.DEFERRED)
        await asyncio.sleep(0.1)
        yield request("i", 20, SloClass.INTERACTIVE_FAST)

    ended: list[str] = []
    async with triton_aio.InferenceServerClient(address) as client:
        async for result, error in client.stream_infer(requests()):
            assert error is None
            ended.append(result.get_response().id)
            if len(ended) == 3:
                return ended
    return ended


@pytest.mark.parametrize(("order", "expected"), [("preemptive", ["i", "d1", "d2"]), ("priority", ["d1", "i", "d2"])])
async def test_an_interactive_request_takes_the_seat_of_deferred_work_which_ends_later(
    order: str, expected: list[str]
) -> None:
    server = start_emulator(f"--model=llm={PROFILE}", *SEATS, f"--set=order={order}")
    try:
        assert await ends(server.grpc_address) == expected
    finally:
        server.terminate()
