"""What every store of the metrics service promises: memory, SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay import sql
from forebay.core.metrics import Event, InstanceChange, QueueSample, RequestRecord, RequestStatus
from forebay.core.values import Instance, InstanceState, LengthQuantiles, SloClass, WorkloadPoint
from forebay.metrics import store_sql
from forebay.metrics.store import MemoryStore, Series, Store
from forebay.metrics.store_sql import SqlStore
from tests.contract.stores import STORES, opened, postgres
from tests.integration.postgres import Postgres

__all__ = ["postgres"]

S = 1_000_000
MINUTE = 60 * S
NOON = 1_800_000_000 * S


def request(number: int, arrival_us: int = NOON, **changes: object) -> Event:
    values = {"prompt_tokens": 10, "response_tokens": 20, "region": "eu", **changes}
    record = RequestRecord(f"r{number}", str(values.pop("model", "m")), arrival_us, RequestStatus.OK, **values)  # type: ignore[arg-type]
    return Event(f"e{number}", record)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield from opened(request, tmp_path, MemoryStore, SqlStore)


def all_of(store: Store) -> list[RequestRecord]:
    return [record for _, record in store.requests("", 0, None, 1_000)]


def test_a_record_comes_back_as_it_was_kept(store: Store) -> None:
    full = RequestRecord(
        request_id="r",
        model="m",
        arrival_us=NOON + 1,
        status=RequestStatus.CANCELLED,
        slo_class=SloClass.DEFERRED,
        tenant="tenant",
        application="application",
        region="eu",
        instance_id="a/m",
        decision_id="d",
        prompt_tokens=2**32 - 1,
        response_tokens=7,
        predicted_length=LengthQuantiles(0, 0, 5, 9),
        predicted_by="histogram",
        held_us=3,
        ttft_us=0,
        end_to_end_us=2**40,
        error_reason="GONE",
        attempt_count=2,
        censored=True,
    )
    bare = RequestRecord("s", "m", NOON, RequestStatus.OK)
    assert store.append([Event("1", full), Event("2", bare)]) == 2
    assert all_of(store) == [full, bare]


def test_an_event_that_comes_twice_counts_once(store: Store) -> None:
    assert store.append([request(1), request(2), request(1)]) == 2
    assert store.append([request(2), request(3)]) == 1
    assert store.append([request(2), request(3)]) == 0
    assert len(all_of(store)) == 3


def test_all_kinds_of_event_are_taken_once(store: Store) -> None:
    instance = Instance("a/m", "m", "127.0.0.1:1", "a", state=InstanceState.READY, state_us=NOON, kv_tokens_max=2**63)
    events = [
        Event("q", QueueSample("m", NOON, 2**32 - 1, 4, "s")),
        Event("i", InstanceChange(instance)),
        request(1),
    ]
    assert store.append(events) == 3
    assert store.append(events) == 0
    assert len(all_of(store)) == 1


def test_no_events_are_no_work(store: Store) -> None:
    assert store.append([]) == 0
    assert all_of(store) == []


def test_workload_is_summed_by_windows_that_start_at_multiples(store: Store) -> None:
    start = NOON + 10 * S
    store.append([request(1, start), request(2, start + 49 * S), request(3, start + 50 * S)])
    assert NOON % MINUTE == 0
    assert store.workload(Series("m"), MINUTE, start, NOON + 2 * MINUTE) == [
        WorkloadPoint(NOON, 2, 20, 40),
        WorkloadPoint(NOON + MINUTE, 1, 10, 20),
    ]


def test_windows_without_traffic_are_zeros(store: Store) -> None:
    store.append([request(1, NOON + 3 * MINUTE)])
    points = store.workload(Series("m"), MINUTE, NOON, NOON + 5 * MINUTE)
    assert [point.start_us for point in points] == [NOON + i * MINUTE for i in range(5)]
    assert [point.request_count for point in points] == [0, 0, 0, 1, 0]
    assert store.workload(Series("other"), MINUTE, NOON, NOON + 1) == [WorkloadPoint(NOON, 0, 0, 0)]


def test_only_arrivals_inside_the_span_count(store: Store) -> None:
    store.append([request(i, NOON + i * S) for i in range(10)])
    (point,) = store.workload(Series("m"), MINUTE, NOON + 3 * S, NOON + 7 * S)
    assert point.request_count == 4
    assert store.workload(Series("m"), MINUTE, NOON, NOON) == []
    assert store.workload(Series("m"), MINUTE, NOON, NOON - MINUTE) == []


def test_a_series_is_a_model_and_if_wanted_a_region_and_a_class(store: Store) -> None:
    store.append(
        [
            request(1, region="eu", slo_class=SloClass.DEFERRED),
            request(2, region="us", slo_class=SloClass.DEFERRED),
            request(3, region="us", slo_class=SloClass.INTERACTIVE_FAST),
            request(4, model="other"),
        ]
    )

    def count(series: Series) -> int:
        return store.workload(series, MINUTE, NOON, NOON + MINUTE)[0].request_count

    assert count(Series("m")) == 3
    assert count(Series("m", "us")) == 2
    assert count(Series("m", "us", SloClass.DEFERRED)) == 1
    assert count(Series("m", "", SloClass.DEFERRED)) == 2
    assert count(Series("m", "asia")) == 0


def test_the_first_arrival_is_that_of_the_series(store: Store) -> None:
    assert store.first_arrival_us(Series("m")) is None
    store.append([request(1, NOON + 5), request(2, NOON + 3), request(3, NOON, model="other")])
    assert store.first_arrival_us(Series("m")) == NOON + 3
    assert store.first_arrival_us(Series("m", "us")) is None


def test_requests_come_newest_first_and_pages_continue_where_the_last_ended(store: Store) -> None:
    store.append([request(i, NOON + i // 3) for i in range(10)])
    first = store.requests("m", 0, None, 4)
    # A record that arrives between two pages does not shift the second.
    store.append([request(99, NOON + 99)])
    second = store.requests("m", 0, first[-1][0], 100)
    seen = [record.request_id for _, record in first + second]
    assert len(seen) == len(set(seen)) == 10
    arrivals = [record.arrival_us for _, record in first + second]
    assert arrivals == sorted(arrivals, reverse=True)


def test_requests_can_be_narrowed_by_model_and_time(store: Store) -> None:
    store.append([request(1, NOON), request(2, NOON + 1), request(3, NOON + 2, model="other")])
    assert [record.request_id for _, record in store.requests("m", NOON + 1, None, 9)] == ["r2"]
    assert [record.request_id for _, record in store.requests("", NOON + 1, None, 9)] == ["r3", "r2"]


def test_pruning_deletes_what_is_older_and_nothing_else(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sql, "PRUNE_COUNT_MAX", 2)
    old = Instance("a/m", "m", "127.0.0.1:1", "a", state_us=NOON - 1)
    store.append([request(i, NOON - 5 + i) for i in range(10)])
    store.append([Event("q1", QueueSample("m", NOON - 1)), Event("q2", QueueSample("m", NOON))])
    store.append([Event("i1", InstanceChange(old))])
    assert store.prune(NOON) == 7
    assert [record.arrival_us for record in all_of(store)] == [NOON + i for i in (4, 3, 2, 1, 0)]
    assert store.prune(NOON) == 0


events = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 600), st.integers(0, 2**32 - 1)), max_size=30)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=events, window_s=st.integers(1, 300), start_s=st.integers(0, 600), length_s=st.integers(0, 600))
def test_no_arrival_is_lost_or_counted_twice_by_any_window(
    store: Store, drawn: list[tuple[int, int, int]], window_s: int, start_s: int, length_s: int
) -> None:
    store.prune(NOON + 3600 * S)
    store.append([request(n, NOON + at * S, prompt_tokens=tokens) for n, at, tokens in drawn])
    kept = {n: (at, tokens) for n, at, tokens in reversed(drawn)}
    inside = [tokens for at, tokens in kept.values() if start_s <= at < start_s + length_s]
    points = store.workload(Series("m"), window_s * S, NOON + start_s * S, NOON + (start_s + length_s) * S)
    assert sum(point.request_count for point in points) == len(inside)
    assert sum(point.prompt_tokens for point in points) == sum(inside)
    assert all(point.start_us % (window_s * S) == 0 for point in points)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrations_make_the_tables_that_the_store_uses(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Postgres | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
    engine = sql.open_engine(server.new_database() if server else f"sqlite:///{tmp_path}/store.db")
    SqlStore(engine)
    SqlStore(engine)
    with sql.reading(engine) as connection:
        ours = {"version_table": store_sql.VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=ours), store_sql.METADATA) == []
    engine.dispose()
