"""Readers of public trace formats, each strict about every row."""
