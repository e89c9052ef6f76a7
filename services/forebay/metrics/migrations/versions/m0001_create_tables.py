"""Creates the tables of requests, queue samples and instance changes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger()
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Creates all three, with the indexes that queries and pruning need."""
    _create_requests()
    op.create_table(
        "metrics_queue_samples",
        *_keys(),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("sample_us", BIG, nullable=False),
        sa.Column("held_count", BIG, nullable=False),
        sa.Column("in_flight_count", BIG, nullable=False),
        sa.Column("scheduler_id", sa.String(128), nullable=False),
    )
    op.create_index("metrics_queue_samples_by_time", "metrics_queue_samples", ["sample_us"])
    op.create_table(
        "metrics_instance_changes",
        *_keys(),
        sa.Column("instance_id", sa.String(200), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("server_id", sa.String(200), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("profile", sa.String(200), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("state_us", BIG, nullable=False),
        sa.Column("state_reason", sa.String(1024), nullable=False),
    )
    op.create_index("metrics_instance_changes_by_time", "metrics_instance_changes", ["state_us"])


def _create_requests() -> None:
    text = {"tenant": 128, "application": 128, "region": 64, "instance_id": 200, "decision_id": 128}
    op.create_table(
        "metrics_requests",
        *_keys(),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("arrival_us", BIG, nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("slo_class", sa.SmallInteger(), nullable=False),
        *(sa.Column(name, sa.String(length), nullable=False) for name, length in text.items()),
        sa.Column("prompt_tokens", BIG, nullable=False),
        sa.Column("response_tokens", BIG, nullable=False),
        *(sa.Column(name, BIG) for name in ("p10_tokens", "p50_tokens", "p90_tokens", "p97_tokens")),
        sa.Column("predicted_by", sa.String(128), nullable=False),
        sa.Column("held_us", BIG, nullable=False),
        sa.Column("ttft_us", BIG),
        sa.Column("end_to_end_us", BIG, nullable=False),
        sa.Column("error_reason", sa.String(128), nullable=False),
        sa.Column("attempt_count", BIG, nullable=False),
        sa.Column("censored", sa.Boolean(), nullable=False),
    )
    op.create_index("metrics_requests_by_time", "metrics_requests", ["arrival_us", "id"])
    # Holds all that a workload query reads, so that a week of traffic is summed without touching the table.
    summed = ["model", "arrival_us", "region", "slo_class", "prompt_tokens", "response_tokens"]
    op.create_index("metrics_requests_by_model", "metrics_requests", summed)


def _keys() -> tuple[sa.Column[int], sa.Column[str]]:
    return sa.Column("id", ID, primary_key=True), sa.Column("event_id", sa.String(128), nullable=False, unique=True)
