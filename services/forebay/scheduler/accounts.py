"""What tenants and sessions were served, kept for whoever ranks held requests by it."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forebay.core.values import InferenceRequest
from forebay.scheduler.policy.orderer.base import OUTPUT_WEIGHT, Keys, Standing

IDLE_MAX = 10_000
"""Most names that are remembered while they neither wait nor run, of each model's tenants and of all sessions."""
SIZE_MIN = 16


class Counters:
    """Numbers by name in arrays: a name has a code for as long as it is in use, and longer while there is room.

    Code 0 is nobody's and counts nothing. What is forgotten begins at 0 when it comes again. `served`, `charged` and
    `waited_us` are the rows of `standing` for reading and writing one number, in a third of the time.
    """

    served: "memoryview[float]"
    charged: "memoryview[float]"
    waited_us: "memoryview[float]"

    def __init__(self, idle_max: int = IDLE_MAX) -> None:
        self._idle_max = idle_max
        self._codes: dict[str, int] = {}
        self._use_counts: dict[str, int] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._free = list(range(SIZE_MIN - 1, 0, -1))
        self._set(np.zeros((3, SIZE_MIN)))

    def __len__(self) -> int:
        return len(self._codes)

    def served_of(self, name: str) -> float:
        """What the name was served, 0 where it has no code."""
        code = self._codes.get(name)
        return 0.0 if code is None else self.served[code]

    def use(self, name: str) -> int:
        """The code of a name, which it keeps until every use was let go."""
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = self._new_code()
        count = self._use_counts.get(name, 0)
        self._use_counts[name] = count + 1
        if not count:
            self._idle.pop(name, None)
        return code

    def let_go(self, name: str) -> None:
        """Ends one use."""
        self._use_counts[name] -= 1
        if self._use_counts[name]:
            return
        del self._use_counts[name]
        self._idle[name] = None
        if len(self._idle) > self._idle_max:
            forgotten, _ = self._idle.popitem(last=False)
            code = self._codes.pop(forgotten)
            self.served[code] = self.charged[code] = self.waited_us[code] = 0.0
            self._free.append(code)

    def _new_code(self) -> int:
        if not self._free:
            values = np.stack(self.standing)
            size = values.shape[1]
            self._free = list(range(2 * size - 1, size - 1, -1))
            self._set(np.concatenate((values, np.zeros_like(values)), axis=1))
        return self._free.pop()

    def _set(self, values: Keys) -> None:
        self.served, self.charged, self.waited_us = (row.data for row in values)
        rows = values.view()
        rows.flags.writeable = False
        self.standing = Standing(*rows)


class TenantCounters:
    """The virtual token counters of one model's tenants.

    A tenant that begins to wait is lifted to the least counter of those that wait, or to that of the last one that did:
    what it did not use while it was away is not saved up (VTC, Sheng et al., OSDI'24, algorithm 2).
    """

    def __init__(self, idle_max: int = IDLE_MAX) -> None:
        self.counters = Counters(idle_max)
        self._waiting: dict[int, int] = {}
        self._last = ("", self.counters.use(""))

    def enter(self, tenant: str) -> int:
        """A request of the tenant begins to wait; gives the tenant's code."""
        code = self.counters.use(tenant)
        if code not in self._waiting:
            self._lift(code)
        self._waiting[code] = self._waiting.get(code, 0) + 1
        return code

    def leave(self, tenant: str, code: int) -> None:
        """A request of the tenant waits no more."""
        self._waiting[code] -= 1
        if not self._waiting[code]:
            del self._waiting[code]
            # The use that ends here goes on as that of the last one, so that its counter stays.
            tenant, self._last = self._last[0], (tenant, code)
        self.counters.let_go(tenant)

    def start(self, tenant: str) -> int:
        """A request of the tenant starts; one that was never held passes the queue in no time."""
        code = self.counters.use(tenant)
        if code not in self._waiting and code != self._last[1]:
            self.leave(tenant, self.enter(tenant))
        return code

    def _lift(self, code: int) -> None:
        counters, others = self.counters, self._waiting or (self._last[1],)
        counters.served[code] = max(counters.served[code], min(counters.served[other] for other in others))
        counters.charged[code] = max(counters.charged[code], min(counters.charged[other] for other in others))


