"""Keeps the fleet in SQLite or PostgreSQL."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    delete,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from forebay import sql
from forebay.autoscaler.store import check, next_term, order
from forebay.core.fleet import (
    NUMBERED,
    Bounds,
    FleetSettings,
    FleetState,
    Member,
    Origin,
    ScalingDecision,
    StartTime,
    Term,
    instance_of,
)
from forebay.core.values import Instance, InstanceState

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "autoscaler_version"

METADATA = MetaData()


def _text(name: str, length: int) -> Column[str]:
    return Column(name, String(length), nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


MEMBERS = Table(
    "autoscaler_members",
    METADATA,
    Column("instance_id", String(200), primary_key=True),
    _text("model", 200),
    _text("grpc_address", 255),
    _text("server_id", 200),
    _text("metrics_url", 1024),
    Column("state", SmallInteger, nullable=False),
    _text("region", 64),
    _text("profile", 200),
    _number("concurrency_max"),
    _number("kv_tokens_max"),
    _number("context_tokens_max"),
    _number("state_us"),
    _text("state_reason", 1024),
    Column("role", SmallInteger, nullable=False),
    Column("batching", SmallInteger, nullable=False),
    _text("pool", 200),
    _text("openai_address", 255),
    Column("origin", SmallInteger, nullable=False),
    _number("ttl_us"),
    Column("was_ready", Boolean, nullable=False),
)
MODELS = Table(
    "autoscaler_models",
    METADATA,
    Column("model", String(200), primary_key=True),
    Column("instances_min", BigInteger),
    Column("instances_max", BigInteger),
    Column("instances_wanted", BigInteger),
    Column("starts", Text, nullable=False),
)
LEASE = Table(
    "autoscaler_lease",
    METADATA,
    Column("key", SmallInteger, primary_key=True, autoincrement=False),
    _text("holder", 200),
    _text("address", 255),
    _number("token"),
    _number("until_us"),
)
SETTINGS = Table("autoscaler_settings", METADATA, Column("key", String(64), primary_key=True), _text("value", 200))
DECISIONS = Table(
    "autoscaler_decisions",
    METADATA,
    Column("decision_id", String(128), primary_key=True),
    _text("model", 200),
    _number("decided_us"),
    _number("instances_before"),
    _number("instances_wanted"),
    _number("instances_after"),
    _text("policy", 128),
    _text("mode", 64),
    Column("reason", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    _text("pool", 200),
    Column("flip", Text, nullable=False),
    Index("autoscaler_decisions_by_time", "decided_us"),
)
_DATABASE_NOW_US = text("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint")
_INSERTS: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_INSTANCE_FIELDS = tuple(field.name for field in fields(Instance))


class SqlStore:
    """The `Store` in a database whose tables are migrated when it is opened. Raises ConfigError where that fails."""

    def __init__(self, engine: Engine, decision_count_max: int) -> None:
        sql.migrate(engine, MIGRATIONS, VERSION_TABLE)
        self._engine = engine
        self._decision_count_max = decision_count_max
        self._insert = _INSERTS[engine.dialect.name]

    def load(self) -> FleetState:
        """See `Store`."""
        newest = select(DECISIONS).order_by(DECISIONS.c.decided_us.desc()).limit(self._decision_count_max)
        with sql.reading(self._engine) as connection:
            members = [_member(dict(row)) for row in connection.execute(select(MEMBERS)).mappings()]
            decisions = [_decision(dict(row)) for row in connection.execute(newest).mappings()]
            settings = _settings(
                {row.key: row.value for row in connection.execute(select(SETTINGS))},
                connection.execute(select(MODELS)).mappings().all(),
            )
        return FleetState(settings, tuple(members), tuple(sorted(decisions, key=order)))

    def save(self, change: FleetState, token: int) -> None:
        """See `Store`."""
        living = [member for member in change.members if member.instance.state is not InstanceState.STOPPED]
        stopped = [one.instance.instance_id for one in change.members if one.instance.state is InstanceState.STOPPED]
        with sql.writing(self._engine) as connection:
            # The row stays locked until all is written: nobody can take over in between.
            check(self._term(connection), token)
            connection.execute(delete(MEMBERS).where(MEMBERS.c.instance_id.in_(stopped)))
            self._put(connection, MEMBERS, [_member_row(member) for member in living])
            self._put(connection, MODELS, _model_rows(change.settings))
            self._put(connection, SETTINGS, _setting_rows(change.settings))
            self._put(connection, DECISIONS, [_decision_row(decision) for decision in change.decisions])
            if change.decisions:
                self._prune(connection)

    def claim(self, wish: Term, ttl_us: int, now_us: int) -> Term:
        """See `Store`. PostgreSQL's own clock counts; a SQLite file has all its users on one machine."""
        with sql.writing(self._engine) as connection:
            before = self._term(connection)
            if connection.dialect.name == "postgresql":
                now_us = int(connection.execute(_DATABASE_NOW_US).scalar_one())
            term = next_term(before, wish, ttl_us, now_us)
            if term != before:
                self._put(connection, LEASE, [{"key": 1, **asdict(term)}])
        return term

    def _term(self, connection: Connection) -> Term:
        row = connection.execute(select(LEASE).with_for_update()).mappings().first()
        return Term(row["holder"], row["address"], row["token"], row["until_us"]) if row else Term()

    def _put(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        statement = self._insert(table)
        keys = [column.name for column in table.primary_key]
        values = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values), rows)

    def _prune(self, connection: Connection) -> None:
        times = select(DECISIONS.c.decided_us).order_by(DECISIONS.c.decided_us.desc())
        oldest = connection.execute(times.offset(self._decision_count_max).limit(1)).scalar()
        if oldest is not None:
            connection.execute(delete(DECISIONS).where(DECISIONS.c.decided_us <= oldest))


