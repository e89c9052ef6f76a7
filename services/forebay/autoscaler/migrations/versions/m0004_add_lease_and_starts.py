"""Adds the lease of the autoscaler that leads, and how long the newest starts of each pool took."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nobody leads yet, and no start is known."""
    lease = op.create_table(
        "autoscaler_lease",
        sa.Column("key", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("address", sa.String(255), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
    )
    # The one row is there from the start: two that claim it at once then wait for each other.
    op.bulk_insert(lease, [{"key": 1, "holder": "", "address": "", "token": 0, "until_us": 0}])
    op.add_column("autoscaler_models", sa.Column("starts", sa.Text(), nullable=False, server_default="[]"))


def downgrade() -> None:
    """Drops both."""
    op.drop_column("autoscaler_models", "starts")
    op.drop_table("autoscaler_lease")
