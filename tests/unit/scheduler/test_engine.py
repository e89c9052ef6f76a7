from typing import Any

import pytest

from forebay.core.errors import NotFound
from forebay.core.scheduling import Answer, OpenLease, Placement, Rejected, Retry
from forebay.core.values import InstanceLoad, InstanceState, LengthQuantiles, Outcome, SloClass, WakeAt
from forebay.scheduler.actions import Action, Observe
from forebay.scheduler.engine import Engine
from tests.unit.scheduler.kit import S, engine, instance, prediction, request

PREDICTION = prediction(50)


def answers(actions: list[Action]) -> list[Answer]:
    return [action for action in actions if isinstance(action, Placement | Rejected | Retry)]


def arrive(on: Engine, name: str = "r1", now_us: int = 0, **changes: Any) -> Answer | None:
    found = answers(on.on_arrive(request(name, **changes), PREDICTION, now_us))
    assert len(found) <= 1
    return found[0] if found else None


def placed(on: Engine, name: str = "r1", now_us: int = 0, **changes: Any) -> Placement:
    answer = arrive(on, name, now_us, **changes)
    assert isinstance(answer, Placement)
    return answer


def rejected(on: Engine, name: str = "r1", **changes: Any) -> Rejected:
    answer = arrive(on, name, **changes)
    assert isinstance(answer, Rejected)
    return answer


# Placing


def test_a_request_goes_to_a_ready_instance_with_all_that_the_gateway_needs() -> None:
    on = engine(instance("a"))
    answer = placed(on, slo_class=SloClass.INTERACTIVE_FAST)
    assert answer == Placement(
        request_id="r1",
        lease_id="s-l1",
        decision_id=answer.decision_id,
        instance_id="a/m",
        grpc_address="a:8001",
        predicted=PREDICTION.quantiles,
        predicted_by="test@1",
        lease_ttl_us=60 * S,
        held_us=0,
        triton_priority=1,
    )


@pytest.mark.parametrize(("slo_class", "priority"), [(one, one.value) for one in SloClass])
def test_triton_serves_the_more_urgent_class_first(slo_class: SloClass, priority: int) -> None:
    assert placed(engine(instance("a")), slo_class=slo_class).triton_priority == priority


def test_the_prediction_never_exceeds_the_request_s_limit() -> None:
    on = engine(instance("a"))
    assert placed(on, tokens_max=60).predicted == LengthQuantiles(25, 50, 60, 60)


def test_the_prediction_never_exceeds_what_the_context_leaves() -> None:
    on = engine(instance("a", context_tokens_max=100))
    assert placed(on, prompt=40).predicted == LengthQuantiles(25, 50, 60, 60)


def test_without_a_prediction_the_histogram_answers() -> None:
    found = answers(engine(instance("a")).on_arrive(request(), None, 0))[0]
    assert isinstance(found, Placement)
    assert found.predicted_by == "scheduler histogram"


def test_the_histogram_learns_from_what_finishes() -> None:
    on = engine(instance("a", concurrency_max=100))
    for number in range(20):
        lease = placed(on, f"r{number}")
        on.on_finish(lease.lease_id, Outcome.STOPPED, 60, 0)
    found = answers(on.on_arrive(request("new"), None, 0))[0]
    assert isinstance(found, Placement)
    assert found.predicted.p50 == 64


def test_a_request_goes_only_where_its_context_fits() -> None:
    on = engine(instance("a", context_tokens_max=100), instance("b", context_tokens_max=1_000))
    assert placed(on, prompt=90, tokens_max=50).instance_id == "b/m"


def test_instances_that_failed_a_request_are_not_chosen_again() -> None:
    on = engine(instance("a"), instance("b"))
    assert placed(on, excluded_instance_ids=frozenset({"a/m"})).instance_id == "b/m"


