"""Alembic revisions of the tables of deferred work."""
