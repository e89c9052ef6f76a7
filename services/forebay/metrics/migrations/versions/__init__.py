"""Alembic revisions of the metrics service's tables."""
