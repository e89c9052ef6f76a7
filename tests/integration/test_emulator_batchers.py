"""Batchers on the wire: unmodified Triton clients tell of their requests, and the emulated engine heeds it."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from forebay.core.instance.hints import Hints
from tests.integration.emulated_triton import EmulatedTriton, start_emulator

PROFILE = "H100/Llama-3-8B"
ONE_SEAT = ("--set=max_seqs=1", "--set=preemption=swap", "--time-scale=4")


def request(name: str, tokens: int, hints: Hints) -> dict[str, Any]:
    """A request for so many tokens, beside which that is told."""
    sampling = json.dumps({"max_tokens": tokens, "ignore_eos": True})
    built = []
    for tensor, text in {"text_input": "Tell me all.", "sampling_parameters": sampling}.items():
        built.append(triton.InferInput(tensor, [1], "BYTES"))
        built[-1].set_data_from_numpy(np.array([text.encode()], dtype=np.object_))
    return {"model_name": "llm", "inputs": built, "request_id": name, "parameters": hints.parameters()}


async def order_of_ends(server: EmulatedTriton, asked: Mapping[str, tuple[int, Hints]]) -> list[str]:
    """The requests, sent 50 ms apart on one stream, in the order in which their answers end."""

    async def requests() -> Any:
        for name, (tokens, hints) in asked.items():
            yield request(name, tokens, hints)
            await asyncio.sleep(0.05)

    ended: list[str] = []
    async with triton_aio.InferenceServerClient(server.grpc_address) as client:
        async for result, error in client.stream_infer(requests()):
            assert error is None
            ended.append(result.get_response().id)
            if len(ended) == len(asked):
                break
    return ended


@pytest.mark.parametrize("batcher", ["preemptive", "alise:first_s=0.2"])
async def test_who_is_said_to_be_short_passes_who_is_said_to_be_long(batcher: str) -> None:
    server = start_emulator(f"--model=llm={PROFILE}", *ONE_SEAT, f"--set=batcher={batcher}")
    try:
        told = {"long": (600, Hints(predicted_tokens=600)), "short": (20, Hints(predicted_tokens=20))}
        assert await order_of_ends(server, told) == ["short", "long"]
        untold = {name: (tokens, Hints()) for name, (tokens, _) in told.items()}
        # ALISE sends whoever overruns what it expects of everybody down a queue; the other one keeps late answers.
        assert await order_of_ends(server, untold) == (["long", "short"] if batcher == "preemptive" else [*told][::-1])
    finally:
        server.terminate()


async def test_a_promise_passes_what_has_none() -> None:
    server = start_emulator(f"--model=llm={PROFILE}", *ONE_SEAT, "--set=batcher=slos_serve")
    try:
        promised = Hints(predicted_tokens=20, ttft_slo_us=2_000_000, tpot_slo_us=100_000)
        assert await order_of_ends(server, {"any": (600, Hints()), "soon": (20, promised)}) == ["soon", "any"]
    finally:
        server.terminate()


async def test_a_session_that_had_much_gives_way_to_a_new_one() -> None:
    server = start_emulator(f"--model=llm={PROFILE}", *ONE_SEAT, "--set=batcher=autellix")
    try:
        asked = {"old": (600, Hints(session_tokens=5_000)), "new": (20, Hints())}
        assert await order_of_ends(server, asked) == ["new", "old"]
    finally:
        server.terminate()


async def test_iterations_keep_the_promise_between_tokens() -> None:
    server = start_emulator(f"--model=llm={PROFILE}", "--set=batcher=accelgen")
    try:
        assert sorted(await order_of_ends(server, {name: (40, Hints(tpot_slo_us=20_000)) for name in "abc"})) == [
            *"abc"
        ]
    finally:
        server.terminate()
