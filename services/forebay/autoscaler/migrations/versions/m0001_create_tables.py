"""Creates the tables of members, models, settings and decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger()


def upgrade() -> None:
    """Creates all four."""
    _create_members()
    op.create_table(
        "autoscaler_models",
        sa.Column("model", sa.String(200), primary_key=True),
        sa.Column("instances_min", BIG),
        sa.Column("instances_max", BIG),
        sa.Column("instances_wanted", BIG),
    )
    op.create_table(
        "autoscaler_settings",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(200), nullable=False),
    )
    op.create_table(
        "autoscaler_decisions",
        sa.Column("decision_id", sa.String(128), primary_key=True),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("decided_us", BIG, nullable=False),
        sa.Column("instances_before", BIG, nullable=False),
        sa.Column("instances_wanted", BIG, nullable=False),
        sa.Column("instances_after", BIG, nullable=False),
        sa.Column("policy", sa.String(128), nullable=False),
        sa.Column("mode", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
    )
    op.create_index("autoscaler_decisions_by_time", "autoscaler_decisions", ["decided_us"])


def _create_members() -> None:
    op.create_table(
        "autoscaler_members",
        sa.Column("instance_id", sa.String(200), primary_key=True),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("grpc_address", sa.String(255), nullable=False),
        sa.Column("server_id", sa.String(200), nullable=False),
        sa.Column("metrics_url", sa.String(1024), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("profile", sa.String(200), nullable=False),
        sa.Column("concurrency_max", BIG, nullable=False),
        sa.Column("kv_tokens_max", BIG, nullable=False),
        sa.Column("context_tokens_max", BIG, nullable=False),
        sa.Column("state_us", BIG, nullable=False),
        sa.Column("state_reason", sa.String(1024), nullable=False),
        sa.Column("origin", sa.SmallInteger(), nullable=False),
        sa.Column("ttl_us", BIG, nullable=False),
        sa.Column("was_ready", sa.Boolean(), nullable=False),
    )


def downgrade() -> None:
    """Drops all four."""
    for name in ("autoscaler_decisions", "autoscaler_settings", "autoscaler_models", "autoscaler_members"):
        op.drop_table(name)