def test_round_robin_goes_on_where_it_was_when_the_fleet_changes() -> None:
    on = engine(*(instance(name, concurrency_max=9) for name in "abcd"), router="round_robin")
    assert [placed(on, f"r{number}").instance_id for number in range(2)] == ["a/m", "b/m"]
    on.on_fleet([instance(name, concurrency_max=9) for name in "acd"], 0)
    assert [placed(on, f"s{number}").instance_id for number in range(3)] == ["c/m", "d/m", "a/m"]


# Refusing


def test_an_unknown_model_is_rejected_with_the_names_of_those_known() -> None:
    answer = rejected(engine(instance("a"), instance("b", "other")), model="nope")
    assert answer.reason == "MODEL_UNKNOWN"
    assert "known models: m, other" in answer.message


def test_a_long_list_of_known_models_is_cut() -> None:
    on = engine(*(instance("a", f"m{number:02}") for number in range(14)))
    assert rejected(on, model="nope").message.endswith("m08, m09 and 4 more")


@pytest.mark.parametrize(
    ("prompt", "tokens_max", "fits"), [(90, 10, True), (90, 11, False), (99, 0, True), (100, 0, False)]
)
def test_what_can_never_fit_into_the_context_is_rejected(prompt: int, tokens_max: int, fits: bool) -> None:
    answer = arrive(engine(instance("a", context_tokens_max=100)), prompt=prompt, tokens_max=tokens_max)
    assert isinstance(answer, Placement) == fits
    if isinstance(answer, Rejected):
        assert answer.reason == "PROMPT_TOO_LONG"
        assert "100 tokens" in answer.message


def test_an_unknown_context_takes_any_prompt() -> None:
    assert placed(engine(instance("a")), prompt=1_000_000)


def test_a_full_queue_sends_away_with_a_time() -> None:
    on = engine(instance("a"), held_count_max=3)
    found = [arrive(on, f"r{number}") for number in range(6)]
    assert [type(answer) for answer in found] == [Placement, Placement, type(None), type(None), type(None), Retry]
    assert isinstance(found[5], Retry)
    assert (found[5].reason, found[5].retry_delay_us) == ("QUEUE_FULL", S)


def test_a_full_queue_of_one_model_does_not_stop_another() -> None:
    on = engine(instance("a"), instance("a", "n"), held_count_max=1)
    for number in range(3):
        arrive(on, f"r{number}")
    assert placed(on, "other", model="n")


def test_the_time_to_come_back_follows_the_pace_of_what_ends() -> None:
    on = engine(instance("a"), held_count_max=40)
    leases = [placed(on, f"r{number}").lease_id for number in range(2)]
    for number in range(40):
        arrive(on, f"h{number}")
    now_us = 0
    for _ in range(40):
        # Four requests end each second, each leaving its place to a held one; the queue is filled up again.
        now_us += S // 4
        actions = on.on_finish(leases.pop(0), Outcome.STOPPED, 50, now_us)
        leases += [one.lease_id for one in actions if isinstance(one, Placement)]
        arrive(on, f"n{now_us}", now_us)
    answer = arrive(on, "last", now_us)
    assert isinstance(answer, Retry)
    assert answer.retry_delay_us == pytest.approx(10 * S, rel=0.15)


def test_an_admission_policy_may_send_away() -> None:
    on = engine(instance("a"), admission="token_budget", admission_parameters={"tokens_max": 60})
    placed(on, "r1")
    answer = arrive(on, "r2")
    assert isinstance(answer, Retry)
    assert (answer.reason, answer.retry_delay_us) == ("TOKEN_BUDGET_EXHAUSTED", S)


def test_the_token_budget_frees_as_tokens_are_generated() -> None:
    on = engine(instance("a"), admission="token_budget", admission_parameters={"tokens_max": 60})
    lease = placed(on, "r1").lease_id
    on.on_progress(lease, 39, 0)
    assert isinstance(arrive(on, "r2"), Retry)
    on.on_progress(lease, 40, 0)
    assert isinstance(arrive(on, "r2"), Placement)


