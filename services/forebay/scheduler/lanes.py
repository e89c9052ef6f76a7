"""The instances of one model side by side in arrays, so that a router compares a thousand of them in microseconds."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from forebay.core.values import Batching, Instance, InstanceLoad, InstanceRole, SloClass
from forebay.scheduler.anticipator import Anticipators
from forebay.scheduler.leases import Lease
from forebay.scheduler.policy.grouper.base import Room
from forebay.scheduler.policy.puller.base import UNLIMITED
from forebay.scheduler.policy.router.base import KV_TOKENS_UNKNOWN, Ints, Mask, Observed

N = TypeVar("N", bound=np.generic)

NEVER_SEEN_US = -1
"""Before any time: everything on the instance was put there since."""

BATCH_COUNT_MAX = 4_096
"""Requests of a batch that the contract allows."""

COUNTED = (
    "in_flight_count",
    "predicted_tokens",
    "prompt_tokens_in_flight",
    "prompt_tokens_pending",
    "unseen_count",
    "unseen_prompt_tokens",
    "deferred_count",
    "released_count",
)
"""What is counted of each instance, a row each."""


class Standing(NamedTuple):
    """What all requests see alike until the fleet changes or is seen anew; `blocked` says why, empty where not."""

    instance_ids: tuple[str, ...]
    blocked: tuple[str, ...]
    contexts: Ints
    concurrency_cap: npt.NDArray[np.int32]
    observed: Observed
    regions: tuple[str, ...]
    roles: tuple[InstanceRole, ...]


class Lanes:
    """Arrays by instance in the order of ids, kept up to date with every lease.

    `standing` and `eligible` are replaced and never changed in place, so whoever keeps one keeps a moment. `last_id` is
    the instance that the last request got, and `turn_index` the one after it. `batched`: all instances run static
    batches, so requests are placed batch by batch; where only some do, they are placed one by one. `leases` are those
    of each instance by name, in the order in which they came there.
    """

    def __init__(self, instances: Sequence[Instance], loads: Sequence[InstanceLoad | None], last_id: str = "") -> None:
        self.instances = list(instances)
        self.ids = tuple(one.instance_id for one in instances)
        self.last_id = last_id
        self.turn_index = turn_after(self.ids, last_id)
        contexts = _frozen(np.array([one.context_tokens_max or UNLIMITED for one in instances], dtype=np.int64))
        self.context_min = int(contexts.min(initial=UNLIMITED))
        self.context_max = int(contexts.max(initial=0))
        self._room = _frozen(np.array([one.kv_tokens_max or KV_TOKENS_UNKNOWN for one in instances], dtype=np.int64))
        caps = _frozen(np.zeros(len(self.ids), dtype=np.int32))
        regions, roles = tuple(one.region for one in instances), tuple(one.role for one in instances)
        self.standing = Standing(self.ids, (), contexts, caps, _observed(loads, self._room), regions, roles)
        self.seen_us = [NEVER_SEEN_US] * len(self.ids)
        self.tokens_total = 0
        self._counts = np.zeros((len(COUNTED), len(self.ids)), dtype=np.int64)
        # A memoryview reads and writes one number in half the time that an array takes.
        rows = [row.data for row in self._counts]
        self._in_flight, self._tokens, self._prompt, self._pending, self._unseen, self._unseen_prompt = rows[:6]
        self._deferred, self._released = rows[6:8]
        self._is_released = False
        self._generated = [0] * len(self.ids)
        self.leases: list[dict[str, Lease]] = [{} for _ in self.ids]
        self.anticipations = Anticipators(self.leases)
        self.batched = bool(instances) and all(one.batching is Batching.STATIC for one in instances)
        self.ready_count = 0
        self.eligible: Mask = _frozen(np.zeros(len(self.ids), dtype=np.bool_))
        self.eligible_count = 0
        self._cap: list[int] = [0] * len(self.ids)
        self._peak: list[int] = [0] * len(self.ids)

    def refresh(self, blocked: Sequence[str], caps: Sequence[int]) -> bool:
        """Takes why each instance is blocked, empty where it is not, and how many requests each may run.

        Says whether anything changed.
        """
        blocked, self._cap, before = tuple(blocked), [min(max(cap, 0), UNLIMITED) for cap in caps], self._cap
        if blocked == self.standing.blocked and self._cap == before:
            return False
        cap_array = _frozen(np.array(self._cap, dtype=np.int32))
        self.standing = self.standing._replace(blocked=blocked, concurrency_cap=cap_array)
        is_open = np.array([not reason for reason in blocked], dtype=np.bool_)
        self.ready_count = int(is_open.sum())
        self.eligible = _frozen(is_open & (self._counts[0] < cap_array))
        self.eligible_count = int(self.eligible.sum())
        return True

    def observe(self, loads: Sequence[InstanceLoad | None], now_us: int) -> None:
        """Takes what was seen of each instance, None where nothing was, and counts nothing as put there since.

        Where nobody tells what an instance holds, all that is in flight there goes on counting as put there since.
        """
        observed = _observed(loads, self._room)
        self.standing, told = self.standing._replace(observed=observed), observed.told.tolist()
        self.seen_us = [
            (load.seen_us or now_us) if load is not None and tells else NEVER_SEEN_US
            for load, tells in zip(loads, told, strict=True)
        ]
        for index, tells in enumerate(told):
            self._unseen[index] = 0 if tells else self._in_flight[index]
            self._unseen_prompt[index] = 0 if tells else self._prompt[index]

    def add_unseen(self, index: int, lease: Lease) -> None:
        """Counts a lease as put on the instance since it was seen."""
        self._unseen[index] += 1
        self._unseen_prompt[index] += lease.request.prompt_tokens

    def open(self, index: int, lease: Lease) -> None:
        """Counts a lease that has not moved on yet."""
        prompt_tokens = lease.request.prompt_tokens
        self.leases[index][lease.placement.lease_id] = lease
        self.anticipations.open(index, lease)
        self._tokens[index] += lease.remaining_tokens
        self._generated[index] += lease.generated_tokens
        self.tokens_total += lease.remaining_tokens
        self._prompt[index] += prompt_tokens
        self._pending[index] += prompt_tokens
        if lease.request.slo_class is SloClass.DEFERRED:
            self._deferred[index] += 1
            self._released[index] += 1
            self._is_released = True
        if lease.opened_us >= self.seen_us[index]:
            self.add_unseen(index, lease)
        self._in_flight[index] = in_flight = self._in_flight[index] + 1
        if in_flight > self._peak[index]:
            self._peak[index] = in_flight
        if in_flight == self._cap[index] and not self.standing.blocked[index]:
            self._turn(index, False)

    def start(self, index: int, lease: Lease) -> None:
        """A lease gave its first token: its prompt is done."""
        self._pending[index] -= lease.request.prompt_tokens

    def move(self, index: int, lease: Lease, new: int, tokens: int) -> None:
        """A lease has so many `new` tokens, which changes the predicted tokens of its instance by `tokens`."""
        self._generated[index] += new
        self._tokens[index] += tokens
        self.tokens_total += tokens
        self.anticipations.progress(index, lease)

    def end(self, index: int, lease: Lease) -> None:
        """Takes a lease off."""
        prompt_tokens = lease.request.prompt_tokens
        del self.leases[index][lease.placement.lease_id]
        self.anticipations.end(index, lease)
        self._tokens[index] -= lease.remaining_tokens
        self._generated[index] -= lease.generated_tokens
        self.tokens_total -= lease.remaining_tokens
        self._prompt[index] -= prompt_tokens
        if not lease.generated_tokens:
            self._pending[index] -= prompt_tokens
        if lease.request.slo_class is SloClass.DEFERRED:
            self._deferred[index] -= 1
        if self._is_released:
            self._forget_released(self.standing.regions[index])
        if lease.opened_us >= self.seen_us[index]:
            self._unseen[index] -= 1
            self._unseen_prompt[index] -= prompt_tokens
        in_flight = self._in_flight[index]
        self._in_flight[index] = in_flight - 1
        if in_flight == self._cap[index] and not self.standing.blocked[index]:
            self._turn(index, True)

    def review(self) -> None:
        """Held requests are looked at anew: what was released counts from now."""
        self._counts[COUNTED.index("released_count")] = 0
        self._is_released = False

    def take(self, index: int, other: "Lanes", other_index: int) -> None:
        """Takes over what was counted of an instance elsewhere; `refresh` must follow."""
        self._counts[:, index] = other._counts[:, other_index]
        self.anticipations.take(index, other.anticipations, other_index)
        self.leases[index].update(other.leases[other_index])
        self.tokens_total += other._tokens[other_index]
        self._generated[index] = other._generated[other_index]
        self._peak[index] = other._peak[other_index]
        self._is_released = self._is_released or other._is_released
        self.seen_us[index] = other.seen_us[other_index]

    def leases_of(self, index: int) -> Iterable[Lease]:
        """Leases on the instance."""
        return self.leases[index].values()

    def load_of(self, index: int) -> tuple[int, int]:
        """Leases on the instance and their predicted tokens."""
        return self._in_flight[index], self._tokens[index]

    def cap_of(self, index: int) -> int:
        """Most requests that the instance may run."""
        return self._cap[index]

    def kv_count_max(self, index: int) -> int:
        """How many requests such as those in flight fit into the instance's cache; 0 where that is not known."""
        tokens = self._prompt[index] + self._tokens[index] + self._generated[index]
        return self.instances[index].kv_tokens_max * self._in_flight[index] // tokens if tokens > 0 else 0

    def held_tokens(self) -> tuple[Ints, Ints]:
        """Of each instance, the prompts of all requests in flight, and the tokens that these have generated."""
        return self._counts[COUNTED.index("prompt_tokens_in_flight")].copy(), np.array(self._generated, dtype=np.int64)

    def take_peak(self, index: int) -> int:
        """The most requests in flight since this was last asked."""
        peak, self._peak[index] = self._peak[index], self._in_flight[index]
        return peak

    def counts(self) -> Ints:
        """A read-only copy of what is counted, a row for each of COUNTED."""
        return _frozen(self._counts.copy())

    def eligible_for(self, excluded: frozenset[str], context_tokens: int) -> Mask:
        """Read-only: which instances may get a request of so many tokens that must not go to the excluded ones."""
        if not excluded and context_tokens <= self.context_min:
            return self.eligible
        mask = self.eligible & (self.standing.contexts >= context_tokens)
        mask[[index for index, instance_id in enumerate(self.ids) if instance_id in excluded]] = False
        return _frozen(mask)

    def idle_for(self, excluded: frozenset[str], context_tokens: int) -> Mask:
        """Read-only: which of these have nothing in flight, so that a batch may start there."""
        return _frozen(self.eligible_for(excluded, context_tokens) & (self._counts[0] == 0))

    def batch_room(self) -> Room:
        """What any of the instances holds; there must be one."""
        context_tokens = 0 if self.context_max == UNLIMITED else self.context_max
        request_count = min([cap for cap in self._cap if cap], default=1)
        return Room(int(self._room.min()), context_tokens, min(request_count, BATCH_COUNT_MAX))

    def pass_turn(self, index: int) -> None:
        """The instance got a request: a rotation goes on with the next one."""
        self.last_id = self.ids[index]
        self.turn_index = (index + 1) % len(self.ids)

    def _forget_released(self, region: str) -> None:
        for index, where in enumerate(self.standing.regions):
            if where == region:
                self._released[index] = 0
        self._is_released = any(self._released)

    def _turn(self, index: int, eligible: bool) -> None:
        mask = self.eligible.copy()
        mask[index] = eligible
        self.eligible = _frozen(mask)
        self.eligible_count += 1 if eligible else -1


def turn_after(instance_ids: Sequence[str], last_id: str) -> int:
    """Index at which a rotation goes on after `last_id`, which may be gone."""
    return bisect_right(instance_ids, last_id) % max(1, len(instance_ids))


def _observed(loads: Sequence[InstanceLoad | None], room: Ints) -> Observed:
    rows = [_row(load) if load is not None else (0.0, 0.0, 0.0, 0.0) for load in loads]
    told, running, waiting, used = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return Observed(
        _frozen(told > 0), _frozen(running.astype(np.int64)), _frozen(waiting.astype(np.int64)), _frozen(used), room
    )


def _row(load: InstanceLoad) -> tuple[float, float, float, float]:
    tells = load.kv_utilization is not None or load.waiting_count is not None
    return tells, load.running_count or 0, load.waiting_count or 0, load.kv_utilization or 0.0


def _frozen(array: npt.NDArray[N]) -> npt.NDArray[N]:
    array.setflags(write=False)
    return array
