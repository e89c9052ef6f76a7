"""The tables of deferred work, and what their rows stand for."""

import json
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)

from forebay.gateway.deferred.values import File, FileKind, Job, JobStatus, Line, NewRequest, RequestState

METADATA = MetaData()


def _texts(**lengths: int) -> list[Column[str]]:
    return [Column(name, String(length), nullable=False) for name, length in lengths.items()]


def _numbers(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


def _sequence() -> Column[int]:
    return Column("sequence", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)


FILES = Table(
    "deferred_files",
    METADATA,
    _sequence(),
    *_texts(file_id=128, tenant=128),
    Column("kind", SmallInteger, nullable=False),
    *_texts(filename=512),
    *_numbers("byte_count", "created_us", "expires_us"),
    *_texts(job_id=128),
    Column("sealed", Boolean, nullable=False),
    Index("deferred_files_by_id", "file_id", unique=True),
    Index("deferred_files_by_tenant", "tenant", "sequence"),
    Index("deferred_files_by_expiry", "expires_us"),
)
PIECES = Table(
    "deferred_pieces",
    METADATA,
    Column("file_id", String(128), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
JOBS = Table(
    "deferred_jobs",
    METADATA,
    _sequence(),
    *_texts(job_id=128, tenant=128, endpoint=64, model=200, input_file_id=128),
    *_numbers("window_s", "created_us", "deadline_us"),
    *_texts(application=128),
    Column("status", SmallInteger, nullable=False),
    Column("metadata", Text, nullable=False),
    *_numbers("total_count", "completed_count", "failed_count", "prompt_tokens", "tokens_max"),
    *_numbers("started_us", "finalizing_us", "cancelling_us", "ended_us"),
    *_texts(output_file_id=128, error_file_id=128),
    Column("key", String(256)),
    Index("deferred_jobs_by_id", "job_id", unique=True),
    Index("deferred_jobs_by_tenant", "tenant", "sequence"),
    Index("deferred_jobs_by_key", "tenant", "key", unique=True),
    Index("deferred_jobs_by_status", "status", "ended_us"),
)
REQUESTS = Table(
    "deferred_requests",
    METADATA,
    Column("job_id", String(128), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    *_texts(custom_id=512),
    Column("body", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),
    *_texts(owner=256),
    *_numbers("claimed_until_us", "claim_count"),
    Column("line", Text, nullable=False),
    Index("deferred_requests_by_state", "job_id", "state", "number"),
    Index("deferred_requests_by_name", "job_id", "custom_id", unique=True),
    Index("deferred_requests_by_claim", "state", "claimed_until_us"),
)


def to_line(row: Any) -> Line:
    """A line of (job_id, number, state, line)."""
    return Line(str(row[0]), int(row[1]), RequestState(row[2]), str(row[3]))


_FILE_FIELDS = [field.name for field in fields(File) if field.name != "sequence"]
_JOB_FIELDS = [field.name for field in fields(Job)]


def file_row(file: File) -> dict[str, Any]:
    """A file's columns, but whether it is sealed."""
    return {**{name: getattr(file, name) for name in _FILE_FIELDS}, "kind": int(file.kind)}


def to_file(row: Any) -> File:
    """A file of its row."""
    file = File(**{name: row[name] for name in (*_FILE_FIELDS, "sequence")})
    return replace(file, kind=FileKind(row["kind"]))


def job_row(job: Job) -> dict[str, Any]:
    """A job's columns, but its key."""
    row = {name: getattr(job, name) for name in _JOB_FIELDS if name != "sequence"}
    return {**row, "status": int(job.status), "metadata": json.dumps(dict(job.metadata))}


def to_job(row: Any) -> Job:
    """A job of its row."""
    job = Job(**{name: row[name] for name in _JOB_FIELDS})
    return replace(job, status=JobStatus(row["status"]), metadata=json.loads(row["metadata"]))


def request_row(job_id: str, new: NewRequest) -> dict[str, Any]:
    """The columns of a request that nobody holds."""
    return {
        "job_id": job_id,
        "number": new.number,
        "custom_id": new.custom_id,
        "body": new.body,
        "state": int(RequestState.PENDING),
        "owner": "",
        "claimed_until_us": 0,
        "claim_count": 0,
        "line": "",
    }