def test_the_token_budget_comes_back_at_the_pace_of_generation() -> None:
    on = engine(instance("a"), admission="token_budget", admission_parameters={"tokens_max": 60})
    lease = placed(on, "r1").lease_id
    for tick in range(1, 31):
        on.on_progress(lease, tick, tick * S // 10)
    # 20 left and 50 more make 10 too many, at 10 a second.
    answer = arrive(on, "r2", 3 * S)
    assert isinstance(answer, Retry)
    assert answer.retry_delay_us == pytest.approx(S, rel=0.1)


@pytest.mark.parametrize(("delay_s", "given_s"), [(0.000001, 0.2), (5.0, 5.0), (9_999.0, 30.0)])
def test_the_time_to_come_back_is_kept_within_bounds(delay_s: float, given_s: float) -> None:
    parameters = {"tokens_max": 60, "retry_delay_s": delay_s}
    on = engine(instance("a"), admission="token_budget", admission_parameters=parameters)
    placed(on, "r1")
    answer = arrive(on, "r2")
    assert isinstance(answer, Retry)
    assert answer.retry_delay_us == round(given_s * S)


# Holding


def test_a_held_request_goes_when_another_finishes() -> None:
    on = engine(instance("a", concurrency_max=1))
    lease = placed(on, "r1").lease_id
    assert arrive(on, "r2", S) is None
    found = answers(on.on_finish(lease, Outcome.STOPPED, 50, 3 * S))
    assert [(one.request_id, one.held_us) for one in found if isinstance(one, Placement)] == [("r2", 2 * S)]


def test_a_held_request_goes_to_an_instance_that_appears() -> None:
    on = engine(instance("a", concurrency_max=1))
    placed(on, "r1")
    assert arrive(on, "r2") is None
    found = answers(on.on_fleet([instance("a", concurrency_max=1), instance("b")], S))
    assert [one.request_id for one in found] == ["r2"]


def test_a_held_request_goes_when_the_cap_rises() -> None:
    on = engine(instance("a", concurrency_max=1))
    placed(on, "r1")
    assert arrive(on, "r2") is None
    assert len(answers(on.on_fleet([instance("a", concurrency_max=2)], S))) == 1


def test_a_held_request_goes_when_its_instance_answers_again() -> None:
    on = engine(instance("a"))
    on.on_loads([InstanceLoad("a/m", "m", False)], 0)
    assert arrive(on, "r1") is None
    assert len(answers(on.on_loads([InstanceLoad("a/m", "m", True)], S))) == 1


def test_newcomers_do_not_overtake_those_that_wait() -> None:
    on = engine(instance("a", concurrency_max=1), instance("b", state=InstanceState.LOADING))
    placed(on, "r1")
    for name in ("r2", "r3"):
        assert arrive(on, name) is None
    found = answers(on.on_fleet([instance("a", concurrency_max=1), instance("b", concurrency_max=1)], 0))
    assert [one.request_id for one in found] == ["r2"]


def test_the_orderer_says_who_is_next() -> None:
    on = engine(instance("a", concurrency_max=1), orderer="shortest_predicted")
    lease = placed(on, "r1").lease_id
    for name, tokens in (("long", 500), ("short", 5), ("middle", 50)):
        on.on_arrive(request(name), prediction(tokens), 0)
    order = []
    for _ in range(3):
        found = [one for one in on.on_finish(lease, Outcome.STOPPED, 1, 0) if isinstance(one, Placement)]
        order += [one.request_id for one in found]
        lease = found[0].lease_id
    assert order == ["short", "middle", "long"]


def test_a_request_that_cannot_use_the_room_does_not_block_those_behind_it() -> None:
    on = engine(instance("a", concurrency_max=1), instance("b", concurrency_max=1))
    leases = {one.instance_id: one.lease_id for one in (placed(on, "r1"), placed(on, "r2"))}
    assert arrive(on, "picky", excluded_instance_ids=frozenset({"a/m"})) is None
    assert arrive(on, "easy") is None
    found = answers(on.on_finish(leases["a/m"], Outcome.STOPPED, 1, 0))
    assert [one.request_id for one in found] == ["easy"]
    found = answers(on.on_finish(leases["b/m"], Outcome.STOPPED, 1, 0))
    assert [one.request_id for one in found] == ["picky"]


@pytest.mark.parametrize(
    ("slo_class", "seconds"),
    [(SloClass.INTERACTIVE_FAST, 5), (SloClass.INTERACTIVE_NORMAL, 60), (SloClass.DEFERRED, 300)],
)
def test_a_hold_ends_with_retry_after_the_time_of_its_class(slo_class: SloClass, seconds: int) -> None:
    on = engine(instance("a", concurrency_max=1), lease_ttl_s=3_600.0)
    placed(on, "r1")
    actions = on.on_arrive(request("r2", slo_class=slo_class), PREDICTION, 0)
    assert actions == [WakeAt(seconds * S)]
    assert answers(on.on_wake(seconds * S - 1)) == []
    found = answers(on.on_wake(seconds * S))
    assert [(one.request_id, one.reason) for one in found if isinstance(one, Retry)] == [("r2", "HELD_TOO_LONG")]


def test_a_request_may_bring_its_own_hold() -> None:
    on = engine(instance("a", concurrency_max=1))
    placed(on, "r1")
    assert WakeAt(2 * S) in on.on_arrive(request("r2", hold_timeout_us=2 * S), PREDICTION, 0)


def test_a_hold_without_any_ready_instance_ends_with_that_reason() -> None:
    on = engine(instance("a", state=InstanceState.LOADING))
    assert arrive(on, "r1") is None
    found = answers(on.on_wake(60 * S))[0]
    assert isinstance(found, Retry)
    assert (found.reason, found.retry_delay_us) == ("NO_INSTANCE_READY", 2 * S)
    assert "loading" in [one.reason for one in on.explain(found.decision_id).candidates]


def test_a_model_scaled_to_zero_is_waited_for() -> None:
    on = engine(instance("a"))
    on.on_fleet([], 0)
    assert arrive(on, "r1") is None
    assert len(answers(on.on_fleet([instance("a")], S))) == 1


def test_before_the_fleet_is_known_everything_is_held() -> None:
    on = engine()
    assert arrive(on, "r1") is None
    assert arrive(on, "r2", model="nope") is None
    found = {one.request_id: type(one) for one in answers(on.on_fleet([instance("a")], S))}
    assert found == {"r1": Placement, "r2": Rejected}


def test_before_the_fleet_is_known_all_queues_share_one_bound() -> None:
    on = engine(held_count_max=2)
    found = [arrive(on, f"r{number}", model=f"m{number}") for number in range(3)]
    assert [type(answer) for answer in found] == [type(None), type(None), Retry]


# Coming again


def test_the_same_request_again_gets_the_same_lease() -> None:
    on = engine(instance("a"), instance("b"))
    assert placed(on, "r1", 0) == placed(on, "r1", S)
    assert len(on.leases()) == 1


def test_a_held_request_again_is_held_once() -> None:
    on = engine(instance("a", concurrency_max=1))
    lease = placed(on, "r1").lease_id
    assert arrive(on, "r2") is None
    assert arrive(on, "r2") is None
    assert len(answers(on.on_finish(lease, Outcome.STOPPED, 1, 0))) == 1


def test_a_request_that_its_instance_failed_gets_another() -> None:
    on = engine(instance("a"), instance("b"))
    first = placed(on, "r1")
    second = placed(on, "r1", excluded_instance_ids=frozenset({first.instance_id}))
    assert second.instance_id != first.instance_id
    assert [one.lease_id for one in on.leases()] == [second.lease_id]


def test_a_request_whose_instance_is_gone_gets_another() -> None:
    on = engine(instance("a"))
    first = placed(on, "r1")
    on.on_fleet([instance("b")], 0)
    assert placed(on, "r1").instance_id == "b/m"
    assert on.lease_count(first.instance_id) == 0


def test_a_finished_request_may_come_again_as_a_new_one() -> None:
    on = engine(instance("a"))
    first = placed(on, "r1")
    on.on_finish(first.lease_id, Outcome.FAILED, 0, 0)
    assert placed(on, "r1").lease_id != first.lease_id


def test_room_left_by_a_failed_try_goes_to_others_at_once() -> None:
    on = engine(instance("a", concurrency_max=1), held_count_max=1)
    placed(on, "r1")
    assert arrive(on, "r2") is None
    found = answers(on.on_arrive(request("r1", excluded_instance_ids=frozenset({"a/m"})), PREDICTION, 0))
    assert [one.request_id for one in found if isinstance(one, Placement)] == ["r2"]
    assert on.queues(0)[0].held_count == 1


# Leases


def test_progress_takes_generated_tokens_off_and_renews_the_lease() -> None:
    on = engine(instance("a"))
    lease = placed(on, "r1").lease_id
    on.on_progress(lease, 30, 50 * S)
    status = on.leases()[0]
    assert (status.generated_tokens, status.expire_us) == (30, 110 * S)
    assert on.instances()[0].predicted_tokens == 20


def test_generated_tokens_never_decrease() -> None:
    on = engine(instance("a"))
    lease = placed(on, "r1").lease_id
    on.on_progress(lease, 30, 0)
    on.on_progress(lease, 10, 0)
    assert on.leases()[0].generated_tokens == 30


def test_a_lease_without_progress_ends_and_its_room_is_used() -> None:
    on = engine(instance("a", concurrency_max=1), lease_ttl_s=10.0)
    assert WakeAt(10 * S) in on.on_arrive(request("r1"), PREDICTION, 0)
    assert arrive(on, "r2", S) is None
    found = answers(on.on_wake(10 * S))
    assert [one.request_id for one in found] == ["r2"]
    assert not on.has_lease("s-l1")


def test_a_renewed_lease_is_looked_at_again_when_its_new_time_is_up() -> None:
    on = engine(instance("a"), lease_ttl_s=10.0)
    lease = placed(on, "r1").lease_id
    assert on.on_progress(lease, 1, 5 * S) == []
    assert on.on_wake(10 * S) == [WakeAt(15 * S)]
    assert on.has_lease(lease)
    on.on_wake(15 * S)
    assert not on.has_lease(lease)


def test_an_answer_that_ended_teaches() -> None:
    on = engine(instance("a"))
    lease = placed(on, "r1").lease_id
    assert on.on_finish(lease, Outcome.STOPPED, 33, 0) == [
        Observe(request("r1"), PREDICTION.quantiles, 33, False, "test@1")
    ]


def test_an_answer_that_was_cut_teaches_that_it_would_have_been_longer() -> None:
    on = engine(instance("a"))
    lease = placed(on, "r1").lease_id
    assert on.on_finish(lease, Outcome.LENGTH, 33, 0) == [
        Observe(request("r1"), PREDICTION.quantiles, 33, True, "test@1")
    ]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED])
