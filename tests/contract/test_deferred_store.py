"""What every store of deferred work promises: memory, SQLite and PostgreSQL alike."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from forebay import sql
from forebay.core.errors import InvalidArgument
from forebay.gateway.deferred import store_sql, store_tables
from forebay.gateway.deferred.store import STALE_US, Store
from forebay.gateway.deferred.store_memory import MemoryStore
from forebay.gateway.deferred.store_sql import SqlStore
from forebay.gateway.deferred.values import (
    STATES_OF,
    File,
    FileKind,
    Job,
    JobStatus,
    Line,
    NewRequest,
    RequestState,
)
from tests.integration.postgres import Postgres, postgres

__all__ = ["postgres"]

NOW = 1_800_000_000_000_000
S = 1_000_000
HOUR = 3_600 * S
INPUTS = (FileKind.INPUT,)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    url = (
        f"sqlite:///{tmp_path}/store.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres").new_database()
    )
    engine = sql.open_engine(url)
    yield SqlStore(engine)
    engine.dispose()


def a_file(name: str = "file-1", tenant: str = "t", created_us: int = NOW) -> File:
    return File(name, tenant, FileKind.INPUT, "in.jsonl", 0, created_us, created_us + HOUR)


def a_job(name: str = "batch_1", tenant: str = "t", deadline_us: int = NOW + HOUR) -> Job:
    return Job(name, tenant, "/v1/completions", "", "file-1", 3_600, NOW, deadline_us, "app", metadata={"a": "ä"})


def requests(count: int) -> list[NewRequest]:
    return [NewRequest(n, f"r{n}", "m", f'{{"n": {n}}}', 10, 20) for n in range(1, count + 1)]


def kept(store: Store, count: int = 5, name: str = "batch_1", **values: int) -> Job:
    return store.keep_job(a_job(name, **values), requests(count), "", NOW)  # type: ignore[arg-type]


def line(number: int, state: RequestState = RequestState.ANSWERED, text: str = "", job: str = "batch_1") -> Line:
    return Line(job, number, state, text or f'{{"line": {number}}}')


def claim(store: Store, owner: str, limit: int = 10, now_us: int = NOW, job: str = "batch_1") -> list[int]:
    return [work.number for work in store.claim(job, owner, limit, now_us, now_us + 60 * S)]


# Files


def test_a_file_comes_back_in_its_pieces(store: Store) -> None:
    file = store.keep_file(a_file(), [b"one\n", b"\x00\xff", b"three"])
    assert (file.byte_count, file.sequence > 0) == (11, True)
    assert store.file("t", "file-1") == file
    assert [store.piece("file-1", number) for number in range(4)] == [b"one\n", b"\x00\xff", b"three", None]


def test_nobody_sees_another_tenant_s_files_and_jobs(store: Store) -> None:
    store.keep_file(a_file(), [b"x"])
    kept(store)
    assert store.file("other", "file-1") is None
    assert store.files("other", INPUTS, 0, 10, ascending=False) == []
    assert not store.delete_file("other", "file-1")
    assert store.job("other", "batch_1") is None
    assert store.jobs("other", 0, 10) == []
    assert store.cancel("other", "batch_1", NOW) is None
    assert store.open_jobs(NOW)[0][0].status is JobStatus.IN_PROGRESS


def test_a_file_whose_pieces_break_off_leaves_nothing(store: Store) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise InvalidArgument("broken off")

    with pytest.raises(InvalidArgument, match="broken off"):
        store.keep_file(a_file(), pieces())
    assert store.file("t", "file-1") is None
    assert store.piece("file-1", 0) is None


def test_files_are_listed_in_both_orders_and_by_pages(store: Store) -> None:
    for number in range(5):
        store.keep_file(a_file(f"file-{number}"), [b"x"])
    newest = store.files("t", INPUTS, 0, 3, ascending=False)
    assert [one.file_id for one in newest] == ["file-4", "file-3", "file-2"]
    rest = store.files("t", INPUTS, newest[-1].sequence, 3, ascending=False)
    assert [one.file_id for one in rest] == ["file-1", "file-0"]
    oldest = store.files("t", INPUTS, newest[-1].sequence, 3, ascending=True)
    assert [one.file_id for one in oldest] == ["file-3", "file-4"]
    assert store.files("t", (FileKind.OUTPUT,), 0, 3, ascending=True) == []


def test_a_deleted_file_is_gone_with_its_pieces(store: Store) -> None:
    store.keep_file(a_file(), [b"x"])
    assert store.delete_file("t", "file-1")
    assert not store.delete_file("t", "file-1")
    assert store.piece("file-1", 0) is None


# Jobs


def test_a_job_starts_once_its_requests_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sql, "SLICE_COUNT", 2)
    job = kept(store, 5)
    assert (job.status, job.started_us, job.model) == (JobStatus.IN_PROGRESS, NOW, "m")
    assert (job.total_count, job.prompt_tokens, job.tokens_max, job.remaining_count) == (5, 50, 100, 5)
    assert (job.metadata, job.application, job.window_s) == ({"a": "ä"}, "app", 3_600)
    assert store.job("t", "batch_1") == job
    assert store.open_jobs(NOW) == ([job], 0)


def test_a_job_whose_requests_are_refused_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sql, "SLICE_COUNT", 2)

    def some() -> Iterator[NewRequest]:
        yield from requests(3)
        raise InvalidArgument("line 4")

    with pytest.raises(InvalidArgument, match="line 4"):
        store.keep_job(a_job(), some(), "key", NOW)
    assert store.job("t", "batch_1") is None
    assert store.open_jobs(NOW) == ([], 0)
    assert store.keep_job(a_job(), requests(1), "key", NOW).total_count == 1


def test_a_key_makes_one_job_for_each_tenant(store: Store) -> None:
    first = store.keep_job(a_job("batch_1"), requests(2), "key", NOW)
    again = store.keep_job(a_job("batch_2"), requests(2), "key", NOW)
    assert again == first
    assert store.job("t", "batch_2") is None
    assert store.job_of("t", "key") == first
    assert (store.job_of("u", "key"), store.job_of("t", "")) == (None, None)
    assert store.pending("batch_2", 10) == []
    assert store.keep_job(a_job("batch_3", tenant="u"), requests(2), "key", NOW).job_id == "batch_3"
    assert kept(store, name="batch_4").job_id == "batch_4"
    assert kept(store, name="batch_5").job_id == "batch_5"


def test_jobs_are_listed_newest_first_and_by_pages(store: Store) -> None:
    for number in range(5):
        kept(store, 1, f"batch_{number}")
    newest = store.jobs("t", 0, 3)
    assert [one.job_id for one in newest] == ["batch_4", "batch_3", "batch_2"]
    assert [one.job_id for one in store.jobs("t", newest[-1].sequence, 3)] == ["batch_1", "batch_0"]


def test_open_jobs_come_by_deadline(store: Store) -> None:
    kept(store, 1, "batch_1", deadline_us=NOW + 3)
    kept(store, 1, "batch_2", deadline_us=NOW + 1)
    kept(store, 1, "batch_3", deadline_us=NOW + 2)
    assert [one.job_id for one in store.open_jobs(NOW)[0]] == ["batch_2", "batch_3", "batch_1"]


# Claims


def test_a_request_is_claimed_by_one_until_the_claim_runs_out(store: Store) -> None:
    kept(store, 5)
    assert claim(store, "a", 2) == [1, 2]
    assert claim(store, "b", 2) == [3, 4]
    assert claim(store, "a", 9) == [5]
    assert claim(store, "b", 9) == []
    assert store.open_jobs(NOW)[1] == 2
    assert claim(store, "b", 9, NOW + 60 * S - 1) == []
    later = store.claim("batch_1", "b", 9, NOW + 60 * S, NOW + 120 * S)
    assert [work.number for work in later] == [1, 2, 3, 4, 5]
    assert [work.claim_count for work in later] == [2, 2, 2, 2, 2]
    assert (later[0].custom_id, later[0].body) == ("r1", '{"n": 1}')
    assert store.open_jobs(NOW + 60 * S)[1] == 1


def test_a_renewed_claim_lasts_and_a_lost_one_is_told(store: Store) -> None:
    kept(store, 3)
    claim(store, "a", 3)
    assert store.renew("a", [("batch_1", 1), ("batch_1", 2)], NOW + 300 * S) == {("batch_1", 1), ("batch_1", 2)}
    assert claim(store, "b", 9, NOW + 100 * S) == [3]
    store.record([line(1)])
    keys = [("batch_1", 1), ("batch_1", 2), ("batch_1", 3), ("batch_9", 1)]
    assert store.renew("a", keys, NOW + 300 * S) == {("batch_1", 2)}


def test_released_requests_are_free_at_once(store: Store) -> None:
    kept(store, 4)
    claim(store, "a", 2)
    claim(store, "b", 1)
    store.record([line(1)])
    assert store.release("a") == 1
    assert store.release("a") == 0
    assert claim(store, "c", 9) == [2, 4]


def test_claims_of_many_gateways_at_once_never_overlap(store: Store) -> None:
    kept(store, 200)
    found: dict[str, list[int]] = {}

    def work(owner: str) -> None:
        found[owner] = [number for _ in range(10) for number in claim(store, owner, 5)]

    threads = [threading.Thread(target=work, args=(f"g{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [number for numbers in found.values() for number in numbers]
    assert len(found) == 4
    assert len(taken) == len(set(taken))
    assert sorted(taken + claim(store, "rest", 200)) == list(range(1, 201))


# Results


def test_the_first_line_of_a_request_stands(store: Store) -> None:
    kept(store, 3)
    assert store.record([line(2), line(1, RequestState.FAILED, "first")]) == {("batch_1", 1), ("batch_1", 2)}
    assert store.record([line(1, text="second"), line(3), line(9)]) == {("batch_1", 3)}
    job = store.job("t", "batch_1")
    assert job is not None
    assert (job.completed_count, job.failed_count, job.remaining_count) == (2, 1, 0)
    every = [state for state in RequestState if state is not RequestState.PENDING]
    assert [one.text for one in store.lines("batch_1", every, 0, 10)] == ["first", '{"line": 2}', '{"line": 3}']
    assert [one.number for one in store.lines("batch_1", every, 1, 1)] == [2]
    assert store.lines("batch_1", STATES_OF[FileKind.ERRORS], 0, 10) == [line(1, RequestState.FAILED, "first")]
    assert store.line("batch_1", "r3") == line(3)
    assert store.line("batch_1", "r9") is None
    assert claim(store, "a") == []


def test_lines_written_by_many_at_once_count_once(store: Store) -> None:
    kept(store, 60)
    new: list[int] = []

    def write(offset: int) -> None:
        for start in range(0, 60, 6):
            lines = [line(1 + (start + offset + n) % 60) for n in range(6)]
            new.append(len(store.record(lines)))

    threads = [threading.Thread(target=write, args=(offset,)) for offset in (0, 3, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    job = store.job("t", "batch_1")
    assert job is not None
    assert (sum(new), job.completed_count) == (60, 60)


def test_a_job_ends_with_files_of_its_answers_and_its_errors(store: Store) -> None:
    kept(store, 3)
    assert store.finalize("batch_1", NOW) is JobStatus.IN_PROGRESS
    store.record([line(1), line(2, RequestState.FAILED), line(3)])
    assert store.close_job("batch_1", NOW, NOW + HOUR) == store.job("t", "batch_1")
    assert store.finalize("batch_1", NOW + 1) is JobStatus.FINALIZING
    assert store.finalize("batch_1", NOW + 2) is JobStatus.FINALIZING
    job = store.close_job("batch_1", NOW + 3, NOW + HOUR)
    assert job is not None
    assert (job.status, job.finalizing_us, job.ended_us) == (JobStatus.COMPLETED, NOW + 1, NOW + 3)
    output, errors = store.file("t", job.output_file_id), store.file("t", job.error_file_id)
    assert output is not None
    assert errors is not None
    assert (output.kind, output.byte_count, output.job_id) == (FileKind.OUTPUT, 2 * len('{"line": 1}\n'), "batch_1")
    assert (errors.kind, errors.byte_count) == (FileKind.ERRORS, len('{"line": 1}\n'))
    assert store.close_job("batch_1", NOW + 9, NOW + HOUR) == job
    assert store.open_jobs(NOW) == ([], 0)
    assert store.finalize("batch_1", NOW) is JobStatus.COMPLETED
    assert store.cancel("t", "batch_1", NOW) == job
    assert store.finalize("batch_9", NOW) is None


def test_a_job_past_its_deadline_expires_when_the_rest_has_lines(store: Store) -> None:
    kept(store, 3)
    store.record([line(1)])
    assert store.finalize("batch_1", NOW + HOUR) is JobStatus.FINALIZING
    assert claim(store, "a") == []
    assert store.pending("batch_1", 1) == [(2, "r2")]
    assert store.close_job("batch_1", NOW + HOUR, NOW + 2 * HOUR) is None
    store.record([line(2, RequestState.EXPIRED), line(3, RequestState.EXPIRED)])
    job = store.close_job("batch_1", NOW + HOUR, NOW + 2 * HOUR)
    assert job is not None
    assert (job.status, job.completed_count, job.failed_count) == (JobStatus.EXPIRED, 1, 2)


def test_a_cancelled_job_hands_out_no_work_and_ends_as_cancelled(store: Store) -> None:
    kept(store, 2)
    cancelled = store.cancel("t", "batch_1", NOW + 1)
    assert cancelled is not None
    assert (cancelled.status, cancelled.cancelling_us) == (JobStatus.CANCELLING, NOW + 1)
    assert store.cancel("t", "batch_1", NOW + 2) == cancelled
    assert claim(store, "a") == []
    assert store.finalize("batch_1", NOW) is JobStatus.CANCELLING
    store.record([line(1, RequestState.CANCELLED), line(2, RequestState.CANCELLED)])
    job = store.close_job("batch_1", NOW + 3, NOW + HOUR)
    assert job is not None
    assert (job.status, job.output_file_id) == (JobStatus.CANCELLED, "")
    assert store.file("t", job.error_file_id) is not None


def test_deleting_results_deletes_the_lines(store: Store) -> None:
    kept(store, 2)
    store.record([line(1), line(2, RequestState.FAILED)])
    store.finalize("batch_1", NOW)
    job = store.close_job("batch_1", NOW, NOW + HOUR)
    assert job is not None
    assert store.delete_file("t", job.output_file_id)
    assert store.lines("batch_1", STATES_OF[FileKind.OUTPUT], 0, 10) == []
    assert store.line("batch_1", "r1") is None
    assert len(store.lines("batch_1", STATES_OF[FileKind.ERRORS], 0, 10)) == 1
    assert store.claim("batch_1", "a", 9, NOW, NOW + 1) == []


def test_what_is_too_old_is_purged_and_nothing_else(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sql, "SLICE_COUNT", 2)
    store.keep_file(a_file("file-old", created_us=NOW - 2 * HOUR), [b"x"])
    store.keep_file(a_file("file-new"), [b"x"])
    for name in ("batch_old", "batch_new", "batch_open"):
        kept(store, 5, name)
    for name, at_us in (("batch_old", NOW - 1), ("batch_new", NOW)):
        store.record([line(n, job=name) for n in range(1, 6)])
        store.finalize(name, at_us)
        store.close_job(name, at_us, NOW + HOUR)
    assert store.purge(NOW, NOW) == 2
    assert store.purge(NOW, NOW) == 0
    assert [one.file_id for one in store.files("t", INPUTS, 0, 9, ascending=True)] == ["file-new"]
    assert {one.job_id for one in store.jobs("t", 0, 9)} == {"batch_new", "batch_open"}
    assert store.lines("batch_old", [RequestState.ANSWERED], 0, 9) == []


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


def test_what_a_dead_gateway_left_half_written_is_hidden_and_purged(url: str) -> None:
    class Dies(BaseException):
        pass

    class Dead(SqlStore):
        def _forget(self, drop: object) -> None:
            """A process that is killed undoes nothing."""

    def broken() -> Iterator[NewRequest]:
        yield from requests(3)
        raise Dies

    engine = sql.open_engine(url)
    store = Dead(engine)
    with pytest.raises(Dies):
        store.keep_job(a_job(), broken(), "key", NOW)
    with pytest.raises(Dies):
        store.keep_file(a_file(), (_ for _ in broken() if False))  # type: ignore[misc]
    assert store.jobs("t", 0, 9) == []
    assert store.open_jobs(NOW) == ([], 0)
    assert store.file("t", "file-1") is None
    assert store.purge(NOW + STALE_US - 1, NOW) == 0
    assert store.purge(NOW + STALE_US + 1, NOW) == 2
    assert store.pending("batch_1", 9) == []
    engine.dispose()


def test_what_is_kept_outlives_the_process(url: str) -> None:
    first = sql.open_engine(url)
    job = SqlStore(first).keep_job(a_job(), requests(3), "", NOW)
    first.dispose()
    second = sql.open_engine(url)
    store = SqlStore(second)
    assert store.job("t", "batch_1") == job
    assert claim(store, "a") == [1, 2, 3]
    second.dispose()


def test_the_migrations_make_the_tables_that_the_code_uses(url: str) -> None:
    engine = sql.open_engine(url)
    SqlStore(engine)
    names = set(store_tables.METADATA.tables)
    with engine.connect() as connection:
        settings = {"include_name": lambda name, kind, _: kind != "table" or name in names}
        assert compare_metadata(MigrationContext.configure(connection, opts=settings), store_tables.METADATA) == []
    engine.dispose()


def test_errors_of_the_database_never_hold_a_prompt(url: str) -> None:
    engine = sql.open_engine(url)
    store = SqlStore(engine)
    twice = [NewRequest(1, "same", "m", "SECRET PROMPT"), NewRequest(2, "same", "m", "SECRET PROMPT")]
    with pytest.raises(Exception) as caught:
        store.keep_job(a_job(), twice, "", NOW)
    assert "SECRET" not in str(caught.value)
    engine.dispose()
