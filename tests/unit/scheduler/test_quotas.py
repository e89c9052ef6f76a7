"""Token buckets of tenants.

PROMISE: whoever comes back at the time that it was told enters, and would not have entered any earlier.
ROOM: what a tenant is given in any time is its burst, what that time refills, and what was promised or owed.
"""

from hypothesis import given
from hypothesis import strategies as st

from forebay.core.scheduling import Placement, Rejected, Retry
from forebay.core.values import Outcome
from forebay.scheduler.actions import Action
from forebay.scheduler.engine import Engine
from forebay.scheduler.quotas import PROMISE_COUNT_MAX, PROMISE_KEPT_US, PROMISE_SLACK
from tests.unit.scheduler.kit import S, engine, instance, prediction, request

NOW = 1_795_000_000 * S
ROUNDING_US = 2


def house(**tenant: float) -> Engine:
    """An engine with room for all, where tenant "a" may use 60 tokens a minute, 100 at once."""
    table = {"weight": 1.0, "tokens_per_minute": 60, "tokens_burst": 100, **tenant}
    return engine(instance("i", concurrency_max=10_000), admission="tenant_quota", tenants={"a": table})


def ask(house: Engine, name: str, tokens: int, now_us: int, tenant: str = "a") -> Action:
    """The answer to a request of 10 tokens of prompt and so many of answer, by prediction."""
    one = request(name, prompt=10, tenant=tenant)
    return next(
        action
        for action in house.on_arrive(one, prediction(tokens), now_us)
        if isinstance(action, Placement | Rejected | Retry) and action.request_id == name
    )


def refused(action: Action) -> int:
    assert isinstance(action, Retry)
    assert action.reason == "TENANT_QUOTA_EXHAUSTED"
    return action.retry_delay_us


def placed(action: Action) -> Placement:
    assert isinstance(action, Placement)
    return action


def test_a_tenant_uses_its_burst_and_is_then_told_when_the_next_tokens_are_there() -> None:
    one = house()
    placed(ask(one, "r1", 80, NOW))
    # 10 tokens are left and 60 wanted, at one token a second.
    assert refused(ask(one, "r2", 50, NOW)) == 50 * S


def test_tenants_without_a_quota_are_not_held_back() -> None:
    one = house()
    for number in range(50):
        placed(ask(one, f"r{number}", 900, NOW, tenant="b"))


def test_the_time_told_is_exact_and_not_held_within_the_bounds_of_other_delays() -> None:
    one = house()
    placed(ask(one, "r1", 90, NOW))
    assert refused(ask(one, "r2", 90, NOW)) == 100 * S
    two = house(tokens_per_minute=60_000_000)
    placed(ask(two, "r1", 90, NOW))
    assert refused(ask(two, "r2", 90, NOW)) == 100


def test_who_comes_back_when_told_enters_and_not_a_moment_before() -> None:
    one = house_after(90)
    delay_us = refused(ask(one, "r2", 40, NOW))
    assert refused(ask(house_after(90), "r2", 40, NOW + delay_us - 100)) in (100, 101)
    placed(ask(one, "r4", 40, NOW + delay_us))


def house_after(tokens: int) -> Engine:
    one = house()
    placed(ask(one, "r1", tokens, NOW))
    return one


def test_many_that_are_refused_at_once_are_told_different_times_and_all_enter_when_told() -> None:
    one = house_after(90)
    delays = [refused(ask(one, f"r{number}", 40, NOW)) for number in range(10, 20)]
    assert delays == [50 * S * turn for turn in range(1, 11)]
    for number, delay_us in enumerate(delays):
        placed(ask(one, f"s{number}", 40, NOW + delay_us))


def test_a_promise_is_kept_though_another_answer_was_longer_than_predicted() -> None:
    one = house()
    lease = placed(ask(one, "r1", 90, NOW)).lease_id
    delay_us = refused(ask(one, "r2", 40, NOW))
    one.on_finish(lease, Outcome.STOPPED, 5_000, NOW + S)
    placed(ask(one, "r3", 40, NOW + delay_us))
    # The 4,910 tokens more and the 50 of the promise are owed; 50 were refilled, and 50 are wanted.
    assert refused(ask(one, "r4", 40, NOW + delay_us)) == (4_910 + 50) * S


def test_a_promise_that_nobody_takes_up_lapses() -> None:
    one = house_after(90)
    delay_us = refused(ask(one, "r2", 40, NOW))
    late_us = NOW + delay_us + PROMISE_KEPT_US + 1
    placed(ask(one, "r3", 50, late_us))
    assert refused(ask(one, "r4", 40, late_us)) > 40 * S


def test_a_promise_is_for_one_request_only() -> None:
    one = house_after(90)
    at_us = NOW + refused(ask(one, "r2", 40, NOW))
    placed(ask(one, "r3", 40, at_us))
    assert refused(ask(one, "r4", 40, at_us)) == 50 * S


def test_a_promise_is_no_promise_for_a_much_larger_request() -> None:
    one = house_after(90)
    at_us = NOW + refused(ask(one, "r2", 40, NOW))
    refused(ask(one, "r3", 51, at_us))
    placed(ask(one, "r4", 50, at_us))