def test_an_answer_that_broke_off_teaches_nothing(outcome: Outcome) -> None:
    on = engine(instance("a"))
    assert on.on_finish(placed(on, "r1").lease_id, outcome, 33, 0) == []


def test_an_ended_lease_may_be_ended_again() -> None:
    on = engine(instance("a"))
    lease = placed(on, "r1").lease_id
    on.on_finish(lease, Outcome.STOPPED, 5, 0)
    assert on.on_finish(lease, Outcome.STOPPED, 5, 0) == []
    assert on.on_progress(lease, 6, 0) == []
    assert on.lease_count("a/m") == 0


def test_a_withdrawn_hold_is_answered() -> None:
    on = engine(instance("a", concurrency_max=1))
    placed(on, "r1")
    assert arrive(on, "r2") is None
    found = answers(on.on_cancel("r2", 0))[0]
    assert isinstance(found, Rejected)
    assert found.reason == "CANCELLED"
    assert on.queues(0)[0].held_count == 0


def test_a_withdrawn_lease_makes_room() -> None:
    on = engine(instance("a", concurrency_max=1))
    placed(on, "r1")
    assert arrive(on, "r2") is None
    assert [one.request_id for one in answers(on.on_cancel("r1", 0))] == ["r2"]


def test_withdrawing_what_is_unknown_changes_nothing() -> None:
    assert engine(instance("a")).on_cancel("nobody", 0) == []


