"""The pairs of instances that power-of-two routing draws, many at once and the same as one by one."""

import random
from math import isqrt
from typing import Any

import numpy as np

from forebay.simulator.kernel.backend import Backend
from forebay.simulator.kernel.columns import Ints


class Pairs:
    """What `random.Random(seed).sample(range(instance_count), 2)` gives call after call, each pair in order."""

    def __init__(self, seed: int, instance_count: int, backend: Backend) -> None:
        self._instance_count = instance_count
        self._backend = backend
        self._do: Any = backend.functions
        self._words = np.zeros(0, dtype=np.int64)
        *key, position = random.Random(seed).getstate()[1]
        self._source = np.random.MT19937(0)
        self._source.state = {
            "bit_generator": "MT19937",
            "state": {"key": np.array(key, dtype=np.uint32), "pos": position},
        }

    def draw(self, count: int) -> Ints:
        """The next pairs, one after another; of a single instance, that one twice."""
        pairs = self._backend.column(2 * count)
        if self._instance_count > 1:
            # Half of the words at most are thrown away; twenty standard deviations on top never run out.
            needed = 4 * count + 40 * isqrt(count) + 400
            fresh = self._source.random_raw(needed).astype(np.int64)
            words = np.concatenate((self._words, fresh))
            used = self._do.draw_pairs(self._backend.taken(words.copy()), self._instance_count, pairs, count)
            self._words = words[used:]
        return pairs
