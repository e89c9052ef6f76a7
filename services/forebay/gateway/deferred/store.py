"""The port behind which deferred work is kept, and what all of its adapters share."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from forebay.gateway.deferred.values import (
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

STALE_US = 3_600_000_000
"""A file or job that is being written for longer than this was left behind by a gateway that died."""


class Store(Protocol):
    """Keeps files, jobs and requests. Calls block and may come from several threads and several gateways.

    What a call has done stays done when it returns. All raise Unavailable when the store is down; then the call may
    have had its effect or not, and may be repeated. A request that is not pending never changes again.
    """

    def keep_file(self, file: File, pieces: Iterable[bytes]) -> File:
        """Keeps an input; it can be seen once all of it is there. What the pieces raise leaves nothing behind."""
        ...

    def file(self, tenant: str, file_id: str) -> File | None:
        """The tenant's file."""
        ...

    def files(self, tenant: str, kinds: Collection[FileKind], after: int, limit: int, ascending: bool) -> list[File]:
        """The tenant's files in the order of creation beyond the sequence `after` (0: from the start)."""
        ...

    def piece(self, file_id: str, number: int) -> bytes | None:
        """Piece `number`, from 0, of an input; None beyond the last."""
        ...

    def delete_file(self, tenant: str, file_id: str) -> bool:
        """Deletes a file; of results the lines too. False where there is none."""
        ...

    def keep_job(self, job: Job, requests: Iterable[NewRequest], key: str, now_us: int) -> Job:
        """Keeps a job and starts it once all of its requests are there; what they raise leaves nothing behind.

        The model and the sums are those of the requests. A second job of the tenant with the same `key` (but "") is not
        kept: the first one is returned.
        """
        ...

    def job(self, tenant: str, job_id: str) -> Job | None:
        """The tenant's job."""
        ...

    def job_of(self, tenant: str, key: str) -> Job | None:
        """The tenant's job that was kept with this key; None for ""."""
        ...

    def jobs(self, tenant: str, after: int, limit: int) -> list[Job]:
        """The tenant's jobs, newest first, below the sequence `after` (0: from the newest)."""
        ...

    def cancel(self, tenant: str, job_id: str, now_us: int) -> Job | None:
        """Lets a job in progress end without its pending requests; any other stays as it is. Returns it."""
        ...

    def open_jobs(self, now_us: int) -> tuple[list[Job], int]:
        """All jobs with work left, by deadline, and how many gateways hold claims."""
        ...

    def claim(self, job_id: str, owner: str, limit: int, now_us: int, until_us: int) -> list[Work]:
        """Takes pending requests of a job in progress that nobody holds; nobody else gets them before `until_us`."""
        ...

    def renew(self, owner: str, keys: Sequence[Key], until_us: int) -> set[Key]:
        """Keeps claims until `until_us`; says which requests are pending and still the owner's."""
        ...

    def release(self, owner: str) -> int:
        """Gives up all claims of an owner; says how many."""
        ...

    def record(self, lines: Sequence[Line]) -> set[Key]:
        """Writes how requests ended, unless they ended before; says which did so now."""
        ...

    def finalize(self, job_id: str, now_us: int) -> JobStatus | None:
        """Ends the progress of a job that is answered or past its deadline; None where there is no such job.

        Returns where the job stands: FINALIZING or CANCELLING where it is to be ended.
        """
        ...

    def pending(self, job_id: str, limit: int) -> list[tuple[int, str]]:
        """Numbers and custom ids of requests that have not ended."""
        ...

    def close_job(self, job_id: str, now_us: int, expires_us: int) -> Job | None:
        """Makes the result files of a job that is being ended and ends it; None where requests are pending."""
        ...

    def lines(self, job_id: str, states: Collection[RequestState], after: int, limit: int) -> list[Line]:
        """Lines of requests in these states whose number is above `after`, in the order of the input."""
        ...

    def line(self, job_id: str, custom_id: str) -> Line | None:
        """The line of one request; None while it is pending, or where there is none."""
        ...

    def purge(self, now_us: int, ended_before_us: int) -> int:
        """Deletes expired files, jobs that ended before, and what dead gateways left half-written; says how many."""
        ...


def result_file(job: Job, kind: FileKind, byte_count: int, now_us: int, expires_us: int) -> File:
    """The file of a job's results; its name follows from the job's, so that ending a job twice makes one."""
    word = "output" if kind is FileKind.OUTPUT else "error"
    file_id = f"file-{job.job_id.removeprefix('batch_')}-{word}"
    return File(file_id, job.tenant, kind, f"{job.job_id}_{word}.jsonl", byte_count, now_us, expires_us, job.job_id)


def final_status(status: JobStatus, has_expired: bool) -> JobStatus:
    """How a job that is being ended ends."""
    if status is JobStatus.CANCELLING:
        return JobStatus.CANCELLED
    return JobStatus.EXPIRED if has_expired else JobStatus.COMPLETED