# Coming back after a restart


def test_resumed_leases_count_as_if_placed_here() -> None:
    on = engine(instance("a", concurrency_max=1), instance("b"))
    on.on_resume("g", [OpenLease(request("r1"), "old-1", "a/m", 20, LengthQuantiles(10, 50, 60, 70))], 0)
    load = {one.instance.instance_id: (one.lease_count, one.predicted_tokens) for one in on.instances()}
    assert load == {"a/m": (1, 30), "b/m": (0, 0)}
    assert placed(on, "r2").instance_id == "b/m"


def test_leases_may_be_resumed_before_the_fleet_is_known() -> None:
    on = engine()
    on.on_resume("g", [OpenLease(request("r1"), "old-1", "a/m")], 0)
    on.on_fleet([instance("a", concurrency_max=1)], 0)
    assert on.lease_count("a/m") == 1
    assert arrive(on, "r2") is None


def test_a_resumed_lease_without_a_prediction_gets_one() -> None:
    on = engine(instance("a"))
    on.on_resume("g", [OpenLease(request("r1", tokens_max=100), "old-1", "a/m")], 0)
    assert on.instances()[0].predicted_tokens == 100


def test_a_resumed_lease_answers_its_request() -> None:
    on = engine()
    on.on_resume("g", [OpenLease(request("r1"), "old-1", "a/m")], 0)
    on.on_fleet([instance("a")], 0)
    answer = placed(on, "r1")
    assert (answer.lease_id, answer.grpc_address) == ("old-1", "a:8001")


