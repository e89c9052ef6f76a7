"""Alembic revisions of the predictor's tables."""
