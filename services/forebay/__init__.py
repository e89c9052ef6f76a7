"""Forebay: a management plane for large language models served on NVIDIA Triton."""

__version__ = "0.1.0"
