"""Adds where an instance speaks OpenAI's protocol."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """No instance that is known does."""
    column = sa.Column("openai_address", sa.String(255), nullable=False, server_default="")
    op.add_column("autoscaler_members", column)


def downgrade() -> None:
    """Forgets it."""
    op.drop_column("autoscaler_members", "openai_address")
