"""The held requests of one model, in columns that orderers rank."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.values import InferenceRequest, LengthQuantiles, SloClass
from forebay.scheduler.accounts import Accounts
from forebay.scheduler.deadlines import Deadlines
from forebay.scheduler.policy.orderer.base import Keys, Orderer, OrderView

ROWS = (
    "arrived_us",
    "deadline_us",
    "predicted_tokens",
    "prompt_tokens",
    "slo_class",
    "due_us",
    "p90_tokens",
    "tokens_max",
    "is_due_whole",
    "tenant_code",
    "session_code",
    "sequence",
    "p10_tokens",
    "p97_tokens",
    "region_code",
)
SEQUENCE = ROWS.index("sequence")
"""Orderers see what stands before it."""
ARRIVED = ROWS.index("arrived_us")
SLO_CLASS = ROWS.index("slo_class")
DUE = ROWS.index("due_us")
LENGTHS = [ROWS.index(name) for name in ("p10_tokens", "predicted_tokens", "p90_tokens", "p97_tokens")]
WORK = [ROWS.index(name) for name in ("slo_class", "region_code", "due_us", "arrived_us", "prompt_tokens")]
UNPLANNED = -1.0
"""The rank of a request that no plan knows."""
TENANT = ROWS.index("tenant_code")
Column: TypeAlias = npt.NDArray[np.int64]
SORT_AFTER = 8
"""How many are picked one by one before the rest is sorted: most passes end early, and sorting thousands costs."""


class Held(NamedTuple):
    """One request that waits or is just being placed; `tokens_max` is its limit with the model's context counted in.

    It may be held until `deadline_us`; its first token, of deferred work its whole answer, is due at `due_us`.
    """

    request: InferenceRequest
    quantiles: LengthQuantiles
    predicted_by: str
    gateway_id: str
    tokens_max: int
    context_tokens: int
    arrived_us: int
    deadline_us: int
    sequence: int
    due_us: int = 0
    mean_tokens: float = 0.0
    rank_score: float = 0.0


class HeldWork(NamedTuple):
    """What held requests are, an entry each: arrays of integers, and `lengths` with a row for each quantile.

    `region_code` counts along `regions`.
    """

    slo_class: Column
    region_code: Column
    due_us: Column
    arrived_us: Column
    prompt_tokens: Column
    lengths: Column
    regions: tuple[str, ...]


class HeldQueue:
    """Held requests in no order; a removed one is replaced by the last, so that columns stay dense."""

    def __init__(self, accounts: Accounts | None = None) -> None:
        self.predicted_tokens = 0
        self._accounts = accounts or Accounts()
        self._columns = np.zeros((len(ROWS), 16), dtype=np.int64)
        self._rank_scores = np.zeros(16)
        self._planned: npt.NDArray[np.float64] | None = None
        self._entries: list[Held] = []
        self._requests: list[InferenceRequest] = []
        self._index: dict[str, int] = {}
        self._regions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, request_id: str) -> Held | None:
        """The held request of this id."""
        index = self._index.get(request_id)
        return None if index is None else self._entries[index]

    def entries(self) -> list[Held]:
        """All held requests, by arrival."""
        return sorted(self._entries, key=lambda held: held.sequence)

    def oldest_us(self) -> int | None:
        """When the oldest arrived."""
        return int(self._columns[0, : len(self)].min()) if self._entries else None

    def work(self) -> HeldWork:
        """What all held requests are, in no order; copies."""
        columns = self._columns[:, : len(self)]
        slo_class, region_code, due_us, arrived_us, prompt_tokens = columns[WORK]
        regions = tuple(self._regions)
        return HeldWork(slo_class, region_code, due_us, arrived_us, prompt_tokens, columns[LENGTHS], regions)

    def push(self, held: Held) -> None:
        """Holds a request that is not held."""
        index = len(self._entries)
        if index == self._columns.shape[1]:
            self._columns = np.concatenate((self._columns, np.zeros_like(self._columns)), axis=1)
            self._rank_scores = np.concatenate((self._rank_scores, np.zeros_like(self._rank_scores)))
            if self._planned is not None:
                self._planned = np.concatenate((self._planned, np.zeros_like(self._planned)))
        median, request = held.quantiles.p50, held.request
        self._columns[:, index] = (
            held.arrived_us,
            held.deadline_us,
            median,
            request.prompt_tokens,
            request.slo_class,
            held.due_us,
            held.quantiles.p90,
            held.tokens_max,
            request.deadline_us > 0 or request.slo_class is SloClass.DEFERRED,
            *self._accounts.enter(request),
            held.sequence,
            held.quantiles.p10,
            held.quantiles.p97,
            self._regions.setdefault(request.region, len(self._regions)),
        )
        self._rank_scores[index] = held.rank_score
        if self._planned is not None:
            self._planned[index] = UNPLANNED
        self._entries.append(held)
        self._requests.append(request)
        self._index[request.request_id] = index
        self.predicted_tokens += median

    def remove(self, request_id: str) -> Held:
        """Lets a held request go."""
        index = self._index.pop(request_id)
        held, last, last_request = self._entries[index], self._entries.pop(), self._requests.pop()
        self._accounts.leave(held.request, int(self._columns[TENANT, index]))
        if last is not held:
            self._entries[index], self._requests[index] = last, last_request
            self._index[last.request.request_id] = index
            self._columns[:, index] = self._columns[:, len(self._entries)]
            self._rank_scores[index] = self._rank_scores[len(self._entries)]
            if self._planned is not None:
                self._planned[index] = self._planned[len(self._entries)]
        self.predicted_tokens -= held.quantiles.p50
        return held

    def plan(self, ranks: Mapping[str, int]) -> None:
        """Takes the rank of each request that is planned; without any there is no plan."""
        known = {self._index[request_id]: rank for request_id, rank in ranks.items() if request_id in self._index}
        self._planned = np.full(self._columns.shape[1], UNPLANNED) if known else None
        if self._planned is not None:
            self._planned[list(known)] = list(known.values())

    def soonest(self, width_us: int, count: int) -> list[Held]:
        """So many requests, those first that are due within the first `width_us`, then by class and arrival."""
        due, classes, sequence = self._columns[[DUE, SLO_CLASS, SEQUENCE], : len(self)]
        order = np.lexsort((sequence, classes, due // width_us))
        return [self._entries[index] for index in order[:count].tolist()]

    def first(self, orderer: Orderer, now_us: int) -> Held:
        """The request that is next; there must be one."""
        if len(self._entries) == 1:
            return self._entries[0]
        keys = orderer.rank(self._view(now_us))
        ties = np.flatnonzero(keys == keys.min())
        return self._entries[int(ties[self._columns[SEQUENCE, ties].argmin()])]

    def count_ahead(self, orderer: Orderer, held: Held, now_us: int) -> int:
        """How many would be served before a request that is not held, were it held too."""
        self.push(held)
        keys = orderer.rank(self._view(now_us))
        self.remove(held.request.request_id)
        # It is the newest: of equal keys all the others go first.
        return int(np.count_nonzero(keys[:-1] <= keys[-1]))

    def ranked(self, orderer: Orderer, now_us: int) -> "Ranked":
        """All held requests as they are now, the next one first."""
        columns = self._columns[:, : len(self)]
        picked = columns[[SEQUENCE, ARRIVED, SLO_CLASS]]
        return Ranked(self._entries.copy(), np.array(orderer.rank(self._view(now_us)), dtype=np.float64), picked)

    def _view(self, now_us: int) -> OrderView:
        columns, rank_scores = self._columns[:, : len(self)], self._rank_scores[: len(self)]
        columns.flags.writeable = rank_scores.flags.writeable = False
        accounts, requests, planned = self._accounts, self._requests, None
        if self._planned is not None and (self._planned[: len(self)] != UNPLANNED).any():
            planned = self._planned[: len(self)]
            planned.flags.writeable = False
        standings = accounts.tenants(requests[0].model), accounts.sessions
        return OrderView(now_us, *columns[:SEQUENCE], rank_scores, requests, *standings, planned)  # type: ignore[call-arg]


class Ranked:
    """The held requests of one moment in their order; what is taken out of the queue meanwhile changes nothing here."""

    def __init__(self, entries: list[Held], keys: Keys, picked: npt.NDArray[np.int64]) -> None:
        self._entries = entries
        self._keys = keys
        self._sequence, self._arrived_us, self._slo_class = picked
        self._is_left = np.ones(len(entries), dtype=np.bool_)

    def __iter__(self) -> Iterator[Held]:
        left = range(min(SORT_AFTER, len(self._entries)))
        for _ in left:
            index = self._next()
            if index < 0:
                return
            self._is_left[index] = False
            yield self._entries[index]
        for index in np.lexsort((self._sequence, self._keys)).tolist():
            if self._is_left[index]:
                self._is_left[index] = False
                yield self._entries[index]

    def pass_over(self, held: Held) -> None:
        """Leaves out those of the same class that came no earlier than `held`."""
        younger = self._arrived_us >= held.arrived_us
        self._is_left[younger & (self._slo_class == held.request.slo_class)] = False

    def _next(self) -> int:
        left = np.flatnonzero(self._is_left)
        if not len(left):
            return -1
        keys = self._keys[left]
        ties = left[keys == keys.min()]
        return int(ties[self._sequence[ties].argmin()])


class Follower(Protocol):
    """Whoever keeps an order of its own of what is held of a model."""

    def add(self, held: Held) -> None:
        """A request is held from now on."""
        ...

    def leave(self, request_id: str) -> None:
        """A request is not held any more."""
        ...


class HeldBook:
    """The queues of the models that have something held, with the time until which each request may wait.

    The followers of models hear of each request that comes and goes.
    """

    def __init__(self, accounts: Accounts | None = None) -> None:
        self.accounts = accounts or Accounts()
        self.queues: dict[str, HeldQueue] = {}
        self.followers: dict[str, Follower] = {}
        self._none = HeldQueue()
        self._model_of: dict[str, str] = {}
        self.deadlines = Deadlines()

    def __len__(self) -> int:
        return len(self._model_of)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._model_of

    def of_model(self, model: str) -> HeldQueue:
        """The model's queue, which may be empty; only to be read."""
        return self.queues.get(model, self._none)

    def push(self, held: Held) -> None:
        """Holds a request that is not held."""
        request = held.request
        self._model_of[request.request_id] = request.model
        self.deadlines.set(request.request_id, held.deadline_us)
        queue = self.queues.get(request.model)
        if queue is None:
            queue = self.queues[request.model] = HeldQueue(self.accounts)
        queue.push(held)
        if request.model in self.followers:
            self.followers[request.model].add(held)

    def remove(self, request_id: str) -> Held:
        """Lets a held request go."""
        self.deadlines.drop(request_id)
        model = self._model_of.pop(request_id)
        held = self.queues[model].remove(request_id)
        if not len(self.queues[model]):
            del self.queues[model]
        if model in self.followers:
            self.followers[model].leave(request_id)
        return held

    def due(self, now_us: int) -> list[Held]:
        """Takes out the requests that have waited long enough."""
        return [self.remove(request_id) for request_id in self.deadlines.due(now_us)]
