"""Adds the pool of an instance and of a decision, and what would have changed the decision."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """What is known so far belongs to the first pool of its model."""
    op.add_column("autoscaler_members", sa.Column("pool", sa.String(200), nullable=False, server_default=""))
    op.add_column("autoscaler_decisions", sa.Column("pool", sa.String(200), nullable=False, server_default=""))
    op.add_column("autoscaler_decisions", sa.Column("flip", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Drops all three."""
    op.drop_column("autoscaler_decisions", "flip")
    op.drop_column("autoscaler_decisions", "pool")
    op.drop_column("autoscaler_members", "pool")
