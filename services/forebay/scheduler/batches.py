"""Static batches: those that wait to run, by model, and those that run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from forebay.core.units import US_PER_S
from forebay.scheduler.leases import Lease
from forebay.scheduler.policy.grouper.base import NEW_BATCH, Batches, Grouper, JoinView, Mask, PickView, Room, reads_of
from forebay.scheduler.queue import Held
from forebay.scheduler.serving_times import ServingTimes

ROWS = ("request_count", "prompt_max", "answer_max", "reads_min", "reads_sum", "oldest_us", "mean_us")


class WaitingBatches:
    """The batches of one model that wait; every request that was added is in exactly one of them until it leaves.

    Requests join in the order in which they were added, when `join` is called. Those that instances have failed before
    share batches only with others that were failed by the same ones, so that nobody else has to avoid these.
    """

    def __init__(self) -> None:
        self._fresh: dict[str, Held] = {}
        self._members: list[dict[str, Held]] = []
        self._excluded: list[frozenset[str]] = []
        self._batch_of: dict[str, dict[str, Held]] = {}
        self._columns = np.zeros((len(ROWS), 16), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._members)

    def members(self) -> list[list[str]]:
        """The requests of each batch."""
        return [list(batch) for batch in self._members]

    def add(self, held: Held) -> None:
        """A request is held that is not in here."""
        self._fresh[held.request.request_id] = held

    def leave(self, request_id: str) -> None:
        """A request is not held any more; a batch without requests is gone."""
        batch = self._batch_of.pop(request_id, None)
        if batch is None:
            self._fresh.pop(request_id, None)
            return
        del batch[request_id]
        index = next(index for index, known in enumerate(self._members) if known is batch)
        if batch:
            self._columns[:, index] = _row(batch)
        else:
            del self._members[index], self._excluded[index]
            self._columns[:, index:-1] = self._columns[:, index + 1 :]

    def join(self, grouper: Grouper, room: Room) -> None:
        """Puts those that were added since into batches."""
        fresh, self._fresh = self._fresh, {}
        for held in fresh.values():
            index = grouper.join(self._view(held, room))
            if index == NEW_BATCH:
                index = self._open(held.request.excluded_instance_ids)
            batch = self._members[index]
            batch[held.request.request_id] = held
            self._batch_of[held.request.request_id] = batch
            self._columns[:, index] = self._grown(index, held)

    def pick(self, grouper: Grouper, times: ServingTimes, now_us: int) -> int:
        """The batch that is next; there must be one."""
        if len(self) == 1:
            return 0
        batches = self._batches(self._closed_to(None))
        serving_s = times.estimate(batches.request_count, batches.prompt_max, batches.answer_max)
        return grouper.pick(PickView(now_us, batches, serving_s))

    def of(self, index: int) -> list[Held]:
        """The requests of a batch, in the order in which they joined."""
        return list(self._members[index].values())

    def _open(self, excluded: frozenset[str]) -> int:
        if len(self._members) == self._columns.shape[1]:
            self._columns = np.concatenate((self._columns, np.zeros_like(self._columns)), axis=1)
        self._members.append({})
        self._excluded.append(excluded)
        self._columns[:, len(self._members) - 1] = 0
        return len(self._members) - 1

    def _grown(self, index: int, held: Held) -> tuple[int, ...]:
        """The columns of a batch that the request has just joined, from what they were before."""
        count, prompt, answer, least, reads_sum, oldest_us, mean_us = self._columns[:, index].tolist()
        if not count:
            return _row(self._members[index])
        reads = reads_of(held.request.prompt_tokens, held.quantiles.p50)
        return (
            count + 1,
            max(prompt, held.request.prompt_tokens),
            max(answer, held.quantiles.p50),
            min(least, reads),
            reads_sum + reads,
            min(oldest_us, held.arrived_us),
            mean_us + (held.arrived_us - mean_us) // (count + 1),
        )

    def _view(self, held: Held, room: Room) -> JoinView:
        closed = self._closed_to(held.request.excluded_instance_ids)
        return JoinView(held.request.prompt_tokens, held.quantiles.p50, self._batches(closed), room)

    def _closed_to(self, excluded: frozenset[str] | None) -> Mask:
        """Which batches avoid other instances than these; none of them for None."""
        if excluded is None:
            return np.zeros(len(self), dtype=np.bool_)
        return np.fromiter((known != excluded for known in self._excluded), np.bool_, len(self))

    def _batches(self, closed: Mask) -> Batches:
        columns = self._columns[:, : len(self)]
        columns.flags.writeable = closed.flags.writeable = False
        return Batches(*columns, closed=closed)  # type: ignore[misc]


def _row(batch: Mapping[str, Held]) -> tuple[int, ...]:
    """The columns of a batch, from its requests."""
    prompts = [held.request.prompt_tokens for held in batch.values()]
    answers = [held.quantiles.p50 for held in batch.values()]
    reads = [reads_of(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    came_us = [held.arrived_us for held in batch.values()]
    return (
        len(batch),
        max(prompts),
        max(answers),
        min(reads),
        sum(reads),
        min(came_us),
        sum(came_us) // len(batch),
    )


@dataclass(slots=True)
class _Running:
    """A batch that runs: when it began, and what is known of it by now; `is_whole` while every answer ended well."""

    began_us: int
    request_count: int
    prompt_max: int = 0
    answer_max: int = 0
    is_whole: bool = True
    lease_ids: set[str] = field(default_factory=set)


class RunningBatches:
    """Follows the batches that run by their leases, and learns how long those take that end well."""

    def __init__(self, times: ServingTimes) -> None:
        self._times = times
        self._running: dict[str, _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def opened(self, lease: Lease) -> None:
        """A lease of a batch began."""
        placement = lease.placement
        running = self._running.get(placement.batch_id)
        if running is None:
            running = self._running[placement.batch_id] = _Running(lease.opened_us, placement.batch_count)
        running.prompt_max = max(running.prompt_max, lease.request.prompt_tokens)
        running.lease_ids.add(placement.lease_id)

    def ended(self, lease: Lease, ended_well: bool, now_us: int) -> None:
        """A lease of a batch ended; with the last of them the batch has."""
        batch_id = lease.placement.batch_id
        running = self._running[batch_id]
        running.lease_ids.discard(lease.placement.lease_id)
        running.answer_max = max(running.answer_max, lease.generated_tokens)
        running.is_whole &= ended_well
        if running.lease_ids:
            return
        del self._running[batch_id]
        if running.is_whole and now_us > running.began_us:
            seconds = (now_us - running.began_us) / US_PER_S
            self._times.learn(running.request_count, running.prompt_max, running.answer_max, seconds, now_us)
