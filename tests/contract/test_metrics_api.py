"""What the metrics contract promises, over real gRPC, with each store behind it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from lmaas.metrics.v1 import event_pb2
from lmaas.metrics.v1 import metrics_service_pb2 as pb
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub, add_MetricsServiceServicer_to_server
from prometheus_client import CollectorRegistry

from forebay import sql
from forebay.core.errors import ForebayError, InvalidArgument, Unavailable
from forebay.core.metrics import Event, QueueSample, RequestRecord, RequestStatus
from forebay.core.values import SloClass
from forebay.metrics.engine import MetricsEngine
from forebay.metrics.prometheus import RequestStats
from forebay.metrics.servicer import SERVICE, MetricsServicer
from forebay.metrics.store import MemoryStore, RequestKey, Series, Store
from forebay.metrics.store_sql import SqlStore
from forebay.metrics.writer import Writer
from forebay.wire import convert
from forebay.wire.channel import connect
from forebay.wire.convert_metrics import event_to_proto
from forebay.wire.errors import from_rpc_error
from forebay.wire.reporter import Reporter
from forebay.wire.server import Server

S = 1_000_000
MINUTE = 60 * S
NOW = 1_800_000_000 * S
BUFFER = 20


class DownStore(MemoryStore):
    """A store whose database can be down."""

    down = False

    def check(self) -> None:
        if self.down:
            raise Unavailable("the database does not answer", reason="DATABASE_UNAVAILABLE", retry_after_us=S)

    def append(self, events: Sequence[Event]) -> int:
        self.check()
        return super().append(events)

    def first_arrival_us(self, series: Series) -> int | None:
        self.check()
        return super().first_arrival_us(series)

    def requests(
        self, model: str, start_us: int, before: RequestKey | None, count_max: int
    ) -> list[tuple[RequestKey, RequestRecord]]:
        self.check()
        return super().requests(model, start_us, before, count_max)


class Service:
    """The service in this process, on a free port, with a clock that stands still."""

    def __init__(self, store: Store) -> None:
        self.registry = CollectorRegistry()
        self.now_us = NOW
        self.engine = MetricsEngine(unreachable_after_count=2, queue_stale_after_us=5 * S)
        self.writer = Writer(store, buffer_count_max=BUFFER, batch_count_max=8)
        stats = RequestStats(self.registry)
        servicer = MetricsServicer(self.engine, self.writer, store, stats, lambda: self.now_us)
        self.server = Server("127.0.0.1:0", [SERVICE], self.registry)
        add_MetricsServiceServicer_to_server(servicer, self.server.grpc)
        self.channel = connect(f"127.0.0.1:{self.server.port}")
        self.stub = MetricsServiceStub(self.channel)

    async def report(self, *batches: list[event_pb2.Event]) -> int:
        requests = [pb.ReportEventsRequest(events=batch) for batch in batches]
        return (await self.stub.ReportEvents(iter(requests), timeout=5)).accepted_count

    async def history(self, **fields: object) -> pb.QueryWorkloadHistoryResponse:
        return await self.stub.QueryWorkloadHistory(pb.QueryWorkloadHistoryRequest(**fields), timeout=5)  # type: ignore[arg-type]

    async def listed(self, **fields: object) -> list[str]:
        answer = await self.stub.ListRequests(pb.ListRequestsRequest(**fields), timeout=5)  # type: ignore[arg-type]
        return [record.request_id for record in answer.requests]


async def serving(store: Store) -> AsyncIterator[Service]:
    made = Service(store)
    await made.server.start()
    writing = asyncio.create_task(made.writer.run())
    yield made
    await made.channel.close()
    await made.server.stop(0)
    writing.cancel()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    engine = sql.open_engine(f"sqlite:///{tmp_path}/store.db")
    yield SqlStore(engine)
    engine.dispose()


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    async for one in serving(store):
        yield one


@pytest.fixture
def down() -> DownStore:
    return DownStore()


@pytest.fixture
async def fragile(down: DownStore) -> AsyncIterator[Service]:
    async for one in serving(down):
        yield one


def ended(number: int, age_us: int = 0, **changes: object) -> event_pb2.Event:
    values = {"prompt_tokens": 10, "response_tokens": 20, "ttft_us": S, "end_to_end_us": 2 * S, **changes}
    record = RequestRecord(f"r{number}", str(values.pop("model", "m")), NOW - age_us, RequestStatus.OK, **values)  # type: ignore[arg-type]
    return event_to_proto(Event(f"e{number}", record))


async def failure(call: object) -> ForebayError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return from_rpc_error(caught.value)


async def test_events_that_were_reported_can_be_asked_for(service: Service) -> None:
    assert await service.report([ended(1), ended(2, S)], [ended(3, 2 * S)]) == 3
    assert await service.listed() == ["r1", "r2", "r3"]


async def test_a_stream_without_events_is_answered(service: Service) -> None:
    assert await service.report() == 0


async def test_events_that_come_again_change_nothing(service: Service) -> None:
    await service.report([ended(1), ended(2)])
    assert await service.report([ended(1)], [ended(2), ended(3)]) == 3
    assert len(await service.listed()) == 3
    model = (await service.stub.GetSnapshot(pb.GetSnapshotRequest(), timeout=5)).snapshot.models[0]
    assert model.ended_count == 3
    counted = {"model": "m", "status": "ok", "slo_class": "interactive_normal"}
    assert service.registry.get_sample_value("forebay_requests_total", counted) == 3


async def test_a_bad_event_ends_the_stream_and_those_before_it_are_kept(service: Service) -> None:
    bad = event_pb2.Event(event_id="bad", request=event_pb2.RequestRecord(request_id="r"))
    error = await failure(service.report([ended(1)], [ended(2), ended(3), bad, ended(4)], [ended(5)]))
    assert isinstance(error, InvalidArgument)
    assert "events[2].request.model" in error.violations
    assert sorted(await service.listed()) == ["r1", "r2", "r3"]


@pytest.mark.parametrize("events", [[], [event_pb2.Event(event_id="e")], [ended(1)] * 1001])
async def test_batches_and_events_that_break_the_rules_are_refused(
    service: Service, events: list[event_pb2.Event]
) -> None:
    assert isinstance(await failure(service.report(events)), InvalidArgument)


async def test_the_reporter_of_other_services_delivers(service: Service) -> None:
    reporter = Reporter(service.channel)
    for number in range(5):
        reporter.report(ended(number))
    await reporter.flush()
    assert reporter.pending_count == 0
    assert len(await service.listed()) == 5


async def test_history_starts_at_the_first_event_and_ends_now_in_windows_of_a_minute(service: Service) -> None:
    await service.report([ended(1, 3 * MINUTE), ended(2, 1 * MINUTE), ended(3, 1 * MINUTE)])
    points = (await service.history(model="m")).points
    assert [point.start_time.ToMicroseconds() for point in points] == [NOW - i * MINUTE for i in (3, 2, 1)]
    assert [(p.request_count, p.prompt_tokens, p.response_tokens) for p in points] == [
        (1, 10, 20),
        (0, 0, 0),
        (2, 20, 40),
    ]


async def test_history_of_an_unknown_series_is_empty(service: Service) -> None:
    answer = await service.history(model="unheard of")
    assert (len(answer.points), answer.next_page_token) == (0, "")


async def test_history_takes_a_span_a_window_a_region_and_a_class(service: Service) -> None:
    await service.report(
        [
            ended(1, 5 * S, region="eu", slo_class=SloClass.DEFERRED),
            ended(2, 4 * S, region="us", slo_class=SloClass.DEFERRED),
            ended(3, 3 * S, region="eu"),
        ]
    )
    span = {"start_time": convert.timestamp(NOW - 6 * S), "end_time": convert.timestamp(NOW - 2 * S)}
    window = {"model": "m", "window": convert.duration(2 * S), **span}
    assert [point.request_count for point in (await service.history(**window)).points] == [1, 2]
    assert [point.request_count for point in (await service.history(region="eu", **window)).points] == [1, 1]
    deferred = await service.history(slo_class="SLO_CLASS_DEFERRED", **window)
    assert [point.request_count for point in deferred.points] == [1, 1]


async def test_pages_of_history_join_without_gap_or_overlap_while_time_goes_on(service: Service) -> None:
    await service.report([ended(number, number * MINUTE) for number in range(1, 11)])
    starts: list[int] = []
    token = ""
    for size in (4, 1, 3, 100):
        page = await service.history(model="m", page_size=size, page_token=token)
        starts += [point.start_time.ToMicroseconds() for point in page.points]
        token = page.next_page_token
        service.now_us += MINUTE
    assert token == ""
    assert starts == [NOW - i * MINUTE for i in range(10, 0, -1)]


async def test_pages_of_requests_join_without_gap_or_overlap(service: Service) -> None:
    await service.report([ended(number, number // 3) for number in range(10)])
    seen: list[str] = []
    token = ""
    sizes: list[int] = []
    while not sizes or token:
        request = pb.ListRequestsRequest(model="m", page_size=4, page_token=token)
        page = await service.stub.ListRequests(request, timeout=5)
        sizes.append(len(page.requests))
        seen += [record.request_id for record in page.requests]
        token = page.next_page_token
    assert sizes == [4, 4, 2]
    assert sorted(seen) == sorted(f"r{number}" for number in range(10))


async def test_a_page_that_is_just_full_is_the_last(service: Service) -> None:
    await service.report([ended(number, number * MINUTE) for number in range(1, 5)])
    assert (await service.history(model="m", page_size=4)).next_page_token == ""
    answer = await service.stub.ListRequests(pb.ListRequestsRequest(page_size=4), timeout=5)
    assert (len(answer.requests), answer.next_page_token) == (4, "")


async def test_requests_can_be_narrowed_by_model_and_time(service: Service) -> None:
    await service.report([ended(1, 2 * S), ended(2, S, model="other"), ended(3)])
    assert await service.listed(model="m") == ["r3", "r1"]
    assert await service.listed(start_time=convert.timestamp(NOW - S)) == ["r3", "r2"]


async def test_a_token_of_another_query_is_refused(service: Service) -> None:
    await service.report([ended(number, number * MINUTE) for number in range(1, 5)])
    token = (await service.history(model="m", page_size=1)).next_page_token
    for wrong in (service.history(model="other", page_token=token), service.listed(page_token=token)):
        error = await failure(wrong)
        assert isinstance(error, InvalidArgument)
        assert set(error.violations) == {"page_token"}


@pytest.mark.parametrize(
    "fields",
    [
        {"model": ""},
        {"model": "m", "window": convert.duration(S // 2)},
        {"model": "m", "window": convert.duration(3601 * S)},
        {"model": "m", "page_size": 10_001},
        {"model": "m", "slo_class": 9},
        {"model": "m", "page_token": "nonsense"},
    ],
)
async def test_a_query_that_breaks_the_rules_is_refused(service: Service, fields: dict[str, object]) -> None:
    assert isinstance(await failure(service.history(**fields)), InvalidArgument)


async def test_the_snapshot_tells_what_was_reported(service: Service) -> None:
    sample = event_to_proto(Event("q", QueueSample("m", NOW, 3, 4, "s")))
    await service.report([ended(1, 2 * S), sample])
    snapshot = (await service.stub.GetSnapshot(pb.GetSnapshotRequest(), timeout=5)).snapshot
    assert snapshot.snapshot_time.ToMicroseconds() == NOW
    (model,) = snapshot.models
    assert (model.held_count, model.in_flight_count, model.ended_count, model.ttft_p50_s) == (3, 4, 1, 1.0)


async def test_snapshots_come_at_once_and_then_at_the_pace_that_was_asked_for(service: Service) -> None:
    call = service.stub.WatchSnapshots(pb.WatchSnapshotsRequest(interval=convert.duration(S // 10)), timeout=5)
    seen = []
    async for answer in call:
        seen.append(answer.snapshot.snapshot_time.ToMicroseconds() - NOW)
        service.now_us += 1
        if len(seen) == 3:
            break
    call.cancel()
    assert seen == [0, 1, 2]


async def test_while_the_database_is_down_events_are_taken_and_snapshots_go_on(
    fragile: Service, down: DownStore
) -> None:
    down.down = True
    assert await fragile.report([ended(1)]) == 1
    snapshot = (await fragile.stub.GetSnapshot(pb.GetSnapshotRequest(), timeout=5)).snapshot
    assert snapshot.models[0].ended_count == 1
    down.down = False
    await fragile.writer.flush()
    assert await fragile.listed() == ["r1"]


async def test_while_the_database_is_down_queries_fail_and_say_when_to_come_back(
    fragile: Service, down: DownStore
) -> None:
    down.down = True
    for call in (fragile.history(model="m"), fragile.listed()):
        error = await failure(call)
        assert isinstance(error, Unavailable)
        assert (error.code, error.retry_after_us) == ("DATABASE_UNAVAILABLE", S)


async def test_a_full_buffer_refuses_events_and_what_is_sent_again_counts_once(
    fragile: Service, down: DownStore
) -> None:
    down.down = True
    await fragile.report([ended(number) for number in range(BUFFER - 1)])
    last = [ended(number) for number in range(BUFFER - 1, BUFFER + 3)]
    error = await failure(fragile.report(last))
    assert isinstance(error, Unavailable)
    assert (error.code, error.retry_after_us) == ("EVENT_BUFFER_FULL", S)
    down.down = False
    await fragile.writer.flush()
    assert await fragile.report(last) == len(last)
    assert len(await fragile.listed()) == BUFFER + 3
    counted = {"model": "m", "status": "ok", "slo_class": "interactive_normal"}
    assert fragile.registry.get_sample_value("forebay_requests_total", counted) == BUFFER + 3
