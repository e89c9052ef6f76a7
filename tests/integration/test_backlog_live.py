"""What waits in a real gateway's store reaches whoever asks a real scheduler."""

from pathlib import Path

import pytest
from lmaas.scheduler.v1 import pressure_pb2
from lmaas.scheduler.v1.scheduler_service_pb2 import GetPressureRequest
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.wire.channel import connect
from lmaas_client.deferred import AsyncDeferredClient
from tests.integration.gateway_plant import MODEL, planted

COUNT, WINDOW = 60, 4
CONFIG = f"[gateway.deferred]\nwindow_min = {WINDOW}\nwindow_max = {WINDOW}\npoll_s = 0.2\n"


async def test_jobs_that_wait_at_the_gateway_are_part_of_what_the_scheduler_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_DATABASE_URL", f"sqlite:///{tmp_path / 'gateway.db'}")
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4_000, "ignore_eos": True}
    async with planted(tmp_path, emulator_count=1, gateway_config=CONFIG) as plant:

        async def pressure() -> pressure_pb2.Pressure:
            async with connect(plant.scheduler_address) as channel:
                return (await SchedulerServiceStub(channel).GetPressure(GetPressureRequest(), timeout=10)).pressure

        async def tells(stored_count: int, deferred_count: int) -> bool:
            told = await pressure()
            stored = sum(one.request_count for one in told.waiting if one.stored)
            return (stored, sum(one.deferred_count for one in told.instances)) == (stored_count, deferred_count)

        async with AsyncDeferredClient(plant.grpc_address) as client:
            job = await client.submit({f"r{number}": body for number in range(COUNT)}, window_s=3_600)
            await plant.until(lambda: tells(COUNT - WINDOW, WINDOW), "all but what is in flight is told of")
            [group] = (await pressure()).waiting
            assert (group.model, group.region, group.due_time) == (MODEL, "local", job.deadline)
            assert group.mean_tokens > 0
            await client.cancel(job.job_id)
            await plant.until(lambda: tells(0, 0), "nothing waits any more")