@dataclass(slots=True)
class Running:
    """One request that runs: where its service is counted, and how far that is."""

    counters: Counters
    tenant: str
    code: int
    session: str
    session_code: int
    unit: float
    charged_tokens: int
    served_tokens: int = 0


class Accounts:
    """Follows every request from its arrival to its end; the sum of the counters is the work that was done.

    `weights` divide the service of a tenant: with weight 2 it gets twice the share. Tenants are counted by model,
    sessions over all models.
    """

    def __init__(self, weights: Mapping[str, float] | None = None, idle_max: int = IDLE_MAX) -> None:
        self._weights = weights or {}
        self._idle_max = idle_max
        self._tenants: dict[str, TenantCounters] = {}
        self._sessions = Counters(idle_max)
        self._running: dict[str, Running] = {}

    def tenants(self, model: str) -> Standing:
        """What the model's tenants were served."""
        return self._of_model(model).counters.standing

    @property
    def sessions(self) -> Standing:
        """What all sessions were served."""
        return self._sessions.standing

    def tenant_served(self, model: str, tenant: str) -> float:
        """Weighted tokens that the tenant was served of the model, 0 for one that nobody remembers."""
        found = self._tenants.get(model)
        return found.counters.served_of(tenant) if found else 0.0

    def enter(self, request: InferenceRequest) -> tuple[int, int]:
        """A request begins to wait; gives the codes of its tenant and its session."""
        tenant_code = self._of_model(request.model).enter(request.tenant)
        return tenant_code, self._sessions.use(_program(request)) if request.session else 0

    def leave(self, request: InferenceRequest, tenant_code: int) -> None:
        """A request that waited does so no more, for whatever reason."""
        self._of_model(request.model).leave(request.tenant, tenant_code)
        if request.session:
            self._sessions.let_go(_program(request))

    def start(self, lease_id: str, request: InferenceRequest, predicted_tokens: int, held_us: int) -> None:
        """A request starts: its prompt counts now, and its answer as predicted is charged ahead."""
        tenants, tenant = self._of_model(request.model), request.tenant
        code, unit = tenants.start(tenant), 1 / self._weights.get(tenant, 1.0)
        counters, prompt_tokens = tenants.counters, request.prompt_tokens
        counters.served[code] += prompt_tokens * unit
        counters.charged[code] += (prompt_tokens + OUTPUT_WEIGHT * predicted_tokens) * unit
        session, session_code = "", 0
        if request.session:
            session = _program(request)
            session_code = self._sessions.use(session)
            self._sessions.served[session_code] += prompt_tokens
            self._sessions.waited_us[session_code] += held_us
        self._running[lease_id] = Running(counters, tenant, code, session, session_code, unit, predicted_tokens)

    def serve(self, lease_id: str, tokens: int) -> None:
        """A running request has so many tokens of its answer more; what was not charged ahead is charged now."""
        one = self._running[lease_id]
        one.served_tokens += tokens
        one.counters.served[one.code] += OUTPUT_WEIGHT * tokens * one.unit
        more = one.served_tokens - one.charged_tokens
        if more > 0:
            one.charged_tokens = one.served_tokens
            one.counters.charged[one.code] += OUTPUT_WEIGHT * more * one.unit
        if one.session_code:
            self._sessions.served[one.session_code] += OUTPUT_WEIGHT * tokens

    def end(self, lease_id: str) -> None:
        """A request ends: what was charged ahead and did not come is given back."""
        one = self._running.pop(lease_id)
        spare = one.charged_tokens - one.served_tokens
        one.counters.charged[one.code] -= OUTPUT_WEIGHT * spare * one.unit
        one.counters.let_go(one.tenant)
        if one.session_code:
            self._sessions.let_go(one.session)

    def _of_model(self, model: str) -> TenantCounters:
        found = self._tenants.get(model)
        if found is None:
            found = self._tenants[model] = TenantCounters(self._idle_max)
        return found


def _program(request: InferenceRequest) -> str:
    """The name of a session: two tenants may give theirs the same."""
    return f"{request.tenant}\n{request.session}"
