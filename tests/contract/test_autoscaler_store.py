"""What every store of the autoscaler promises: memory, SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from forebay import sql
from forebay.autoscaler import store_sql
from forebay.autoscaler.store import MemoryStore, Store
from forebay.autoscaler.store_sql import SqlStore
from forebay.core.errors import NotLeader
from forebay.core.fleet import Bounds, FleetSettings, FleetState, Member, Origin, ScalingDecision, StartTime, Term
from forebay.core.values import Batching, Instance, InstanceRole, InstanceState
from tests.integration.postgres import postgres

__all__ = ["postgres"]

NOW = 1_800_000_000_000_000
KEPT = 5


def url_of(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return str(request.getfixturevalue("postgres").new_database())


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(KEPT)
        return
    engine = sql.open_engine(url_of(request, tmp_path))
    yield SqlStore(engine, KEPT)
    engine.dispose()


def member(number: int, state: InstanceState = InstanceState.READY) -> Member:
    instance = Instance(
        instance_id=f"local-{number}/m",
        model="m",
        grpc_address=f"127.0.0.1:{7000 + number}",
        server_id=f"local-{number}",
        metrics_url="http://127.0.0.1:1/metrics",
        state=state,
        region="eu",
        profile="A100-80G/Llama-3-8B/tp1",
        concurrency_max=64,
        kv_tokens_max=400_000,
        context_tokens_max=8_192,
        state_us=NOW + number,
        state_reason="the model takes requests",
        role=InstanceRole.BATCH,
        batching=Batching.STATIC,
        openai_address="127.0.0.1:8000",
    )
    return Member(instance, Origin.REGISTERED, ttl_us=10_000_000, was_ready=True)


def decision(number: int) -> ScalingDecision:
    return ScalingDecision(
        decision_id=f"scale-{NOW + number // 2}-{number}",
        model="m",
        decided_us=NOW + number // 2,
        instances_before=1,
        instances_wanted=3,
        instances_after=2,
        policy="kpa",
        mode="active",
        reason="it is busy",
        inputs={"stable_mean": 12.5, "panicking": 1.0},
    )


STARTS = {"m": (StartTime(NOW, 45_000_000, 30_000_000), StartTime(NOW + 9, 50_000_000))}
SETTINGS = FleetSettings({"m": Bounds("m", 0, 7)}, {"m": 3, "n": 1}, "advisory", 17, 99, STARTS)


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.load() == FleetState()


def test_what_was_kept_comes_back_as_it_was(store: Store) -> None:
    state = FleetState(SETTINGS, (member(1), member(2)), (decision(1), decision(2)))
    store.save(state, 0)
    found = store.load()
    assert found.settings == state.settings
    assert sorted(found.members, key=lambda one: one.instance.instance_id) == list(state.members)
    assert found.decisions == state.decisions


def test_saving_the_same_again_changes_nothing(store: Store) -> None:
    state = FleetState(SETTINGS, (member(1),), (decision(1),))
    store.save(state, 0)
    store.save(state, 0)
    assert store.load() == state


def test_a_change_touches_only_what_it_names(store: Store) -> None:
    store.save(FleetState(SETTINGS, (member(1), member(2)), (decision(1),)), 0)
    moved = replace(member(2), instance=replace(member(2).instance, state=InstanceState.DRAINING))
    later = replace(SETTINGS, revision=100, wanted={"m": 1, "n": 1})
    store.save(FleetState(later, (moved,)), 0)
    found = store.load()
    assert {one.instance.instance_id: one.instance.state.name for one in found.members} == {
        "local-1/m": "READY",
        "local-2/m": "DRAINING",
    }
    assert found.settings == later
    assert found.decisions == (decision(1),)


def test_a_stopped_member_is_forgotten(store: Store) -> None:
    store.save(FleetState(SETTINGS, (member(1), member(2))), 0)
    store.save(FleetState(SETTINGS, (member(1, InstanceState.STOPPED),)), 0)
    assert [one.instance.instance_id for one in store.load().members] == ["local-2/m"]


def test_only_the_newest_decisions_are_kept_oldest_first(store: Store) -> None:
    for number in range(0, 20, 2):
        store.save(FleetState(SETTINGS, (), (decision(number), decision(number + 1))), 0)
    found = store.load().decisions
    assert 0 < len(found) <= KEPT
    assert list(found) == [decision(number) for number in range(20 - len(found), 20)]


# PostgreSQL goes by its own clock, so these tests know only spans that are long or over at once.
HOUR_US = 3_600_000_000


def wish(holder: str, token: int = 0, address: str = "") -> Term:
    return Term(holder, address or f"{holder}:7103", token)


def test_the_first_to_claim_leads_and_others_learn_who_does(store: Store) -> None:
    first = store.claim(wish("a"), HOUR_US, NOW)
    assert (first.holder, first.address, first.token) == ("a", "a:7103", 1)
    assert store.claim(wish("b"), HOUR_US, NOW + 1) == first


def test_a_term_is_renewed_by_its_token(store: Store) -> None:
    first = store.claim(wish("a"), HOUR_US, NOW)
    renewed = store.claim(wish("a", first.token), 2 * HOUR_US, NOW)
    assert renewed.token == first.token
    assert renewed.until_us > first.until_us


def test_a_term_that_ran_out_goes_to_the_next_with_a_greater_token(store: Store) -> None:
    first = store.claim(wish("a"), 1, NOW)
    second = store.claim(wish("b"), HOUR_US, NOW + 2)
    assert (second.holder, second.token) == ("b", first.token + 1)
    # The one that slept through it all learns that it does not lead.
    assert store.claim(wish("a", first.token), HOUR_US, NOW + 3) == second


def test_whoever_listens_at_the_address_of_the_one_before_need_not_wait(store: Store) -> None:
    first = store.claim(wish("a", address="x:1"), HOUR_US, NOW)
    second = store.claim(wish("b", address="x:1"), HOUR_US, NOW)
    assert (second.holder, second.token) == ("b", first.token + 1)


def test_a_term_that_is_ended_goes_to_the_next_at_once(store: Store) -> None:
    first = store.claim(wish("a"), HOUR_US, NOW)
    store.claim(wish("b", first.token + 1), 0, NOW)
    assert store.claim(wish("b"), HOUR_US, NOW) == first
    store.claim(wish("a", first.token), 0, NOW)
    assert store.claim(wish("b"), HOUR_US, NOW + 1).holder == "b"


def test_what_an_earlier_leader_writes_is_refused_as_a_whole(store: Store) -> None:
    first = store.claim(wish("a"), 1, NOW)
    store.save(FleetState(SETTINGS, (member(1),)), first.token)
    second = store.claim(wish("b"), HOUR_US, NOW + 2)
    with pytest.raises(NotLeader, match="b:7103"):
        store.save(FleetState(replace(SETTINGS, ordinal=99), (member(2),), (decision(1),)), first.token)
    found = store.load()
    assert [one.instance.instance_id for one in found.members] == ["local-1/m"]
    assert (found.settings.ordinal, found.decisions) == (17, ())
    store.save(FleetState(SETTINGS, (member(2),)), second.token)


@pytest.mark.parametrize("request_url", ["sqlite", "postgresql"])
def test_the_migrations_make_the_tables_that_the_code_uses(
    request_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = (
        f"sqlite:///{tmp_path}/tables.db"
        if request_url == "sqlite"
        else str(request.getfixturevalue("postgres").new_database())
    )
    engine = sql.open_engine(url)
    SqlStore(engine, KEPT)
    SqlStore(engine, KEPT)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": store_sql.VERSION_TABLE})
        assert compare_metadata(context, store_sql.METADATA) == []
    engine.dispose()
