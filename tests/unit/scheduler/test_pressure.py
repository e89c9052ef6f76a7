from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.pressure import Demand, InstancePressure, WaitingGroup
from forebay.core.scheduling import OpenLease, Placement, Retry
from forebay.core.values import InferenceRequest, LengthQuantiles, Outcome, SloClass
from forebay.core.waiting import work_of, works_of
from forebay.scheduler import pressure as module
from forebay.scheduler.engine import Engine
from tests.unit.scheduler.kit import S, engine, instance, prediction, request

FAST, NORMAL, DEFERRED = SloClass


def placed(made: Engine, one: InferenceRequest, tokens: int = 50, now_us: int = S) -> Placement:
    answer = made.on_arrive(one, prediction(tokens), now_us)[0]
    assert isinstance(answer, Placement)
    return answer


def only(made: Engine, now_us: int = S) -> InstancePressure:
    (found,) = made.pressure(now_us).instances
    return found


def test_an_instance_is_told_with_what_it_has_by_class_and_what_it_still_has_to_do() -> None:
    made = engine(instance("a", concurrency_max=4, kv_tokens_max=1_000))
    placed(made, request("r1", prompt=100))
    lease = placed(made, request("r2", prompt=60, slo_class=DEFERRED))
    made.on_progress(lease.lease_id, 10, 2 * S)
    found = only(made, 2 * S)
    # The mean of the distribution that the kit predicts for a median of 50 is 60.4.
    assert found == InstancePressure("a/m", 1, 1, found.peak_share, 0.0, 100, 2 * 60 - 10, 4)
    # Both run side by side for 50 iterations; the second began ten before, the first waits for its prompt to be read.
    assert found.peak_share == pytest.approx((100 + 60 + 49 + 60) / 1_000, abs=0.003)


def test_the_overload_is_the_share_of_the_horizon_above_ninety_five_percent_of_the_cache() -> None:
    made = engine(instance("a", kv_tokens_max=1_000))
    lease = placed(made, request("r1", prompt=900), tokens=80)
    made.on_progress(lease.lease_id, 1, S)
    # It holds 901, 902, ... and ends after the 97 tokens that are expected in all: above 950 from token 51 on.
    assert only(made).peak_share == pytest.approx(0.996)
    assert only(made).over_share == pytest.approx(0.46)


def test_nothing_is_said_of_a_cache_whose_size_is_not_known_nor_of_a_limit_where_there_is_none() -> None:
    made = engine(instance("a"), puller="unlimited")
    placed(made, request("r1", prompt=900), tokens=80)
    assert (only(made).peak_share, only(made).over_share, only(made).cap) == (0.0, 0.0, 0)
    assert only(made).remaining_tokens > 0


def test_what_was_generated_elsewhere_goes_with_a_request_that_moves() -> None:
    made = engine(instance("a"), instance("b"), puller="unlimited")
    lease = placed(made, request("r1", prompt=40))
    made.on_progress(lease.lease_id, 20, S)
    made.on_moved(lease.lease_id, {"a/m": "b/m", "b/m": "a/m"}[lease.instance_id], S)
    shares = {one.instance_id: (one.interactive_count, one.remaining_tokens) for one in made.pressure(S).instances}
    assert shares.pop(lease.instance_id) == (0, 0.0)
    ((count, remaining),) = shares.values()
    assert count == 1
    # E[L | L > 20] is a little more than the mean.
    assert 40 <= remaining <= 50


def test_a_fleet_that_changes_takes_the_generated_tokens_along() -> None:
    made = engine(instance("b"), puller="unlimited")
    lease = placed(made, request("r1"))
    made.on_progress(lease.lease_id, 20, S)
    before = only(made).remaining_tokens
    made.on_fleet([instance("a"), instance("b")], S)
    assert [one.remaining_tokens for one in made.pressure(S).instances] == [0.0, before]


def test_arrivals_are_counted_by_model_region_and_class_with_the_tokens_that_are_expected() -> None:
    made = engine(instance("a", concurrency_max=1))
    assert made.pressure(0).demands == ()
    made.on_arrive(request("r1", prompt=7, region="west"), prediction(50), S)
    made.on_arrive(request("r2", prompt=8, region="west"), prediction(60), S)
    made.on_arrive(request("r3", prompt=9, slo_class=DEFERRED), prediction(70), S)
    assert made.pressure(S).demands == (
        Demand("m", "local", DEFERRED, 1, 9, 70.0),
        Demand("m", "west", NORMAL, 2, 15, 110.0),
    )


