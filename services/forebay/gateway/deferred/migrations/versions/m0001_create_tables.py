"""Creates the tables of files, their pieces, jobs and requests."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger()
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Creates all four, with the indexes that claims and lists need."""
    op.create_table(
        "deferred_files",
        sa.Column("sequence", ID, primary_key=True),
        *_texts(file_id=128, tenant=128),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        *_texts(filename=512),
        *_numbers("byte_count", "created_us", "expires_us"),
        *_texts(job_id=128),
        sa.Column("sealed", sa.Boolean(), nullable=False),
    )
    op.create_index("deferred_files_by_id", "deferred_files", ["file_id"], unique=True)
    op.create_index("deferred_files_by_tenant", "deferred_files", ["tenant", "sequence"])
    op.create_index("deferred_files_by_expiry", "deferred_files", ["expires_us"])
    op.create_table(
        "deferred_pieces",
        sa.Column("file_id", sa.String(128), primary_key=True),
        sa.Column("number", BIG, primary_key=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )
    _create_jobs()
    op.create_table(
        "deferred_requests",
        sa.Column("job_id", sa.String(128), primary_key=True),
        sa.Column("number", BIG, primary_key=True),
        *_texts(custom_id=512),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        *_texts(owner=256),
        *_numbers("claimed_until_us", "claim_count"),
        sa.Column("line", sa.Text(), nullable=False),
    )
    op.create_index("deferred_requests_by_state", "deferred_requests", ["job_id", "state", "number"])
    op.create_index("deferred_requests_by_name", "deferred_requests", ["job_id", "custom_id"], unique=True)
    op.create_index("deferred_requests_by_claim", "deferred_requests", ["state", "claimed_until_us"])


def _create_jobs() -> None:
    op.create_table(
        "deferred_jobs",
        sa.Column("sequence", ID, primary_key=True),
        *_texts(job_id=128, tenant=128, endpoint=64, model=200, input_file_id=128),
        *_numbers("window_s", "created_us", "deadline_us"),
        *_texts(application=128),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        *_numbers("total_count", "completed_count", "failed_count", "prompt_tokens", "tokens_max"),
        *_numbers("started_us", "finalizing_us", "cancelling_us", "ended_us"),
        *_texts(output_file_id=128, error_file_id=128),
        sa.Column("key", sa.String(256)),
    )
    op.create_index("deferred_jobs_by_id", "deferred_jobs", ["job_id"], unique=True)
    op.create_index("deferred_jobs_by_tenant", "deferred_jobs", ["tenant", "sequence"])
    op.create_index("deferred_jobs_by_key", "deferred_jobs", ["tenant", "key"], unique=True)
    op.create_index("deferred_jobs_by_status", "deferred_jobs", ["status", "ended_us"])


def _texts(**lengths: int) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(length), nullable=False) for name, length in lengths.items()]


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, BIG, nullable=False) for name in names]
