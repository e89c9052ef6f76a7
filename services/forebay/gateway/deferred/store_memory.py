"""Keeps deferred work in memory: for tests, and the measure of what the other adapter does."""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from forebay.gateway.deferred.store import final_status, result_file
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


@dataclass(slots=True)
class _Row:
    new: NewRequest
    state: RequestState = RequestState.PENDING
    owner: str = ""
    claimed_until_us: int = 0
    claim_count: int = 0
    text: str = ""


@dataclass(slots=True)
class _Kept:
    job: Job
    key: str
    rows: dict[int, _Row] = field(default_factory=dict)


class MemoryStore:
    """The `Store` that lives as long as the process."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._pieces: dict[str, list[bytes]] = {}
        self._jobs: dict[str, _Kept] = {}
        self._numbers = count(1)
        self._lock = threading.RLock()

    def keep_file(self, file: File, pieces: Iterable[bytes]) -> File:
        """See `Store`."""
        parts = list(pieces)
        with self._lock:
            kept = replace(file, byte_count=sum(map(len, parts)), sequence=next(self._numbers))
            self._files[file.file_id], self._pieces[file.file_id] = kept, parts
            return kept

    def file(self, tenant: str, file_id: str) -> File | None:
        """See `Store`."""
        found = self._files.get(file_id)
        return found if found is not None and found.tenant == tenant else None

    def files(self, tenant: str, kinds: Collection[FileKind], after: int, limit: int, ascending: bool) -> list[File]:
        """See `Store`."""
        beyond: Callable[[int], bool] = after.__lt__ if ascending else lambda number: not after or number < after
        with self._lock:
            found = [one for one in self._files.values() if one.tenant == tenant and one.kind in kinds]
        found.sort(key=lambda one: one.sequence, reverse=not ascending)
        return [one for one in found if beyond(one.sequence)][:limit]

    def piece(self, file_id: str, number: int) -> bytes | None:
        """See `Store`."""
        parts = self._pieces.get(file_id, [])
        return parts[number] if number < len(parts) else None

    def delete_file(self, tenant: str, file_id: str) -> bool:
        """See `Store`."""
        with self._lock:
            found = self.file(tenant, file_id)
            if found is None:
                return False
            self._drop_file(found)
            return True

    def keep_job(self, job: Job, requests: Iterable[NewRequest], key: str, now_us: int) -> Job:
        """See `Store`."""
        rows = {one.number: _Row(one) for one in requests}
        with self._lock:
            if (known := self.job_of(job.tenant, key)) is not None:
                return known
            news = [row.new for row in rows.values()]
            started = replace(
                job,
                status=JobStatus.IN_PROGRESS,
                started_us=now_us,
                model=news[0].model if news else job.model,
                total_count=len(news),
                prompt_tokens=sum(one.prompt_tokens for one in news),
                tokens_max=sum(one.tokens_max for one in news),
                sequence=next(self._numbers),
            )
            self._jobs[job.job_id] = _Kept(started, key, rows)
            return started

    def job(self, tenant: str, job_id: str) -> Job | None:
        """See `Store`."""
        kept = self._jobs.get(job_id)
        return kept.job if kept is not None and kept.job.tenant == tenant else None

    def job_of(self, tenant: str, key: str) -> Job | None:
        """See `Store`."""
        with self._lock:
            found = [kept.job for kept in self._jobs.values() if key and kept.key == key and kept.job.tenant == tenant]
            return found[0] if found else None

    def jobs(self, tenant: str, after: int, limit: int) -> list[Job]:
        """See `Store`."""
        with self._lock:
            found = [kept.job for kept in self._jobs.values() if kept.job.tenant == tenant]
        found.sort(key=lambda one: -one.sequence)
        return [one for one in found if not after or one.sequence < after][:limit]

    def cancel(self, tenant: str, job_id: str, now_us: int) -> Job | None:
        """See `Store`."""
        with self._lock:
            job = self.job(tenant, job_id)
            if job is not None and job.status is JobStatus.IN_PROGRESS:
                job = self._change(job_id, status=JobStatus.CANCELLING, cancelling_us=now_us)
            return job

    def open_jobs(self, now_us: int) -> tuple[list[Job], int]:
        """See `Store`."""
        with self._lock:
            found = [kept.job for kept in self._jobs.values() if kept.job.status in OPEN]
            rows = [row for kept in self._jobs.values() for row in kept.rows.values()]
            owners = {row.owner for row in rows if _is_held(row, now_us)}
        return sorted(found, key=lambda one: (one.deadline_us, one.sequence)), len(owners)

    def claim(self, job_id: str, owner: str, limit: int, now_us: int, until_us: int) -> list[Work]:
        """See `Store`."""
        with self._lock:
            kept = self._jobs.get(job_id)
            if kept is None or kept.job.status is not JobStatus.IN_PROGRESS:
                return []
            free = [row for row in kept.rows.values() if row.state is RequestState.PENDING]
            taken = [row for row in free if not _is_held(row, now_us)][:limit]
            for row in taken:
                row.owner, row.claimed_until_us, row.claim_count = owner, until_us, row.claim_count + 1
            return [Work(job_id, row.new.number, row.new.custom_id, row.new.body, row.claim_count) for row in taken]

    def renew(self, owner: str, keys: Sequence[Key], until_us: int) -> set[Key]:
        """See `Store`."""
        with self._lock:
            rows = {key: self._row(key) for key in keys}
            held = {key for key, row in rows.items() if row and row.state is RequestState.PENDING}
            held = {key for key in held if (row := rows[key]) and row.owner == owner}
            for key in held:
                if row := rows[key]:
                    row.claimed_until_us = until_us
            return held

    def release(self, owner: str) -> int:
        """See `Store`."""
        with self._lock:
            rows = [row for kept in self._jobs.values() for row in kept.rows.values() if row.owner == owner]
            rows = [row for row in rows if row.state is RequestState.PENDING]
            for row in rows:
                row.owner, row.claimed_until_us = "", 0
            return len(rows)

    def record(self, lines: Sequence[Line]) -> set[Key]:
        """See `Store`."""
        with self._lock:
            return {line.key for line in lines if self._record(line)}

    def _record(self, line: Line) -> bool:
        row = self._row(line.key)
        if row is None or row.state is not RequestState.PENDING:
            return False
        row.state, row.text, row.new = line.state, line.text, replace(row.new, body="")
        job = self._jobs[line.job_id].job
        if line.state is RequestState.ANSWERED:
            self._change(line.job_id, completed_count=job.completed_count + 1)
        else:
            self._change(line.job_id, failed_count=job.failed_count + 1)
        return True

    def finalize(self, job_id: str, now_us: int) -> JobStatus | None:
        """See `Store`."""
        with self._lock:
            kept = self._jobs.get(job_id)
            if kept is None:
                return None
            job = kept.job
            is_due = job.remaining_count == 0 or job.deadline_us <= now_us
            if job.status is JobStatus.IN_PROGRESS and is_due:
                job = self._change(job_id, status=JobStatus.FINALIZING, finalizing_us=now_us)
            return job.status

    def pending(self, job_id: str, limit: int) -> list[tuple[int, str]]:
        """See `Store`."""
        with self._lock:
            rows = self._jobs[job_id].rows.values() if job_id in self._jobs else ()
            found = [(row.new.number, row.new.custom_id) for row in rows if row.state is RequestState.PENDING]
            return found[:limit]

    def close_job(self, job_id: str, now_us: int, expires_us: int) -> Job | None:
        """See `Store`."""
        with self._lock:
            kept = self._jobs.get(job_id)
            if kept is None or self.pending(job_id, 1):
                return None
            job = kept.job
            if job.status not in ENDING:
                return job
            names = {}
            for kind in STATES_OF:
                lines = self.lines(job_id, STATES_OF[kind], 0, job.total_count)
                if lines:
                    file = result_file(job, kind, sum(len(one.text) + 1 for one in lines), now_us, expires_us)
                    self._files[file.file_id] = replace(file, sequence=next(self._numbers))
                    names[kind] = file.file_id
            states = {row.state for row in kept.rows.values()}
            return self._change(
                job_id,
                status=final_status(job.status, RequestState.EXPIRED in states),
                ended_us=now_us,
                output_file_id=names.get(FileKind.OUTPUT, ""),
                error_file_id=names.get(FileKind.ERRORS, ""),
            )

    def lines(self, job_id: str, states: Collection[RequestState], after: int, limit: int) -> list[Line]:
        """See `Store`."""
        with self._lock:
            rows = self._jobs[job_id].rows.values() if job_id in self._jobs else ()
            found = [Line(job_id, row.new.number, row.state, row.text) for row in rows if row.text]
        found.sort(key=lambda one: one.number)
        return [one for one in found if one.state in states and one.number > after][:limit]

    def line(self, job_id: str, custom_id: str) -> Line | None:
        """See `Store`."""
        with self._lock:
            rows = self._jobs[job_id].rows.values() if job_id in self._jobs else ()
            found = [row for row in rows if row.new.custom_id == custom_id and row.text]
            return Line(job_id, found[0].new.number, found[0].state, found[0].text) if found else None

    def purge(self, now_us: int, ended_before_us: int) -> int:
        """See `Store`."""
        with self._lock:
            jobs = [kept.job for kept in self._jobs.values() if kept.job.ended_us]
            old = [job for job in jobs if job.ended_us < ended_before_us]
            files = [one for one in self._files.values() if one.expires_us <= now_us]
            for job in old:
                del self._jobs[job.job_id]
            for file in files:
                self._drop_file(file)
            return len(old) + len(files)

    def _drop_file(self, file: File) -> None:
        del self._files[file.file_id]
        self._pieces.pop(file.file_id, None)
        kept = self._jobs.get(file.job_id)
        if kept is not None and file.kind in STATES_OF:
            for row in kept.rows.values():
                if row.state in STATES_OF[file.kind]:
                    row.text = ""

    def _row(self, key: Key) -> _Row | None:
        kept = self._jobs.get(key[0])
        return kept.rows.get(key[1]) if kept is not None else None

    def _change(self, job_id: str, **changes: object) -> Job:
        kept = self._jobs[job_id]
        kept.job = replace(kept.job, **changes)  # type: ignore[arg-type]
        return kept.job


def _is_held(row: _Row, now_us: int) -> bool:
    return row.state is RequestState.PENDING and row.owner != "" and row.claimed_until_us > now_us
