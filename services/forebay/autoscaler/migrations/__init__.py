"""Alembic revisions of the autoscaler's tables."""