def test_an_answer_shorter_than_predicted_gives_tokens_back() -> None:
    one = house()
    lease = placed(ask(one, "r1", 90, NOW)).lease_id
    one.on_finish(lease, Outcome.STOPPED, 15, NOW)
    # 75 of 90 come back: 10 of prompt and 15 of answer were used.
    placed(ask(one, "r2", 65, NOW))
    assert refused(ask(one, "r3", 90, NOW)) == 100 * S


def test_a_request_that_is_withdrawn_while_it_is_held_gives_everything_back() -> None:
    one = engine(instance("i", concurrency_max=1), admission="tenant_quota", tenants={"a": {"tokens_per_minute": 240}})
    placed(ask(one, "r0", 900, NOW, tenant="b"))
    for name in ("r1", "r2", "r3"):
        answers = one.on_arrive(request(name, prompt=10, tenant="a"), prediction(230), NOW)
        assert not [answer for answer in answers if isinstance(answer, Placement | Retry)]
        one.on_cancel(name, NOW)


def test_a_full_queue_costs_no_tokens() -> None:
    one = engine(
        instance("i", concurrency_max=1),
        admission="tenant_quota",
        tenants={"a": {"tokens_per_minute": 240}},
        held_count_max=1,
    )
    placed(ask(one, "r0", 900, NOW, tenant="b"))
    one.on_arrive(request("r1", tenant="b"), prediction(5), NOW)
    full = ask(one, "r2", 230, NOW)
    assert isinstance(full, Retry)
    assert full.reason == "QUEUE_FULL"
    one.on_cancel("r1", NOW)
    one.on_arrive(request("r3", tenant="a"), prediction(230), NOW)
    assert refused(ask(one, "r4", 5, NOW)) == 15 * S / 4


def test_who_never_waits_cannot_fill_the_memory_with_promises() -> None:
    one = house_after(90)
    delays = {refused(ask(one, f"s{number}", 40, NOW)) for number in range(PROMISE_COUNT_MAX + 50)}
    assert len(delays) == PROMISE_COUNT_MAX + 1


STEPS = st.lists(st.tuples(st.integers(0, 30 * S), st.integers(1, 150), st.booleans()), max_size=50)


@given(STEPS, st.integers(1, 100_000), st.integers(1, 5_000))
def test_promises_are_kept_whatever_else_happens(
    steps: list[tuple[int, int, bool]], per_minute: int, burst: int
) -> None:
    """PROMISE under any sequence of arrivals and of ends, late and early."""
    one, now_us = house(tokens_per_minute=per_minute, tokens_burst=burst), NOW
    told, leases = list[tuple[int, int, str]](), list[str]()
    for number, (pause_us, tokens, is_end) in enumerate(steps):
        now_us += pause_us
        for back in sorted(back for back in told if back[0] <= now_us):
            leases.append(placed(ask(one, back[2], back[1], back[0])).lease_id)
            told.remove(back)
        if is_end and leases:
            one.on_finish(leases.pop(0), Outcome.STOPPED, tokens, now_us)
            continue
        answer = ask(one, f"r{number}", tokens, now_us)
        if isinstance(answer, Placement):
            leases.append(answer.lease_id)
        else:
            told.append((now_us + refused(answer), tokens, f"r{number} again"))


@given(STEPS, st.integers(1, 100_000), st.integers(160, 5_000))
def test_a_tenant_is_never_given_more_than_its_burst_and_what_was_refilled(
    steps: list[tuple[int, int, bool]], per_minute: int, burst: int
) -> None:
    """ROOM, where every answer is as long as predicted; ends change nothing then."""
    one, now_us, given_tokens = house(tokens_per_minute=per_minute, tokens_burst=burst), NOW, 0
    for number, (pause_us, tokens, is_end) in enumerate(steps):
        now_us += pause_us
        answer = ask(one, f"r{number}", tokens, now_us)
        if isinstance(answer, Placement):
            given_tokens += 10 + tokens
            if is_end:
                one.on_finish(answer.lease_id, Outcome.STOPPED, tokens, now_us)
        larger = given_tokens * (PROMISE_SLACK - 1)
        assert given_tokens <= burst + (now_us - NOW) / S * per_minute / 60 + larger + 1e-6


@given(st.lists(st.integers(1, 90), min_size=1, max_size=12), st.integers(1, 90), st.integers(1, 100_000))
def test_nobody_is_told_later_than_needed(before: list[int], tokens: int, per_minute: int) -> None:
    """PROMISE: in a house that has told nobody anything, the same request is still refused a moment earlier."""

    def world() -> Engine:
        one = house(tokens_per_minute=per_minute)
        for number, answer in enumerate(before):
            if isinstance(ask(one, f"b{number}", answer, NOW), Retry):
                return house_after(90)
        return one

    first = ask(world(), "r", tokens, NOW)
    if isinstance(first, Retry) and first.retry_delay_us > ROUNDING_US:
        assert refused(ask(world(), "r", tokens, NOW + first.retry_delay_us - ROUNDING_US)) <= 2 * ROUNDING_US
