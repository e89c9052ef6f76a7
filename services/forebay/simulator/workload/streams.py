"""Streams of random numbers: one for each purpose, so that a change to one draw leaves the others as they were."""

from zlib import crc32

import numpy as np


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose; equal seeds and purposes give equal numbers, others are independent.

    Raises ValueError for a seed below 0.
    """
    if seed < 0:
        raise ValueError("seed must be 0 or more")
    return np.random.default_rng([seed, crc32(purpose.encode())])
