"""The instances of one model side by side in arrays, so that a router compares a thousand of them in microseconds."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from forebay.core.values import Instance
from forebay.scheduler.policy.puller.base import UNLIMITED
from forebay.scheduler.policy.router.base import Mask

N = TypeVar("N", bound=np.generic)


class Lanes:
    """Arrays by instance in the order of ids, kept up to date with every lease.

    `caps`, `contexts` and `blocked` are replaced and never changed in place, so whoever keeps one keeps a moment.
    """

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = list(instances)
        self.ids = tuple(one.instance_id for one in instances)
        self.contexts = _frozen(np.array([one.context_tokens_max or UNLIMITED for one in instances], dtype=np.int64))
        self.context_min = int(self.contexts.min(initial=UNLIMITED))
        self.context_max = int(self.contexts.max(initial=0))
        self.blocked: tuple[str, ...] = ("",) * len(self.ids)
        self.ready_count = 0
        count = len(self.ids)
        self.caps: npt.NDArray[np.int32] = _frozen(np.zeros(count, dtype=np.int32))
        self._index = {instance_id: index for index, instance_id in enumerate(self.ids)}
        self._in_flight = np.zeros(count, dtype=np.int32)
        self._tokens = np.zeros(count, dtype=np.int64)
        self._open = np.zeros(count, dtype=np.bool_)
        self._eligible = np.zeros(count, dtype=np.bool_)
        self.tokens_total = 0

    def refresh(self, blocked: Sequence[str], caps: Sequence[int]) -> bool:
        """Takes why each instance is blocked, empty where it is not, and how many requests each may run.

        Says whether anything changed.
        """
        before = self.blocked, self.caps
        self.blocked = tuple(blocked)
        self.caps = _frozen(np.clip(np.array(caps, dtype=np.int64), 0, UNLIMITED).astype(np.int32))
        self._open = np.array([not reason for reason in blocked], dtype=np.bool_)
        self._eligible = self._open & (self._in_flight < self.caps)
        self.ready_count = int(self._open.sum())
        return before[0] != self.blocked or not np.array_equal(before[1], self.caps)

    def add(self, instance_id: str, count: int, tokens: int) -> None:
        """Adds leases and their predicted tokens to an instance, or takes them off where negative."""
        index = self._index[instance_id]
        self._in_flight[index] += count
        self._tokens[index] += tokens
        self.tokens_total += tokens
        if count:
            self._eligible[index] = self._open[index] and self._in_flight[index] < self.caps[index]

    def load_of(self, instance_id: str) -> tuple[int, int]:
        """Leases on the instance and their predicted tokens."""
        index = self._index[instance_id]
        return int(self._in_flight[index]), int(self._tokens[index])

    def loads(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Each instance with its leases and their predicted tokens."""
        return zip(self.ids, zip(self._in_flight.tolist(), self._tokens.tolist(), strict=True), strict=True)

    def cap_of(self, instance_id: str) -> int:
        """Most requests that the instance may run."""
        return int(self.caps[self._index[instance_id]])

    def has_room(self) -> bool:
        """Whether any instance may get a request."""
        return bool(self._eligible.any())

    def in_flight(self) -> npt.NDArray[np.int32]:
        """A read-only copy of the leases by instance."""
        return _frozen(self._in_flight.copy())

    def tokens(self) -> npt.NDArray[np.int64]:
        """A read-only copy of the predicted tokens by instance."""
        return _frozen(self._tokens.copy())

    def eligible(self, excluded: frozenset[str], context_tokens: int) -> Mask:
        """Read-only: which instances may get a request of so many tokens that must not go to the excluded ones."""
        mask = self._eligible.copy()
        for instance_id in excluded:
            index = self._index.get(instance_id)
            if index is not None:
                mask[index] = False
        if context_tokens > self.context_min:
            mask &= self.contexts >= context_tokens
        mask.flags.writeable = False
        return mask


def _frozen(array: npt.NDArray[N]) -> npt.NDArray[N]:
    array.flags.writeable = False
    return array
