"""Static batches in the engine: formed from what is held, placed whole where nothing runs, followed to their end."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.scheduling import OpenLease, Placement, Rejected, Retry
from forebay.core.values import Batching, Instance, LengthQuantiles, Outcome
from forebay.scheduler.actions import Action
from forebay.scheduler.batches import WaitingBatches
from forebay.scheduler.engine import Engine
from forebay.scheduler.policy.grouper.base import Room
from forebay.scheduler.policy.grouper.magnus import Magnus, Vs
from forebay.scheduler.queue import Held
from tests.unit.scheduler.kit import S, engine, instance, prediction, request

LIMITS = Room(4_096, 1_024, 64)


def static(name: str, **changes: Any) -> Instance:
    figures = {"kv_tokens_max": 4_096, "context_tokens_max": 1_024, "concurrency_max": 64}
    return instance(name, batching=Batching.STATIC, **{**figures, **changes})


def arrive(on: Engine, name: str, prompt: int, answer: int, now_us: int = 0, **changes: Any) -> list[Action]:
    return on.on_arrive(request(name, prompt=prompt, **changes), prediction(answer), now_us, "g")


def placed(actions: list[Action]) -> list[Placement]:
    return [action for action in actions if isinstance(action, Placement)]


def finish(on: Engine, placements: list[Placement], now_us: int) -> list[Placement]:
    """Ends all with as many tokens as were predicted; gives what was placed thereupon."""
    found: list[Placement] = []
    for one in placements:
        found += placed(on.on_finish(one.lease_id, Outcome.STOPPED, one.predicted.p50, now_us))
    return found


def held(name: str, prompt: int, answer: int, arrived_us: int = 0, **changes: Any) -> Held:
    quantiles = LengthQuantiles(answer, answer, answer, answer)
    return Held(request(name, prompt=prompt, **changes), quantiles, "test", "g", 0, prompt + 1, arrived_us, 60 * S, 1)


def test_what_comes_while_a_batch_runs_is_the_next_batch_and_goes_whole() -> None:
    on = engine(static("a"), grouper="magnus")
    first = placed(arrive(on, "r0", 100, 50))
    assert [(one.batch_count, one.instance_id) for one in first] == [(1, "a/m")]
    for number in range(1, 4):
        assert not placed(arrive(on, f"r{number}", 100, 50, number))
    second = finish(on, first, S)
    assert {one.request_id for one in second} == {"r1", "r2", "r3"}
    assert {(one.batch_id, one.batch_count) for one in second} == {(second[0].batch_id, 3)}
    assert second[0].batch_id != first[0].batch_id


def test_the_record_names_the_batch_and_who_shares_it() -> None:
    on = engine(static("a"), grouper="magnus")
    (first,) = placed(arrive(on, "r0", 100, 50))
    for number, answer in enumerate((50, 52, 900), 1):
        arrive(on, f"r{number}", 100 + number, answer, number)
    second = finish(on, [first], S)
    alone, together = on.explain(first.decision_id), on.explain(second[0].decision_id)
    assert (alone.batch_id, together.batch_id) == (first.batch_id, second[0].batch_id)
    assert "with 0 others" in alone.reason
    told = ("request_count", "prompt_max", "answer_min", "answer_max", "waiting_count")
    assert [together.inputs[f"batch_{name}"] for name in told] == [2, 102, 50, 52, 1]
    assert f"in batch {second[0].batch_id} with 1 other, which magnus formed" in together.reason


def test_the_record_of_a_request_that_goes_by_itself_names_no_batch() -> None:
    on = engine(instance("a"))
    (alone,) = placed(arrive(on, "r0", 100, 50))
    record = on.explain(alone.decision_id)
    assert not record.batch_id
    assert not any(name.startswith("batch_") for name in record.inputs)


def test_the_next_batch_waits_for_the_last_answer_of_the_one_that_runs() -> None:
    on = engine(static("a"), grouper="vs")
    first = placed(arrive(on, "r0", 10, 10))
    for number in range(1, 4):
        arrive(on, f"r{number}", 10, 10, 1)
    second = finish(on, first, 2)
    arrive(on, "r9", 10, 10, 3)
    assert [len(finish(on, [one], 4 + index)) for index, one in enumerate(second)] == [0, 0, 1]


def test_batches_spread_over_the_instances_that_are_free() -> None:
    on = engine(static("a"), static("b"), grouper="vs")
    one, other = placed(arrive(on, "r0", 10, 10)), placed(arrive(on, "r1", 10, 10))
    assert {one[0].instance_id, other[0].instance_id} == {"a/m", "b/m"}
    assert not placed(arrive(on, "r2", 10, 10))


def test_instances_that_batch_by_themselves_get_requests_one_by_one() -> None:
    on = engine(instance("a"), instance("b", batching=Batching.STATIC))
    assert [one.batch_id for one in placed(arrive(on, "r0", 10, 10))] == [""]


def test_lengths_that_differ_do_not_share_a_batch() -> None:
    on = engine(static("a"), grouper="magnus", grouper_parameters={"wma_max": 1_000.0})
    first = placed(arrive(on, "r0", 10, 10))
    for number, answer in enumerate([100, 12, 104, 11, 96]):
        arrive(on, f"q{number}", 10, answer, number + 1)
    second = finish(on, first, 1_000)
    third = finish(on, second, 5 * S)
    assert [{one.request_id for one in batch} for batch in (second, third)] in (
        [{"q1", "q3"}, {"q0", "q2", "q4"}],
        [{"q0", "q2", "q4"}, {"q1", "q3"}],
    )


def test_a_withdrawn_request_leaves_its_batch() -> None:
    on = engine(static("a"), grouper="vs")
    first = placed(arrive(on, "r0", 10, 10))
    for name in ("r1", "r2"):
        arrive(on, name, 10, 10, 1)
    assert [type(one) for one in on.on_cancel("r1", 2)] == [Rejected]
    assert [(one.request_id, one.batch_count) for one in finish(on, first, 3)] == [("r2", 1)]


def test_a_request_that_waited_too_long_leaves_its_batch_with_a_retry() -> None:
    on = engine(static("a"), grouper="vs")
    first = placed(arrive(on, "r0", 10, 10))
    arrive(on, "r1", 10, 10, 1, hold_timeout_us=S)
    arrive(on, "r2", 10, 10, 1)
    assert [one.request_id for one in on.on_wake(1 + S) if isinstance(one, Retry)] == ["r1"]
    assert [one.request_id for one in finish(on, first, 3 * S)] == ["r2"]


def test_a_batch_that_an_instance_failed_goes_elsewhere_together() -> None:
    on = engine(static("a"), static("b"), grouper="vs")
    busy = placed(arrive(on, "r0", 10, 10)) + placed(arrive(on, "r1", 10, 10))
    for number in range(2, 5):
        arrive(on, f"r{number}", 10, 10, 1)
    there, other = (busy[0], busy[1]) if busy[0].instance_id == "a/m" else (busy[1], busy[0])
    batch = finish(on, [there], 2)
    assert {one.instance_id for one in batch} == {"a/m"}
    again: list[Placement] = []
    for one in batch:
        again += placed(arrive(on, one.request_id, 10, 10, 3, excluded_instance_ids=frozenset({"a/m"})))
    assert not again
    assert {one.request_id for one in finish(on, [other], 4)} == {"r2", "r3", "r4"}


def test_those_behind_a_batch_that_may_not_run_where_there_is_room_do_run() -> None:
    on = engine(static("a"), grouper="vs")
    first = placed(arrive(on, "r0", 10, 10))
    arrive(on, "r1", 10, 10, 1, excluded_instance_ids=frozenset({"a/m"}))
    arrive(on, "r2", 10, 10, 2)
    assert [one.request_id for one in finish(on, first, 3)] == ["r2"]


def test_what_fits_no_free_instance_does_not_hold_up_the_rest_of_its_batch() -> None:
    on = engine(static("a"), static("b", context_tokens_max=100), grouper="vs")
    long = placed(arrive(on, "r0", 500, 10))
    short = placed(arrive(on, "r1", 10, 10))
    assert (long[0].instance_id, short[0].instance_id) == ("a/m", "b/m")
    arrive(on, "r2", 500, 10, 1)
    arrive(on, "r3", 10, 10, 1)
    assert [(one.request_id, one.batch_count) for one in finish(on, short, 2)] == [("r3", 1)]
    assert [(one.request_id, one.batch_count) for one in finish(on, long, 3)] == [("r2", 1)]


def test_a_draining_instance_gets_no_further_batch() -> None:
    on = engine(static("a"), grouper="vs")
    first = placed(arrive(on, "r0", 10, 10))
    arrive(on, "r1", 10, 10, 1)
    on.on_drain("a/m", 2)
    assert not finish(on, first, 3)


def test_after_a_restart_an_instance_is_busy_until_all_that_it_runs_has_ended() -> None:
    on = engine(static("a"), grouper="vs")
    leases = [OpenLease(request(f"r{number}"), f"old{number}", "a/m") for number in range(2)]
    on.on_resume("g", leases, 1)
    assert not placed(arrive(on, "new", 10, 10, 2))
    assert not placed(on.on_finish("old0", Outcome.STOPPED, 5, 3))
    assert [one.request_id for one in placed(on.on_finish("old1", Outcome.STOPPED, 5, 4))] == ["new"]


def test_magnus_learns_how_long_batches_take_and_runs_the_highest_response_ratio() -> None:
    on = engine(static("a"), grouper="magnus", grouper_parameters={"wma_max": 100.0})
    now_us = 0
    for turn in range(20):
        answer, seconds = (200, 40) if turn % 2 else (10, 1)
        batch = placed(arrive(on, f"w{turn}", 10, answer, now_us))
        now_us += seconds * S
        finish(on, batch, now_us)
    running = placed(arrive(on, "r0", 10, 10, now_us))
    arrive(on, "long", 10, 200, now_us + 1)
    arrive(on, "short", 10, 10, now_us + 5 * S)
    assert [one.request_id for one in finish(on, running, now_us + 10 * S)] == ["short"]


def test_a_batch_keeps_its_columns_when_requests_come_and_go() -> None:
    waiting = WaitingBatches()
    lengths = {"a": (10, 20), "b": (30, 5), "c": (20, 40), "d": (5, 5)}
    for number, (name, (prompt, answer)) in enumerate(lengths.items()):
        waiting.add(held(name, prompt, answer, 10 * number))
    waiting.join(Magnus(), LIMITS)
    assert waiting.members() == [["a", "b", "c", "d"]]
    whole = waiting._batches(waiting._closed_to(None))
    waiting.leave("c")
    waiting.add(held("c", 20, 40, 20))
    waiting.join(Magnus(), LIMITS)
    for before, after in zip(whole, waiting._batches(waiting._closed_to(None)), strict=True):
        assert np.array_equal(before, after)
    for name in lengths:
        waiting.leave(name)
    assert len(waiting) == 0


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("ajl"), st.integers(1, 900), st.integers(1, 900), st.integers(0, 1)), max_size=60
    ),
    st.sampled_from([Magnus(), Magnus(aggregate="sum", wma_max=5_000.0), Vs()]),
)
def test_every_request_is_in_exactly_one_batch_until_it_leaves(
    steps: list[tuple[str, int, int, int]], grouper: Magnus
) -> None:
    waiting, there = WaitingBatches(), dict[str, frozenset[str]]()
    for number, (what, prompt, answer, failed) in enumerate(steps):
        if what == "l" and there:
            waiting.leave(name := list(there)[prompt % len(there)])
            del there[name]
        elif what == "j":
            waiting.join(grouper, LIMITS)
        else:
            excluded = frozenset({"x"} if failed else ())
            waiting.add(held(f"r{number}", prompt, answer, number, excluded_instance_ids=excluded))
            there[f"r{number}"] = excluded
    waiting.join(grouper, LIMITS)
    members = waiting.members()
    assert sorted(name for batch in members for name in batch) == sorted(there)
    for index, batch in enumerate(members):
        lengths = [(one.request.prompt_tokens, one.quantiles.p50) for one in waiting.of(index)]
        memory = len(batch) * (max(prompt for prompt, _ in lengths) + max(answer for _, answer in lengths))
        assert len(batch) == 1 or memory <= LIMITS.kv_tokens_max or not grouper.adaptive
        assert len({there[name] for name in batch}) == 1