def test_leases_that_their_own_gateway_does_not_name_end() -> None:
    on = engine(instance("a", concurrency_max=9))
    kept = answers(on.on_arrive(request("r1"), PREDICTION, 0, "g"))[0]
    on.on_arrive(request("r2"), PREDICTION, 0, "g")
    on.on_arrive(request("r3"), PREDICTION, 0, "other")
    assert isinstance(kept, Placement)
    on.on_resume("g", [OpenLease(request("r1"), kept.lease_id, "a/m", 4)], S)
    assert [one.request_id for one in on.leases()] == ["r1", "r3"]
    assert on.leases()[0].generated_tokens == 4


def test_a_lease_belongs_to_the_gateway_that_named_it_last() -> None:
    on = engine(instance("a"))
    lease = OpenLease(request("r1"), "old-1", "a/m")
    on.on_resume("g", [lease], 0)
    on.on_resume("h", [lease], 0)
    on.on_resume("g", [], 0)
    assert on.has_lease("old-1")
    on.on_resume("h", [], 0)
    assert not on.has_lease("old-1")


def test_a_gateway_s_own_lease_of_a_request_it_got_here_is_counted_once() -> None:
    on = engine(instance("a"))
    on.on_arrive(request("r1"), PREDICTION, 0, "g")
    on.on_resume("g", [OpenLease(request("r1"), "own-1", "a/m")], 0)
    assert on.lease_count("a/m") == 1