def _member_row(member: Member) -> dict[str, Any]:
    instance = {name: getattr(member.instance, name) for name in _INSTANCE_FIELDS}
    own = {"origin": int(member.origin), "ttl_us": member.ttl_us, "was_ready": member.was_ready}
    return {**instance, **{name: int(instance[name]) for name in NUMBERED}, **own}


def _member(row: Mapping[Any, Any]) -> Member:
    instance = instance_of({name: row[name] for name in _INSTANCE_FIELDS})
    return Member(instance, Origin(row["origin"]), row["ttl_us"], row["was_ready"])


def _decision_row(decision: ScalingDecision) -> dict[str, Any]:
    return {**asdict(decision), "inputs": json.dumps(dict(decision.inputs), sort_keys=True)}


def _decision(row: Mapping[Any, Any]) -> ScalingDecision:
    return ScalingDecision(**{**row, "inputs": json.loads(row["inputs"])})


def _model_rows(settings: FleetSettings) -> list[dict[str, Any]]:
    rows = []
    for model in sorted({*settings.bounds, *settings.wanted, *settings.starts}):
        bounds = settings.bounds.get(model)
        starts = [[one.at_us, one.took_us, one.provision_us] for one in settings.starts.get(model, ())]
        rows.append(
            {
                "model": model,
                "instances_min": bounds.instances_min if bounds else None,
                "instances_max": bounds.instances_max if bounds else None,
                "instances_wanted": settings.wanted.get(model),
                "starts": json.dumps(starts),
            }
        )
    return rows


def _setting_rows(settings: FleetSettings) -> list[dict[str, Any]]:
    values = {"mode": settings.mode, "ordinal": settings.ordinal, "revision": settings.revision}
    return [{"key": key, "value": str(value)} for key, value in values.items()]


def _settings(values: Mapping[str, str], rows: Sequence[Mapping[Any, Any]]) -> FleetSettings:
    return FleetSettings(
        bounds={
            row["model"]: Bounds(row["model"], row["instances_min"], row["instances_max"])
            for row in rows
            if row["instances_min"] is not None
        },
        wanted={row["model"]: row["instances_wanted"] for row in rows if row["instances_wanted"] is not None},
        mode=values.get("mode", ""),
        ordinal=int(values.get("ordinal", 0)),
        revision=int(values.get("revision", 0)),
        starts={row["model"]: found for row in rows if (found := _starts(row["starts"]))},
    )


def _starts(kept: str) -> tuple[StartTime, ...]:
    return tuple(StartTime(*times) for times in json.loads(kept))
