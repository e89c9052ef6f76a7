"""Keeps deferred work in SQLite or PostgreSQL."""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    case,
    delete,
    exc,
    func,
    insert,
    or_,
    select,
    update,
)

from forebay import sql
from forebay.core.errors import Unavailable
from forebay.gateway.deferred.store import STALE_US, final_status, result_file
from forebay.gateway.deferred.store_tables import (
    FILES,
    JOBS,
    PIECES,
    REQUESTS,
    file_row,
    job_row,
    request_row,
    to_file,
    to_job,
    to_line,
)
from forebay.gateway.deferred.values import (
    ENDING,
    OPEN,
    STATES_OF,
    File,
    FileKind,
    Job,
    JobStatus,
    Key,
    Line,
    NewRequest,
    RequestState,
    Work,
)

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "deferred_version"
SLICE_COUNT = 500
"""Rows that one transaction writes: a long one would hold up those who write too."""
_BREATH_S = 0.001

T = TypeVar("T")

_IS_PENDING = REQUESTS.c.state == int(RequestState.PENDING)


class SqlStore:
    """The `Store` in a database whose tables are migrated when it is opened. Raises ConfigError where that fails."""

    def __init__(self, engine: Engine) -> None:
        sql.migrate(engine, MIGRATIONS, VERSION_TABLE)
        self._engine = engine

    def keep_file(self, file: File, pieces: Iterable[bytes]) -> File:
        """See `Store`."""
        with sql.writing(self._engine) as connection:
            connection.execute(insert(FILES), {**file_row(file), "sealed": False})
        byte_count = 0
        try:
            for number, data in enumerate(pieces):
                byte_count += len(data)
                with sql.writing(self._engine) as connection:
                    connection.execute(insert(PIECES), {"file_id": file.file_id, "number": number, "data": data})
            with sql.writing(self._engine) as connection:
                this = FILES.c.file_id == file.file_id
                connection.execute(update(FILES).where(this).values(byte_count=byte_count, sealed=True))
                return to_file(connection.execute(select(FILES).where(this)).mappings().one())
        except BaseException:
            self._forget(lambda: self._drop_files([file.file_id]))
            raise

    def file(self, tenant: str, file_id: str) -> File | None:
        """See `Store`."""
        query = select(FILES).where(FILES.c.file_id == file_id, FILES.c.tenant == tenant, FILES.c.sealed)
        with sql.reading(self._engine) as connection:
            row = connection.execute(query).mappings().first()
        return to_file(row) if row else None

    def files(self, tenant: str, kinds: Collection[FileKind], after: int, limit: int, ascending: bool) -> list[File]:
        """See `Store`."""
        place = FILES.c.sequence
        query = select(FILES).where(FILES.c.tenant == tenant, FILES.c.kind.in_([int(one) for one in kinds]))
        if after:
            query = query.where(place > after if ascending else place < after)
        query = query.where(FILES.c.sealed).order_by(place if ascending else place.desc()).limit(limit)
        with sql.reading(self._engine) as connection:
            return [to_file(row) for row in connection.execute(query).mappings()]

    def piece(self, file_id: str, number: int) -> bytes | None:
        """See `Store`."""
        query = select(PIECES.c.data).where(PIECES.c.file_id == file_id, PIECES.c.number == number)
        with sql.reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def delete_file(self, tenant: str, file_id: str) -> bool:
        """See `Store`."""
        if self.file(tenant, file_id) is None:
            return False
        self._drop_files([file_id])
        return True

    def keep_job(self, job: Job, requests: Iterable[NewRequest], key: str, now_us: int) -> Job:
        """See `Store`."""
        with sql.writing(self._engine) as connection:
            connection.execute(insert(JOBS), job_row(job))
        try:
            model, total_count, prompt_tokens, tokens_max = job.model, 0, 0, 0
            for some in _slices(requests, SLICE_COUNT):
                model, total_count = some[0].model, total_count + len(some)
                prompt_tokens += sum(one.prompt_tokens for one in some)
                tokens_max += sum(one.tokens_max for one in some)
                with sql.writing(self._engine) as connection:
                    connection.execute(insert(REQUESTS), [request_row(job.job_id, one) for one in some])
            return self._start(
                job.job_id,
                status=int(JobStatus.IN_PROGRESS),
                started_us=now_us,
                model=model,
                total_count=total_count,
                prompt_tokens=prompt_tokens,
                tokens_max=tokens_max,
                key=key or None,
            )
        except exc.IntegrityError:
            self._forget(lambda: self._drop_jobs([job.job_id]))
            found = self.job_of(job.tenant, key)
            if found is None:
                raise
            return found
        except BaseException:
            self._forget(lambda: self._drop_jobs([job.job_id]))
            raise

    def _start(self, job_id: str, **values: Any) -> Job:
        with sql.writing(self._engine) as connection:
            connection.execute(update(JOBS).where(JOBS.c.job_id == job_id).values(**values))
            return _one(connection, job_id)

    def job(self, tenant: str, job_id: str) -> Job | None:
        """See `Store`."""
        with sql.reading(self._engine) as connection:
            query = select(JOBS).where(JOBS.c.job_id == job_id, JOBS.c.tenant == tenant)
            row = connection.execute(query).mappings().first()
        return to_job(row) if row else None

    def job_of(self, tenant: str, key: str) -> Job | None:
        """See `Store`."""
        with sql.reading(self._engine) as connection:
            row = connection.execute(select(JOBS).where(JOBS.c.tenant == tenant, JOBS.c.key == key)).mappings().first()
        return to_job(row) if row else None

    def jobs(self, tenant: str, after: int, limit: int) -> list[Job]:
        """See `Store`."""
        query = select(JOBS).where(JOBS.c.tenant == tenant, JOBS.c.status != int(JobStatus.VALIDATING))
        if after:
            query = query.where(JOBS.c.sequence < after)
        with sql.reading(self._engine) as connection:
            rows = connection.execute(query.order_by(JOBS.c.sequence.desc()).limit(limit)).mappings()
            return [to_job(row) for row in rows]

    def cancel(self, tenant: str, job_id: str, now_us: int) -> Job | None:
        """See `Store`."""
        this = (JOBS.c.job_id == job_id, JOBS.c.tenant == tenant)
        running = JOBS.c.status == int(JobStatus.IN_PROGRESS)
        with sql.writing(self._engine) as connection:
            values = {"status": int(JobStatus.CANCELLING), "cancelling_us": now_us}
            connection.execute(update(JOBS).where(*this, running).values(**values))
            row = connection.execute(select(JOBS).where(*this)).mappings().first()
        return to_job(row) if row else None

    def open_jobs(self, now_us: int) -> tuple[list[Job], int]:
        """See `Store`."""
        query = select(JOBS).where(JOBS.c.status.in_([int(one) for one in OPEN]))
        held = (_IS_PENDING, REQUESTS.c.claimed_until_us > now_us, REQUESTS.c.owner != "")
        with sql.reading(self._engine) as connection:
            rows = connection.execute(query.order_by(JOBS.c.deadline_us, JOBS.c.sequence)).mappings().all()
            owners = connection.execute(select(func.count(REQUESTS.c.owner.distinct())).where(*held)).scalar_one()
        return [to_job(row) for row in rows], int(owners)

    def claim(self, job_id: str, owner: str, limit: int, now_us: int, until_us: int) -> list[Work]:
        """See `Store`."""
        of = REQUESTS.c
        free = select(of.number).where(of.job_id == job_id, _IS_PENDING)
        free = free.where(or_(of.owner == "", of.claimed_until_us <= now_us)).order_by(of.number).limit(limit)
        with sql.writing(self._engine) as connection:
            # A shared lock on the job keeps a claim and the end of the job apart.
            status = connection.execute(
                select(JOBS.c.status).where(JOBS.c.job_id == job_id).with_for_update(read=True)
            ).scalar()
            if status != JobStatus.IN_PROGRESS:
                return []
            numbers = list(connection.execute(free.with_for_update(skip_locked=True)).scalars())
            these = (of.job_id == job_id, of.number.in_(numbers))
            taken = {"owner": owner, "claimed_until_us": until_us, "claim_count": of.claim_count + 1}
            connection.execute(update(REQUESTS).where(*these).values(**taken))
            columns = (of.job_id, of.number, of.custom_id, of.body, of.claim_count)
            return [Work(*row) for row in connection.execute(select(*columns).where(*these).order_by(of.number))]

    def renew(self, owner: str, keys: Sequence[Key], until_us: int) -> set[Key]:
        """See `Store`."""
        of, held = REQUESTS.c, set()
        with sql.writing(self._engine) as connection:
            for job_id, numbers in _by_job(keys).items():
                mine = (of.job_id == job_id, of.number.in_(numbers), _IS_PENDING, of.owner == owner)
                connection.execute(update(REQUESTS).where(*mine).values(claimed_until_us=until_us))
                held |= {(job_id, number) for number in connection.execute(select(of.number).where(*mine)).scalars()}
        return held

    def release(self, owner: str) -> int:
        """See `Store`."""
        with sql.writing(self._engine) as connection:
            mine = (_IS_PENDING, REQUESTS.c.claimed_until_us > 0, REQUESTS.c.owner == owner)
            free = update(REQUESTS).where(*mine).values(owner="", claimed_until_us=0)
            return int(connection.execute(free).rowcount)

    def record(self, lines: Sequence[Line]) -> set[Key]:
        """See `Store`."""
        by_key = {line.key: line for line in reversed(lines)}
        with sql.writing(self._engine) as connection:
            new: list[Line] = []
            # Requests before jobs and each in one order, so that gateways do not wait for each other in a circle.
            for job_id, numbers in _by_job(by_key).items():
                new += [by_key[job_id, number] for number in _locked(connection, job_id, numbers)]
            if new:
                connection.execute(_WRITE_LINE, [_line_row(line) for line in new])
            for job_id in sorted({line.job_id for line in new}):
                answered = [line.state is RequestState.ANSWERED for line in new if line.job_id == job_id]
                _count(connection, job_id, sum(answered), len(answered) - sum(answered))
            return {line.key for line in new}

    def finalize(self, job_id: str, now_us: int) -> JobStatus | None:
        """See `Store`."""
        of = JOBS.c
        is_due = or_(of.completed_count + of.failed_count >= of.total_count, of.deadline_us <= now_us)
        this = (of.job_id == job_id, of.status == int(JobStatus.IN_PROGRESS), is_due)
        with sql.writing(self._engine) as connection:
            values = {"status": int(JobStatus.FINALIZING), "finalizing_us": now_us}
            connection.execute(update(JOBS).where(*this).values(**values))
            status = connection.execute(select(of.status).where(of.job_id == job_id)).scalar()
        return None if status is None else JobStatus(status)

    def pending(self, job_id: str, limit: int) -> list[tuple[int, str]]:
        """See `Store`."""
        query = select(REQUESTS.c.number, REQUESTS.c.custom_id).where(REQUESTS.c.job_id == job_id, _IS_PENDING)
        with sql.reading(self._engine) as connection:
            rows = connection.execute(query.order_by(REQUESTS.c.number).limit(limit))
            return [(int(number), str(custom_id)) for number, custom_id in rows]

    def close_job(self, job_id: str, now_us: int, expires_us: int) -> Job | None:
        """See `Store`."""
        with sql.writing(self._engine) as connection:
            row = connection.execute(select(JOBS).where(JOBS.c.job_id == job_id).with_for_update()).mappings().first()
            sizes = _sizes(connection, job_id)
            if row is None or RequestState.PENDING in sizes:
                return None
            job = to_job(row)
            if job.status not in ENDING:
                return job
            names = {kind: _make_results(connection, job, kind, sizes, now_us, expires_us) for kind in STATES_OF}
            values = {
                "status": int(final_status(job.status, RequestState.EXPIRED in sizes)),
                "ended_us": now_us,
                "output_file_id": names[FileKind.OUTPUT],
                "error_file_id": names[FileKind.ERRORS],
            }
            connection.execute(update(JOBS).where(JOBS.c.job_id == job_id).values(**values))
            return _one(connection, job_id)

    def lines(self, job_id: str, states: Collection[RequestState], after: int, limit: int) -> list[Line]:
        """See `Store`."""
        of = REQUESTS.c
        query = select(of.job_id, of.number, of.state, of.line).where(of.job_id == job_id, of.number > after)
        query = query.where(of.state.in_([int(one) for one in states]), of.line != "")
        with sql.reading(self._engine) as connection:
            return [to_line(row) for row in connection.execute(query.order_by(of.number).limit(limit))]

    def line(self, job_id: str, custom_id: str) -> Line | None:
        """See `Store`."""
        of = REQUESTS.c
        query = select(of.job_id, of.number, of.state, of.line)
        query = query.where(of.job_id == job_id, of.custom_id == custom_id, of.line != "")
        with sql.reading(self._engine) as connection:
            row = connection.execute(query).first()
        return to_line(row) if row else None

    def purge(self, now_us: int, ended_before_us: int) -> int:
        """See `Store`."""
        stale_us = now_us - STALE_US
        half_file = FILES.c.sealed.is_(False) & (FILES.c.created_us < stale_us)
        half_job = (JOBS.c.status == int(JobStatus.VALIDATING)) & (JOBS.c.created_us < stale_us)
        old_job = (JOBS.c.ended_us > 0) & (JOBS.c.ended_us < ended_before_us)
        with sql.reading(self._engine) as connection:
            old = select(FILES.c.file_id).where(or_(FILES.c.expires_us <= now_us, half_file))
            files = list(connection.execute(old).scalars())
            jobs = list(connection.execute(select(JOBS.c.job_id).where(or_(old_job, half_job))).scalars())
        self._drop_files(files)
        self._drop_jobs(jobs)
        return len(files) + len(jobs)

    def _drop_files(self, file_ids: Sequence[str]) -> None:
        for file_id in file_ids:
            with sql.writing(self._engine) as connection:
                this = select(FILES.c.job_id, FILES.c.kind).where(FILES.c.file_id == file_id)
                row = connection.execute(this).first()
                if row is None:
                    continue
                states = [int(one) for one in STATES_OF.get(FileKind(row[1]), ())]
                of = REQUESTS.c
                if states:
                    gone = update(REQUESTS).where(of.job_id == row[0], of.state.in_(states)).values(line="")
                    connection.execute(gone)
                connection.execute(delete(PIECES).where(PIECES.c.file_id == file_id))
                connection.execute(delete(FILES).where(FILES.c.file_id == file_id))

    def _drop_jobs(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            with sql.writing(self._engine) as connection:
                connection.execute(delete(JOBS).where(JOBS.c.job_id == job_id))
            some = select(REQUESTS.c.number).where(REQUESTS.c.job_id == job_id).limit(SLICE_COUNT).scalar_subquery()
            gone = delete(REQUESTS).where(REQUESTS.c.job_id == job_id, REQUESTS.c.number.in_(some))
            last_count = SLICE_COUNT
            while last_count == SLICE_COUNT:
                with sql.writing(self._engine) as connection:
                    last_count = connection.execute(gone).rowcount

    def _forget(self, drop: Any) -> None:
        """Undoes what was begun; where the database is away the purge does it later."""
        try:
            drop()
        except Unavailable:
            return


_WRITE_LINE = (
    update(REQUESTS)
    .where(REQUESTS.c.job_id == bindparam("of_job"), REQUESTS.c.number == bindparam("of_number"))
    .values(state=bindparam("new_state"), line=bindparam("new_line"), body="", owner="")
)


def _line_row(line: Line) -> dict[str, Any]:
    return {"of_job": line.job_id, "of_number": line.number, "new_state": int(line.state), "new_line": line.text}


def _locked(connection: Connection, job_id: str, numbers: Sequence[int]) -> list[int]:
    """Those of the requests that are pending, and stay so until the transaction ends."""
    of = REQUESTS.c
    query = select(of.number).where(of.job_id == job_id, of.number.in_(numbers), _IS_PENDING)
    return list(connection.execute(query.order_by(of.number).with_for_update()).scalars())


def _count(connection: Connection, job_id: str, completed_count: int, failed_count: int) -> None:
    of = JOBS.c
    values = {"completed_count": of.completed_count + completed_count, "failed_count": of.failed_count + failed_count}
    connection.execute(update(JOBS).where(of.job_id == job_id).values(**values))


def _sizes(connection: Connection, job_id: str) -> dict[RequestState, int]:
    """Bytes of the lines with their newlines, by state. Lines are ASCII, so that a character is a byte."""
    size = func.sum(case((REQUESTS.c.line != "", func.length(REQUESTS.c.line) + 1), else_=0))
    query = select(REQUESTS.c.state, size).where(REQUESTS.c.job_id == job_id).group_by(REQUESTS.c.state)
    return {RequestState(state): int(size) for state, size in connection.execute(query)}


def _make_results(
    connection: Connection, job: Job, kind: FileKind, sizes: dict[RequestState, int], now_us: int, expires_us: int
) -> str:
    byte_count = sum(sizes.get(state, 0) for state in STATES_OF[kind])
    if not byte_count:
        return ""
    file = result_file(job, kind, byte_count, now_us, expires_us)
    connection.execute(insert(FILES), {**file_row(file), "sealed": True})
    return file.file_id


def _one(connection: Connection, job_id: str) -> Job:
    return to_job(connection.execute(select(JOBS).where(JOBS.c.job_id == job_id)).mappings().one())


def _slices(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """Lists of up to `count` items. Between two of them other threads get a turn."""
    rest = iter(items)
    while some := list(islice(rest, count)):
        yield some
        time.sleep(_BREATH_S)


def _by_job(keys: Iterable[Key]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for job_id, number in sorted(keys):
        found.setdefault(job_id, []).append(number)
    return found