def test_a_request_that_its_gateway_placed_by_itself_is_not_placed_again() -> None:
    on = engine(instance("a", concurrency_max=1))
    placed(on, "r0")
    assert arrive(on, "r1") is None
    found = answers(on.on_resume("g", [OpenLease(request("r1"), "own-1", "a/m")], 0))
    assert [(one.request_id, one.reason) for one in found if isinstance(one, Rejected)] == [("r1", "CANCELLED")]
    assert on.lease_count("a/m") == 2


def test_a_lease_of_the_gateway_s_own_replaces_the_one_given_here() -> None:
    on = engine(instance("a"), instance("b"))
    placed(on, "r1")
    on.on_resume("g", [OpenLease(request("r1"), "own-1", "b/m")], 0)
    assert [(one.lease_id, one.instance_id) for one in on.leases()] == [("own-1", "b/m")]
    assert on.lease_count("a/m") == 0


# Fleet


def test_nothing_is_placed_on_a_draining_instance() -> None:
    on = engine(instance("a"), instance("b"))
    on.on_drain("a/m", 0)
    assert {placed(on, f"r{number}").instance_id for number in range(2)} == {"b/m"}
    assert on.instances()[0].draining


def test_a_drain_lets_what_runs_finish() -> None:
    on = engine(instance("a"))
    lease = placed(on, "r1").lease_id
    on.on_drain("a/m", 0)
    assert on.lease_count("a/m") == 1
    on.on_finish(lease, Outcome.STOPPED, 40, 0)
    assert on.lease_count("a/m") == on.instances()[0].predicted_tokens == on.queues(0)[0].lease_count == 0


def test_draining_an_unknown_instance_fails() -> None:
    with pytest.raises(NotFound, match="nowhere/m"):
        engine(instance("a")).on_drain("nowhere/m", 0)


@pytest.mark.parametrize("fate", [[], [instance("a", state=InstanceState.LOST)]])
def test_a_lease_outlives_its_instance_until_the_gateway_reports(fate: list[Any]) -> None:
    on = engine(instance("a"))
    lease = placed(on, "r1").lease_id
    on.on_fleet(fate, S)
    assert on.has_lease(lease)
    on.on_finish(lease, Outcome.FAILED, 3, 2 * S)
    assert (on.leases(), on.lease_count("a/m")) == ([], 0)


def test_an_old_sighting_does_not_shut_an_instance_out_for_ever() -> None:
    on = engine(instance("a"), loads_stale_s=15.0)
    assert on.on_loads([InstanceLoad("a/m", "m", False)], 0) == [WakeAt(15 * S)]
    assert arrive(on, "r1", S) is None
    assert answers(on.on_wake(14 * S)) == []
    assert [one.request_id for one in answers(on.on_wake(15 * S))] == ["r1"]


# Questions


def test_queues_tell_what_is_held_and_what_runs() -> None:
    on = engine(instance("a", concurrency_max=1), instance("b", "n"))
    placed(on, "r1")
    for number in range(3):
        arrive(on, f"h{number}", (number + 1) * S)
    found = [(one.model, one.held_count, one.oldest_held_us, one.lease_count) for one in on.queues(9 * S)]
    assert found == [("m", 3, 8 * S, 1), ("n", 0, 0, 0)]


def test_leases_can_be_asked_for_by_instance() -> None:
    on = engine(instance("a"), instance("b"))
    names = {placed(on, f"r{number}").instance_id: f"r{number}" for number in range(2)}
    assert [one.request_id for one in on.leases("b/m")] == [names["b/m"]]


def test_a_decision_can_be_explained_and_an_unknown_one_not() -> None:
    on = engine(instance("a"), instance("b"))
    decision = on.explain(placed(on, "r1").decision_id)
    assert (decision.instance_id, decision.policies["orderer"]) == ("a/m", "fcfs")
    assert decision.flip is not None
    with pytest.raises(NotFound, match="nope"):
        on.explain("nope")


def test_a_rejection_can_be_explained() -> None:
    on = engine(instance("a"))
    assert on.explain(rejected(on, model="nope").decision_id).reason.startswith("MODEL_UNKNOWN")


