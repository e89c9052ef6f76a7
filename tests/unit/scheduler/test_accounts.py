"""Counters of tenants and sessions.

SUM: the counters are all the work that was done, and without open requests nothing is charged ahead.
BOUND: of two tenants that both always wait, the served differ by no more than max(prompt, 2 * answer) allows (VTC).
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.values import InferenceRequest
from forebay.scheduler.accounts import Accounts, Counters, TenantCounters
from forebay.scheduler.policy.orderer.base import OUTPUT_WEIGHT
from forebay.scheduler.policy.orderer.vtc import Vtc
from forebay.scheduler.queue import Held, HeldQueue
from tests.unit.scheduler.kit import prediction, request

S = 1_000_000


def held(name: str, tenant: str, sequence: int, prompt: int = 10, tokens: int = 50) -> Held:
    quantiles = prediction(tokens).quantiles
    return Held(request(name, prompt=prompt, tenant=tenant), quantiles, "test@1", "", 0, 1, sequence, 9 * S, sequence)


SERVED, CHARGED = 0, 1


def served(accounts: Accounts, tenant: str, row: int = SERVED) -> float:
    code, _ = accounts.enter(one := request(tenant=tenant))
    accounts.leave(one, code)
    return float(accounts.tenants("m")[row][code])


def run(accounts: Accounts, lease: str, one: InferenceRequest, tokens: int, predicted: int = 50) -> None:
    accounts.start(lease, one, predicted, 0)
    accounts.serve(lease, tokens)
    accounts.end(lease)


def test_a_prompt_counts_when_it_starts_and_a_token_of_the_answer_twice_when_it_comes() -> None:
    accounts = Accounts()
    accounts.start("l1", request(prompt=100, tenant="a"), 50, 0)
    assert served(accounts, "a") == 100
    accounts.serve("l1", 7)
    assert served(accounts, "a") == 114
    accounts.end("l1")
    assert served(accounts, "a") == 114


def test_an_answer_is_charged_as_predicted_and_settled_at_its_end() -> None:
    accounts = Accounts()
    accounts.start("l1", request(prompt=100, tenant="a"), 50, 0)
    assert served(accounts, "a", CHARGED) == 200
    accounts.serve("l1", 30)
    assert served(accounts, "a", CHARGED) == 200
    accounts.end("l1")
    assert served(accounts, "a", CHARGED) == 160


def test_an_answer_longer_than_predicted_is_charged_as_it_grows() -> None:
    accounts = Accounts()
    accounts.start("l1", request(prompt=100, tenant="a"), 50, 0)
    accounts.serve("l1", 60)
    assert served(accounts, "a", CHARGED) == 220
    accounts.end("l1")
    assert served(accounts, "a", CHARGED) == served(accounts, "a") == 220


def test_weights_divide_the_service_of_a_tenant() -> None:
    accounts = Accounts({"a": 4.0})
    run(accounts, "l1", request(prompt=100, tenant="a"), 50)
    assert served(accounts, "a") == served(accounts, "a", CHARGED) == 50


def test_a_tenant_that_returns_is_lifted_to_the_least_of_those_that_wait() -> None:
    accounts = Accounts()
    codes = {tenant: accounts.enter(request(tenant=tenant))[0] for tenant in "abc"}
    for tenant, tokens in (("a", 300), ("b", 200), ("c", 10)):
        run(accounts, tenant, request(prompt=1, tenant=tenant), tokens)
    assert served(accounts, "c") == 21
    accounts.leave(request(tenant="c"), codes["c"])
    assert served(accounts, "c") == served(accounts, "b") == 401


def test_a_tenant_that_comes_to_an_empty_queue_is_lifted_to_the_last_that_was_there() -> None:
    accounts = Accounts()
    accounts.start("l1", request(prompt=100, tenant="a"), 50, 0)
    accounts.serve("l1", 10)
    assert served(accounts, "b") == 120


def test_a_tenant_that_waits_is_not_lifted() -> None:
    accounts = Accounts()
    accounts.enter(request("r1", tenant="a"))
    run(accounts, "l1", request("r2", prompt=500, tenant="b"), 9)
    assert served(accounts, "a") == 0


def test_models_have_counters_of_their_own() -> None:
    accounts = Accounts()
    run(accounts, "l1", request(prompt=500, tenant="a", model="n"), 9)
    assert served(accounts, "a") == 0
    assert accounts.tenants("n").served.max() == 518


def test_sessions_add_up_service_and_waiting_over_models_and_only_for_their_tenant() -> None:
    accounts = Accounts()
    one = request(prompt=100, tenant="a", session="s")
    for number, (model, waited_s) in enumerate((("m", 2), ("n", 3))):
        accounts.start(f"l{number}", replace(one, model=model), 50, waited_s * S)
        accounts.serve(f"l{number}", 5)
        accounts.end(f"l{number}")
    _, code = accounts.enter(one)
    assert accounts.sessions.served[code] == 220
    assert accounts.sessions.waited_us[code] == 5 * S
    _, other = accounts.enter(replace(one, tenant="b"))
    assert accounts.sessions.served[other] == 0
    assert accounts.enter(replace(one, session=""))[1] == 0


def test_names_in_use_keep_their_codes_however_many_come_and_idle_ones_are_forgotten() -> None:
    counters = Counters(idle_max=3)
    kept = counters.use("kept")
    counters.served[kept] = 7
    for number in range(100):
        code = counters.use(f"n{number}")
        assert code not in (0, kept)
        counters.waited_us[code] = 1
        counters.let_go(f"n{number}")
    assert counters.use("kept") == kept
    assert counters.standing.served[kept] == 7
    assert len(counters) == 4
    assert counters.waited_us[counters.use("n0")] == 0


def test_counters_grow_and_views_of_before_are_replaced() -> None:
    counters = Counters()
    codes = [counters.use(str(number)) for number in range(200)]
    assert len(set(codes)) == 200
    counters.served[codes[199]] = 5
    assert counters.standing.served[codes[199]] == 5
    with pytest.raises(ValueError, match="read-only"):
        counters.standing.served[0] = 1


def test_the_counter_of_the_tenant_that_was_last_is_not_forgotten() -> None:
    tenants = TenantCounters(idle_max=0)
    tenants.counters.served[code := tenants.enter("a")] = 90
    tenants.leave("a", code)
    assert tenants.counters.served[tenants.enter("b")] == 90


STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300), st.integers(1, 200)), max_size=60)


@given(STEPS)
def test_the_counters_are_the_work_that_was_done(steps: list[tuple[int, int, int]]) -> None:
    """SUM: every tenant waits all the time, so that none is lifted."""
    weights = {f"t{number}": 1.0 + number for number in range(5)}
    accounts, work = Accounts(weights), dict.fromkeys(weights, 0.0)
    codes = {tenant: accounts.enter(request(tenant=tenant))[0] for tenant in weights}
    running: set[int] = set()
    for number, tokens, prompt in steps:
        tenant, lease = f"t{number % 5}", f"l{number}"
        if number not in running:
            running.add(number)
            accounts.start(lease, request(prompt=prompt, tenant=tenant), tokens, 0)
            work[tenant] += prompt
        elif tokens % 3:
            accounts.serve(lease, tokens)
            work[tenant] += OUTPUT_WEIGHT * tokens
        else:
            accounts.end(lease)
            running.remove(number)
    for number in running:
        accounts.end(f"l{number}")
    for tenant, code in codes.items():
        for row in (accounts.tenants("m").served, accounts.tenants("m").charged):
            assert row[code] * weights[tenant] == pytest.approx(work[tenant])


class Rivals:
    """Two tenants that always wait for one of a few places, where the one of the smaller counter gets it."""

    def __init__(self, places: int, sizes: list[tuple[int, int]]) -> None:
        self.done = dict.fromkeys("ab", 0)
        self._places = places
        self._accounts = Accounts()
        self._queue = HeldQueue(self._accounts)
        self._backlog = {"a": list(sizes), "b": sizes[::-1]}
        self._answers: dict[str, int] = {}
        self._running: dict[str, Held] = {}
        for tenant in "ab":
            self._push(tenant)

    def step(self) -> bool:
        """Fills the places and lets each running answer grow by a token; false once one of the two waits no more."""
        while len(self._running) < self._places:
            first = self._queue.first(Vtc(), 0)
            request_id, tenant = first.request.request_id, first.request.tenant
            if not self._push(tenant):
                return False
            self._accounts.start(request_id, first.request, 0, 0)
            self._queue.remove(request_id)
            self._running[request_id] = first
            self.done[tenant] += first.request.prompt_tokens
        for request_id, one in list(self._running.items()):
            self._accounts.serve(request_id, 1)
            self.done[one.request.tenant] += OUTPUT_WEIGHT
            self._answers[request_id] -= 1
            if not self._answers[request_id]:
                self._accounts.end(request_id)
                del self._running[request_id]
        return True

    def _push(self, tenant: str) -> bool:
        if not self._backlog[tenant]:
            return False
        prompt, answer = self._backlog[tenant].pop()
        name = f"r{len(self._answers)}"
        self._queue.push(held(name, tenant, len(self._answers), prompt))
        self._answers[name] = answer
        return True


SIZES = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 120)), min_size=20, max_size=80)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), SIZES)
def test_two_tenants_that_always_wait_are_served_alike(places: int, sizes: list[tuple[int, int]]) -> None:
    """BOUND: what one got more is at most 2 max(prompt, 2 * places * answer) (Sheng et al., theorem 4.4)."""
    prompt_max, answer_max = (max(one[index] for one in sizes) for index in (0, 1))
    rivals = Rivals(places, sizes)
    while rivals.step():
        assert abs(rivals.done["a"] - rivals.done["b"]) <= 2 * max(prompt_max, OUTPUT_WEIGHT * places * answer_max)
