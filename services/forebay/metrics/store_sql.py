"""Keeps events in SQLite or PostgreSQL."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    delete,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite

from forebay import sql
from forebay.core.metrics import Event, InstanceChange, QueueSample, RequestRecord, RequestStatus
from forebay.core.values import LengthQuantiles, SloClass, WorkloadPoint
from forebay.metrics.store import RequestKey, Series, filled

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "metrics_version"
PRUNE_COUNT_MAX = 10_000
"""Rows that one transaction deletes: a long one would hold up those who write."""

METADATA = MetaData()


def _table(name: str, *columns: Column[Any] | Index) -> Table:
    key = Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    event_id = Column("event_id", String(128), nullable=False, unique=True)
    return Table(name, METADATA, key, event_id, *columns)


def _text(name: str, length: int) -> Column[str]:
    return Column(name, String(length), nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


REQUESTS = _table(
    "metrics_requests",
    _text("request_id", 128),
    _text("model", 200),
    _number("arrival_us"),
    Column("status", SmallInteger, nullable=False),
    Column("slo_class", SmallInteger, nullable=False),
    _text("tenant", 128),
    _text("application", 128),
    _text("region", 64),
    _text("instance_id", 200),
    _text("decision_id", 128),
    _number("prompt_tokens"),
    _number("response_tokens"),
    Column("p10_tokens", BigInteger),
    Column("p50_tokens", BigInteger),
    Column("p90_tokens", BigInteger),
    Column("p97_tokens", BigInteger),
    _text("predicted_by", 128),
    _number("held_us"),
    Column("ttft_us", BigInteger),
    _number("end_to_end_us"),
    _text("error_reason", 128),
    _number("attempt_count"),
    Column("censored", Boolean, nullable=False),
    Index("metrics_requests_by_time", "arrival_us", "id"),
    Index(
        "metrics_requests_by_model", "model", "arrival_us", "region", "slo_class", "prompt_tokens", "response_tokens"
    ),
)
QUEUE_SAMPLES = _table(
    "metrics_queue_samples",
    _text("model", 200),
    _number("sample_us"),
    _number("held_count"),
    _number("in_flight_count"),
    _text("scheduler_id", 128),
    Index("metrics_queue_samples_by_time", "sample_us"),
)
INSTANCE_CHANGES = _table(
    "metrics_instance_changes",
    _text("instance_id", 200),
    _text("model", 200),
    _text("server_id", 200),
    _text("region", 64),
    _text("profile", 200),
    Column("state", SmallInteger, nullable=False),
    _number("state_us"),
    _text("state_reason", 1024),
    Index("metrics_instance_changes_by_time", "state_us"),
)
_TIMES = {
    REQUESTS: REQUESTS.c.arrival_us,
    QUEUE_SAMPLES: QUEUE_SAMPLES.c.sample_us,
    INSTANCE_CHANGES: INSTANCE_CHANGES.c.state_us,
}
_INSERTS: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class SqlStore:
    """The `Store` in a database whose tables are migrated when it is opened. Raises ConfigError where that fails."""

    def __init__(self, engine: Engine) -> None:
        sql.migrate(engine, MIGRATIONS, VERSION_TABLE)
        self._engine = engine
        self._insert = _INSERTS[engine.dialect.name]

    def append(self, events: Sequence[Event]) -> int:
        """See `Store`."""
        rows: dict[Table, list[dict[str, Any]]] = {}
        for event in events:
            table, row = _row(event)
            rows.setdefault(table, []).append(row)
        with sql.writing(self._engine) as connection:
            return sum(self._append(connection, table, some) for table, some in rows.items())

    def _append(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
        statement = self._insert(table).on_conflict_do_nothing(index_elements=["event_id"])
        return int(connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount)

    def first_arrival_us(self, series: Series) -> int | None:
        """See `Store`."""
        with sql.reading(self._engine) as connection:
            return connection.execute(select(func.min(REQUESTS.c.arrival_us)).where(*_in(series))).scalar()

    def workload(self, series: Series, window_us: int, start_us: int, end_us: int) -> list[WorkloadPoint]:
        """See `Store`."""
        columns = REQUESTS.c
        start = (columns.arrival_us - columns.arrival_us % window_us).label("start_us")
        sums = (func.count(), func.sum(columns.prompt_tokens), func.sum(columns.response_tokens))
        span = (columns.arrival_us >= start_us, columns.arrival_us < end_us)
        with sql.reading(self._engine) as connection:
            rows = connection.execute(select(start, *sums).where(*_in(series), *span).group_by(start)).all()
        return filled((WorkloadPoint(*map(int, row)) for row in rows), window_us, start_us, end_us)

    def requests(
        self, model: str, start_us: int, before: RequestKey | None, count_max: int
    ) -> list[tuple[RequestKey, RequestRecord]]:
        """See `Store`."""
        columns = REQUESTS.c
        query = select(REQUESTS).where(columns.arrival_us >= start_us)
        if model:
            query = query.where(columns.model == model)
        if before is not None:
            query = query.where(tuple_(columns.arrival_us, columns.id) < before)
        query = query.order_by(columns.arrival_us.desc(), columns.id.desc()).limit(count_max)
        with sql.reading(self._engine) as connection:
            return [((row["arrival_us"], row["id"]), _record(row)) for row in connection.execute(query).mappings()]

    def prune(self, before_us: int) -> int:
        """See `Store`."""
        return sum(self._prune(table, time < before_us) for table, time in _TIMES.items())

    def _prune(self, table: Table, old: ColumnElement[bool]) -> int:
        some = select(table.c.id).where(old).limit(PRUNE_COUNT_MAX).scalar_subquery()
        gone_count = 0
        while True:
            with sql.writing(self._engine) as connection:
                last_count = connection.execute(delete(table).where(table.c.id.in_(some))).rowcount
            gone_count += last_count
            if last_count < PRUNE_COUNT_MAX:
                return gone_count


def _in(series: Series) -> list[ColumnElement[bool]]:
    conditions = [REQUESTS.c.model == series.model]
    if series.region:
        conditions.append(REQUESTS.c.region == series.region)
    if series.slo_class is not None:
        conditions.append(REQUESTS.c.slo_class == int(series.slo_class))
    return conditions


def _row(event: Event) -> tuple[Table, dict[str, Any]]:
    kind = event.kind
    if isinstance(kind, RequestRecord):
        return REQUESTS, _request_row(event.event_id, kind)
    if isinstance(kind, QueueSample):
        return QUEUE_SAMPLES, _plain_row(event.event_id, kind, QUEUE_SAMPLES)
    assert isinstance(kind, InstanceChange)
    return INSTANCE_CHANGES, _plain_row(event.event_id, kind.instance, INSTANCE_CHANGES)


def _plain_row(event_id: str, value: object, table: Table) -> dict[str, Any]:
    names = (column.name for column in table.c if column.name not in ("id", "event_id"))
    return {"event_id": event_id, **{name: getattr(value, name) for name in names}}


_PREDICTED = {"p10_tokens": "p10", "p50_tokens": "p50", "p90_tokens": "p90", "p97_tokens": "p97"}
_SAME = [column.name for column in REQUESTS.c if column.name not in ("id", "event_id", *_PREDICTED)]


def _request_row(event_id: str, record: RequestRecord) -> dict[str, Any]:
    row = {"event_id": event_id, **{name: getattr(record, name) for name in _SAME}}
    length = record.predicted_length
    return {**row, **{column: getattr(length, name, None) for column, name in _PREDICTED.items()}}


def _record(row: Any) -> RequestRecord:
    values = {name: row[name] for name in _SAME}
    values["status"] = RequestStatus(values["status"])
    values["slo_class"] = SloClass(values["slo_class"])
    known = row["p50_tokens"] is not None
    predicted = LengthQuantiles(*(row[column] for column in _PREDICTED)) if known else None
    return RequestRecord(predicted_length=predicted, **values)
