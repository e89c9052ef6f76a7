"""Calibration: measured runs in, the constants of an engine's profile out, with their errors."""
