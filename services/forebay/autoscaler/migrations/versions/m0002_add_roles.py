"""Adds the role of an instance and how it forms its batches."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Known instances are mixed and batch continuously; a heartbeat or their model's configuration tells otherwise."""
    op.add_column("autoscaler_members", sa.Column("role", sa.SmallInteger(), nullable=False, server_default="1"))
    op.add_column("autoscaler_members", sa.Column("batching", sa.SmallInteger(), nullable=False, server_default="1"))


def downgrade() -> None:
    """Drops both."""
    for name in ("batching", "role"):
        op.drop_column("autoscaler_members", name)
