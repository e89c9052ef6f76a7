"""Collects what happened, keeps it, and tells it: the one source of snapshots and history."""
