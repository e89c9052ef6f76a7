"""What was reported to the metrics service comes out as a workload of the simulator."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from lmaas.metrics.v1 import metrics_service_pb2 as pb

from forebay.cli.export import recorded, write
from forebay.cli.root import main
from forebay.core.errors import ConfigError, NotFound
from forebay.core.values import SloClass
from forebay.metrics.store import MemoryStore
from forebay.simulator.traces import guess, read
from tests.contract.test_metrics_api import MINUTE, S, Service, ended, serving


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async for one in serving(MemoryStore()):
        yield one


async def report(service: Service) -> None:
    changes = {"slo_class": SloClass.DEFERRED, "tenant": "acme", "region": "eu"}
    for number in range(5):
        assert await service.report([ended(number, MINUTE - number * S, prompt_tokens=number + 1, **changes)]) == 1
    assert await service.report([ended(9, 10 * MINUTE, model="other", response_tokens=7)]) == 1
    await service.writer.flush()


def address(service: Service) -> str:
    return f"127.0.0.1:{service.server.port}"


async def test_all_pages_come_out_oldest_first_and_read_as_a_workload(service: Service, tmp_path: Path) -> None:
    await report(service)
    path = tmp_path / "traffic.jsonl"
    write(await recorded(address(service), pb.ListRequestsRequest(page_size=2)), path)
    workload = read(guess(path), path)
    assert workload.arrival_us.tolist() == [0, *(9 * MINUTE + number * S for number in range(5))]
    assert workload.prompt_tokens.tolist() == [10, 1, 2, 3, 4, 5]
    assert workload.output_tokens.tolist() == [7, 20, 20, 20, 20, 20]
    assert (workload.models, workload.regions, workload.tenants) == (
        ("other", "m"),
        ("local", "eu"),
        ("default", "acme"),
    )
    assert workload.slo_class.tolist() == [SloClass.INTERACTIVE_NORMAL, *[SloClass.DEFERRED] * 5]


async def test_one_model_may_come_out_alone(service: Service) -> None:
    await report(service)
    assert len(await recorded(address(service), pb.ListRequestsRequest(model="other"))) == 1


async def test_where_nothing_fits_the_error_says_how_to_get_some(service: Service) -> None:
    with pytest.raises(NotFound, match="forebay load"):
        await recorded(address(service), pb.ListRequestsRequest())


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose another file"):
        write(["{}"], tmp_path / "no" / "traffic.jsonl")


def test_a_stack_that_does_not_answer_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_METRICS", "127.0.0.1:1")
    options = ["export", "requests", "--output", str(tmp_path / "x"), "--state-dir", str(tmp_path), "--last", "60"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