def test_a_request_counts_once_however_often_it_is_placed() -> None:
    made = engine(instance("a"), instance("b"))
    lease = placed(made, request("r1"))
    made.on_arrive(request("r1"), None, S)
    made.on_finish(lease.lease_id, Outcome.FAILED, 0, S)
    again = placed(made, request("r1", excluded_instance_ids=frozenset({lease.instance_id})), now_us=2 * S)
    assert again.instance_id != lease.instance_id
    made.on_arrive(request("r1", excluded_instance_ids=frozenset({again.instance_id})), prediction(), 2 * S)
    made.on_resume("g", [OpenLease(request("r9"), "l-9", "a/m")], 2 * S)
    assert [one.request_count for one in made.pressure(2 * S).demands] == [1]


def test_what_finds_no_place_has_arrived_and_what_nobody_can_serve_has_not() -> None:
    made = engine(instance("a", context_tokens_max=100, concurrency_max=1), held_count_max=1)
    for name in ("r1", "r2", "r3"):
        answer = made.on_arrive(request(name), prediction(), S)
    assert isinstance(answer[0], Retry)
    made.on_arrive(request("r4", model="poem"), prediction(), S)
    made.on_arrive(request("r5", prompt=200), prediction(), S)
    assert made.pressure(S).demands == (Demand("m", "local", NORMAL, 3, 30, 150.0),)


def test_the_newest_requests_are_known_again_and_no_more_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_COUNT", 3)
    made = engine(instance("a", concurrency_max=1), held_count_max=1)
    for name in (*"abcdefg", "e", "f", "g", "c"):
        made.on_arrive(request(name), prediction(), S)
    # All seven once; of the four that come again only the oldest was forgotten.
    assert made.pressure(S).demands[0].request_count == 8


def test_held_requests_are_told_by_what_is_due_together() -> None:
    made = engine(instance("a", concurrency_max=1), waiting_quantum_s=10.0, hold_timeout_deferred_s=300.0)
    placed(made, request("r0"))
    waiting = [
        request("r1", prompt=5, slo_class=DEFERRED, deadline_us=104 * S),
        request("r2", prompt=6, slo_class=DEFERRED, deadline_us=101 * S),
        request("r3", prompt=7, slo_class=DEFERRED, deadline_us=121 * S),
        request("r4", prompt=8, slo_class=DEFERRED, deadline_us=101 * S, region="west"),
        request("r5", prompt=9),
    ]
    for second, one in enumerate(waiting, 2):
        made.on_arrive(one, prediction(40 + second), second * S)
    first, second_one = (work_of(prediction(tokens).quantiles) for tokens in (42, 43))
    found = made.pressure(7 * S).waiting
    assert [(group.slo_class, group.region, group.request_count) for group in found] == [
        (NORMAL, "local", 1),
        (DEFERRED, "local", 2),
        (DEFERRED, "west", 1),
        (DEFERRED, "local", 1),
    ]
    mean, variance = found[1].mean_tokens, found[1].variance
    assert (mean, variance) == pytest.approx(first.plus(second_one))
    assert found[1] == WaitingGroup("m", "local", DEFERRED, 104 * S, 2 * S, 2, 11, mean, variance)


def test_the_question_changes_nothing_that_is_decided() -> None:
    def run(asks: bool) -> Iterator[object]:
        made = engine(instance("a"), instance("b"), router="forebay")
        for number in range(12):
            now_us = (1 + number) * S
            if asks:
                made.pressure(now_us)
            answer = made.on_arrive(request(f"r{number}", prompt=number), prediction(10 + number), now_us)
            yield [one if not isinstance(one, Placement) else replace(one, decision_id="") for one in answer]

    assert list(run(asks=True)) == list(run(asks=False))


@given(st.lists(st.lists(st.integers(0, 5_000), min_size=4, max_size=4).map(sorted), min_size=1, max_size=20))
def test_many_answers_have_the_means_and_variances_of_each(lengths: list[list[int]]) -> None:
    means, variances = works_of(np.array(lengths).T)
    each = [work_of(LengthQuantiles(*one)) for one in lengths]
    assert means == pytest.approx([one.mean_tokens for one in each])
    assert variances == pytest.approx([one.variance for one in each], rel=1e-9, abs=1e-6)
