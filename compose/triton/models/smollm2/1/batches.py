"""Which requests may enter the engine next: one by one as slots are free, or in batches that others put together.

No Triton and no llama.cpp here; times are seconds of one clock that never goes back.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol


class Member(Protocol):
    """What is looked at of a request. A batch without name is the request alone."""

    batch_id: str
    batch_count: int
    came_s: float


class Continuous:
    """A request enters as soon as a slot is free, first come first served."""

    def __init__(self, slot_count: int) -> None:
        self.waiting: deque[Member] = deque()
        self._slot_count = slot_count

    def add(self, job: Member) -> None:
        """A request has come."""
        self.waiting.append(job)

    def next(self, running_count: int, now_s: float) -> list[Member]:
        """Those that enter now."""
        del now_s
        free_count = max(0, self._slot_count - running_count)
        return [self.waiting.popleft() for _ in range(min(free_count, len(self.waiting)))]


class StaticBatches:
    """A batch enters when the one before it is over, once all of it has come or `gather_s` after its first request.

    Of several that may, the one whose first request came first. Requests beyond the slots enter after the others.
    """

    def __init__(self, slot_count: int, gather_s: float) -> None:
        self.waiting: deque[Member] = deque()
        self._slot_count = slot_count
        self._gather_s = gather_s
        self._come: dict[str, int] = {}

    def add(self, job: Member) -> None:
        """A request has come; one that leaves again is not waited for."""
        self.waiting.append(job)
        if job.batch_id:
            self._come[job.batch_id] = self._come.get(job.batch_id, 0) + 1

    def put_back(self, jobs: list[Member]) -> None:
        """A batch for which the memory was too small comes back as two, in front; nobody else joins them."""
        half = (len(jobs) + 1) // 2
        for name, part in (("b", jobs[half:]), ("a", jobs[:half])):
            for job in reversed(part):
                job.batch_id, job.batch_count = f"{job.batch_id}/{name}", len(part)
                self._come[job.batch_id] = len(part)
                self.waiting.appendleft(job)

    def next(self, running_count: int, now_s: float) -> list[Member]:
        """Those that enter now: one batch, or nobody."""
        batch = [] if running_count else next((one for one in self._batches() if self._may(one, now_s)), [])
        batch = batch[: self._slot_count]
        for job in batch:
            self.waiting.remove(job)
        if not self.waiting:
            self._come.clear()
        return batch

    def _may(self, batch: list[Member], now_s: float) -> bool:
        first = batch[0]
        is_whole = not first.batch_id or self._come.get(first.batch_id, 0) >= first.batch_count
        return is_whole or now_s - first.came_s >= self._gather_s

    def _batches(self) -> Iterable[list[Member]]:
        found: dict[object, list[Member]] = {}
        for job in self.waiting:
            found.setdefault(job.batch_id or id(job), []).append(job)
        return found.values()
