"""A live model at zero: the first request waits for the start and is answered, and too many hear when to come back."""

import asyncio
import json
from pathlib import Path

import httpx

from tests.e2e.running_stack import MODEL, RunningStack, reached, start

PROFILE = "A100-80G/Llama-3-8B/tp1"
HOLD_COUNT_MAX = 2


def at_zero(folder: Path) -> RunningStack:
    """A stack whose policy wants no instance, ever: what starts one is that requests wait."""
    config = folder / "forebay.toml"
    config.write_text(
        f'[scheduler]\nzero_hold_count_max = {HOLD_COUNT_MAX}\n[autoscaler]\npolicy = "static"\nport_base = 0\n'
        f'state_dir = "{folder}/instances"\ntick_s = 0.5\ndrain_quiet_s = 1.0\n'
        f'[[autoscaler.models]]\nname = "{MODEL}"\nprofile = "{PROFILE}"\nstart_s = 7.0\n'
        "instances_min = 0\ninstances_initial = 0\ninstances_max = 1\n"
    )
    return start(folder, "--config", str(config))


async def ask(stack: RunningStack, client: httpx.AsyncClient) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    return await client.post(f"{stack.addresses.http_url}/v1/chat/completions", json=body, timeout=60)


async def test_requests_for_a_model_at_zero_are_held_answered_and_bounded(tmp_path: Path) -> None:
    stack = await asyncio.to_thread(at_zero, tmp_path)
    try:
        assert not json.loads(stack.cli("status", "--json"))["instances"]
        async with httpx.AsyncClient(trust_env=False) as client:
            asked = [asyncio.create_task(ask(stack, client)) for _ in range(HOLD_COUNT_MAX)]
            await asyncio.sleep(0.5)
            refused = await ask(stack, client)
            assert refused.status_code == 429, refused.text
            assert 1 <= int(refused.headers["retry-after"]) <= 7
            assert "expected to take requests in" in refused.json()["error"]["message"]
            answers = await asyncio.gather(*asked)
            assert [answer.status_code for answer in answers] == [200] * HOLD_COUNT_MAX
        # Nobody wants it any more, and it has served as long as its start took: it goes.
        await reached(lambda: not stack.emulators(), 30, "the instance is gone")
    finally:
        stack.stop()
