"""`forebay export`: takes traffic out of a running stack, so that the simulator can run it again."""

import itertools
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import click
import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from lmaas.metrics.v1 import metrics_service_pb2 as pb
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub

from forebay.cli.options import state_dir_option
from forebay.cli.state import locate
from forebay.core.errors import ConfigError, NotFound
from forebay.core.units import US_PER_S
from forebay.simulator.traces.requestlog import to_line
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.convert import timestamp
from forebay.wire.convert_metrics import request_from_proto

CALL_TIMEOUT_S = 30.0
PAGE_COUNT = 2_000
"""Records a page: well below the size that gRPC takes as one message, whatever their names."""


@click.group()
def export() -> None:
    """Take what was recorded out of a running stack."""


@export.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="JSON lines to write.")
@click.option("--model", default="", help="Only this model. Default: all.")
@click.option("--last", type=click.FloatRange(min=0.001), metavar="S", help="Only the last so many seconds.")
@state_dir_option
def requests(output: Path, model: str, last: float | None, state_dir: Path) -> None:
    """Write the requests that the metrics service has kept, oldest first and without their text.

    \b
    Examples:
      forebay export requests --output traffic.jsonl
      forebay export requests --output llama.jsonl --model llama --last 3600
    """
    query = pb.ListRequestsRequest(model=model, page_size=PAGE_COUNT)
    if last is not None:
        query.start_time.CopyFrom(_before(last))
    lines = uvloop.run(recorded(locate(state_dir).grpc["metrics"], query))
    write(lines, output)
    click.echo(f"wrote {len(lines)} requests to {output}; it is a workload of format requestlog")


def _before(seconds: float) -> Timestamp:
    return timestamp(max(now_us() - round(seconds * US_PER_S), 0))


async def recorded(address: str, query: pb.ListRequestsRequest) -> list[str]:
    """What the metrics service at `address` lists, a line a request, oldest first.

    Raises NotFound where there is nothing, grpc.RpcError where the service does not answer.
    """
    pages = [page async for page in _pages(address, query)]
    lines = list(itertools.chain.from_iterable(reversed(page) for page in reversed(pages)))
    if not lines:
        raise NotFound("no request is on record that fits; send some with: forebay load")
    return lines


def write(lines: Iterable[str], output: Path) -> None:
    """Writes the lines; the file is there in full or not at all. Raises ConfigError where it cannot be written."""
    fresh = output.with_name(output.name + ".new")
    try:
        fresh.write_text("".join(lines))
        fresh.replace(output)
    except OSError as error:
        raise ConfigError(f"cannot write {output} ({error.strerror}); choose another file") from error


async def _pages(address: str, query: pb.ListRequestsRequest) -> AsyncIterator[list[str]]:
    """The lines of each page, newest first as the service lists them."""
    async with connect(address) as channel:
        stub = MetricsServiceStub(channel)
        while True:
            page = await stub.ListRequests(query, timeout=CALL_TIMEOUT_S)
            yield [to_line(request_from_proto(record)) + "\n" for record in page.requests]
            if not page.next_page_token:
                return
            query.page_token = page.next_page_token
