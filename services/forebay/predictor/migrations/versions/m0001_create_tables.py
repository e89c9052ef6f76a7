"""Creates the tables of examples for training and of the salt that tells their prompts apart."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger()
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Creates both, with the index that reading and pruning need."""
    op.create_table(
        "predictor_examples",
        sa.Column("id", ID, primary_key=True),
        sa.Column("at_us", BIG, nullable=False),
        sa.Column("features_version", sa.String(32), nullable=False),
        sa.Column("prompt_group", BIG, nullable=False),
        sa.Column("cells", sa.LargeBinary(), nullable=False),
        sa.Column("generated_tokens", BIG, nullable=False),
        sa.Column("censored", sa.Boolean(), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("application", sa.String(128), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("prompt_tokens", BIG, nullable=False),
        sa.Column("tokens_max", BIG, nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("turn_number", BIG, nullable=False),
        sa.Column("system_digest", sa.String(16), nullable=False),
    )
    op.create_index("predictor_examples_by_time", "predictor_examples", ["at_us", "id"])
    op.create_table(
        "predictor_salt",
        sa.Column("id", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
    )