def test_only_changes_of_the_fleet_or_its_load_are_revisions() -> None:
    on = engine(instance("a", concurrency_max=1))
    revision = on.revision
    on.on_fleet([instance("a", concurrency_max=1)], S)
    on.on_wake(S)
    assert on.revision == revision
    lease = placed(on, "r1", S).lease_id
    assert on.revision > revision
    revision = on.revision
    on.on_progress(lease, 5, S)
    assert on.revision > revision


# Time


def test_time_that_goes_back_stands_still() -> None:
    on = engine(instance("a"), lease_ttl_s=10.0)
    placed(on, "r1", 100 * S)
    assert WakeAt(110 * S) not in on.on_arrive(request("r2"), PREDICTION, 50 * S)
    assert {one.expire_us for one in on.leases()} == {110 * S}


def test_a_wake_is_asked_for_once_unless_something_is_due_earlier() -> None:
    on = engine(instance("a"))
    assert on.on_arrive(request("r1"), PREDICTION, 0)[1:] == [WakeAt(60 * S)]
    assert on.on_arrive(request("r2"), PREDICTION, S)[1:] == []
    assert on.on_arrive(request("r3", hold_timeout_us=S), PREDICTION, 2 * S) == [WakeAt(3 * S)]


def test_a_wake_before_its_time_is_asked_for_again() -> None:
    on = engine(instance("a"))
    placed(on, "r1", 0)
    assert on.on_wake(30 * S) == [WakeAt(60 * S)]


def test_a_router_sees_what_metrics_saw_and_what_was_put_there_since() -> None:
    on = engine(
        instance("a", concurrency_max=64, kv_tokens_max=1_000),
        instance("b", concurrency_max=64, kv_tokens_max=1_000),
        router="least_kv",
    )
    loads = [InstanceLoad(f"{name}/m", "m", True, S, 9, 0, used) for name, used in (("a", 0.45), ("b", 0.2))]
    on.on_loads(loads, S)
    chosen = [
        answers(on.on_arrive(request(f"r{number}", prompt=100), prediction(5), S + number))[0] for number in range(4)
    ]
    assert [one.instance_id for one in chosen if isinstance(one, Placement)] == ["b/m", "b/m", "b/m", "a/m"]
    [best, *_] = on.explain(chosen[-1].decision_id).candidates
    assert best.inputs["kv_utilization"] == 0.45
    assert best.inputs["unseen_prompt_tokens"] == 0


def test_old_sights_are_forgotten_when_metrics_is_silent() -> None:
    on = engine(instance("a"), instance("b"), router="least_kv", lease_ttl_s=20.0)
    on.on_arrive(request("r1"), prediction(5), 0)
    on.on_loads([InstanceLoad("a/m", "m", True, S, 9, 0, 0.9)], S)
    first = answers(on.on_arrive(request("r2"), prediction(5), S))[0]
    assert "kv_utilization" in on.explain(first.decision_id).candidates[1].inputs
    on.on_wake(20 * S)
    then = answers(on.on_arrive(request("r3"), prediction(5), 20 * S))[0]
    assert all("kv_utilization" not in one.inputs for one in on.explain(then.decision_id).candidates)


def test_what_is_placed_at_the_very_time_of_a_sight_was_not_seen() -> None:
    on = engine(instance("a", concurrency_max=9), router="least_kv")
    for number, now_us in enumerate((S - 1, S, S + 1)):
        on.on_arrive(request(f"r{number}", prompt=10**number), prediction(5), now_us)
    on.on_loads([InstanceLoad("a/m", "m", True, S, 1, 0, 0.1)], S + 2)
    last = answers(on.on_arrive(request("r9"), prediction(5), S + 3))[0]
    [one] = on.explain(last.decision_id).candidates
    assert one.inputs["unseen_prompt_tokens"] == 110
    assert one.inputs["unseen_count"] == 2
