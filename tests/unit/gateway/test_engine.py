from dataclasses import replace

import pytest

from forebay.core.errors import (
    Aborted,
    InvalidArgument,
    ModelUnknown,
    NoInstanceReady,
    PromptTooLong,
    ResourceExhausted,
    Unavailable,
)
from forebay.core.scheduling import Placement
from forebay.core.values import InferenceRequest, Instance, InstanceState, LengthQuantiles, Outcome, WakeAt
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.values import (
    Action,
    Ask,
    Attempt,
    End,
    Fail,
    Renew,
    Report,
    RequestRecord,
    RequestStatus,
    Resume,
    Withdraw,
)

S = 1_000_000
REQUEST = InferenceRequest("r1", "llama", prompt_tokens=10, prompt_head="Hello")
DIED = Aborted("the instance died")


def instance(instance_id: str, state: InstanceState = InstanceState.READY, concurrency_max: int = 2) -> Instance:
    return Instance(instance_id, "llama", f"{instance_id}:1", instance_id, state=state, concurrency_max=concurrency_max)


def placement(request_id: str = "r1", instance_id: str = "a", lease_id: str = "lease") -> Placement:
    return Placement(
        request_id, lease_id, "decision", instance_id, f"{instance_id}:1", LengthQuantiles(1, 2, 3, 4), "p", 30 * S
    )


def linked(config: Config | None = None) -> Engine:
    engine = Engine(config or Config())
    engine.on_link_up("", 0)
    engine.on_fleet([instance("a"), instance("b")], 0)
    return engine


def alone(*instances: Instance, config: Config | None = None) -> Engine:
    """An engine that has seen a fleet and then lost its scheduler."""
    engine = Engine(config or Config())
    engine.on_link_up("", 0)
    engine.on_fleet(instances or (instance("a"), instance("b")), 0)
    engine.on_link_down("", 0)
    return engine


def running(config: Config | None = None) -> Engine:
    engine = linked(config)
    engine.on_arrive(REQUEST, 1 * S)
    engine.on_placed("", placement(), 2 * S)
    return engine


def only(actions: list[Action], kind: type[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


def record(actions: list[Action]) -> RequestRecord:
    [report] = [action for action in actions if isinstance(action, Report)]
    return report.record


def error(actions: list[Action]) -> Exception:
    [fail] = [action for action in actions if isinstance(action, Fail)]
    return fail.error


def placed(actions: list[Action]) -> list[tuple[str, str]]:
    return [(one.request_id, one.placement.instance_id) for one in actions if isinstance(one, Attempt)]


def test_an_arrival_is_put_to_the_scheduler() -> None:
    assert linked().on_arrive(REQUEST, 1) == [Ask(REQUEST)]


def test_a_placed_request_is_sent_to_its_instance() -> None:
    engine = linked()
    engine.on_arrive(REQUEST, 1)
    assert engine.on_placed("", placement(), 2) == [Attempt("r1", placement())]


def test_a_finished_request_ends_its_lease_and_is_reported_beside_its_prediction() -> None:
    engine = running()
    assert engine.on_tokens("r1", 1, 12, 3 * S) == []
    engine.on_tokens("r1", 7, 12, 4 * S)
    actions = engine.on_finished("r1", Outcome.LENGTH, 5 * S)
    assert actions[0] == End("lease", Outcome.LENGTH, 7, 12)
    assert record(actions) == RequestRecord(
        request=REQUEST,
        status=RequestStatus.OK,
        arrival_us=1 * S,
        placed_us=2 * S,
        first_token_us=3 * S,
        end_us=5 * S,
        placement=placement(),
        prompt_tokens=12,
        response_tokens=7,
        attempt_count=1,
        error_reason="",
        censored=True,
    )
    assert engine.flight_count == 0


def test_a_rejected_request_fails_with_the_scheduler_s_reason() -> None:
    engine = linked()
    engine.on_arrive(REQUEST, 1)
    refusal = PromptTooLong("too long")
    actions = engine.on_refused("", "r1", refusal, 2)
    assert error(actions) is refusal
    assert record(actions).status is RequestStatus.REJECTED
    assert record(actions).error_reason == "PROMPT_TOO_LONG"


def test_an_unknown_model_is_refused_with_the_names_of_those_that_exist() -> None:
    engine = linked()
    engine.on_arrive(replace(REQUEST, model="lama"), 1)
    assert "known models: llama" in str(error(engine.on_refused("", "r1", ModelUnknown("no"), 2)))


def test_an_instance_that_fails_before_the_first_token_is_excluded_from_the_next_question() -> None:
    engine = running()
    end, ask = engine.on_failed("r1", DIED, 3 * S)
    assert end == End("lease", Outcome.FAILED, 0, 0)
    assert ask == Ask(replace(REQUEST, excluded_instance_ids=frozenset({"a"})))
    assert placed(engine.on_placed("", placement(instance_id="b", lease_id="l2"), 4 * S)) == [("r1", "b")]
    done = record(engine.on_finished("r1", Outcome.STOPPED, 5 * S))
    assert (done.status, done.attempt_count, done.censored) == (RequestStatus.OK, 2, False)


def test_after_the_last_attempt_the_client_gets_the_instance_s_error() -> None:
    engine = running(Config(attempts_max=1))
    actions = engine.on_failed("r1", DIED, 3 * S)
    assert error(actions) is DIED
    assert record(actions).status is RequestStatus.FAILED


def test_when_no_other_instance_is_left_the_client_gets_the_instance_s_error_rather_than_the_scheduler_s() -> None:
    engine = running()
    engine.on_failed("r1", DIED, 3 * S)
    actions = engine.on_refused("", "r1", NoInstanceReady("all excluded"), 4 * S)
    assert error(actions) is DIED
    assert record(actions).status is RequestStatus.FAILED


def test_an_instance_that_fails_after_the_first_token_is_not_replaced() -> None:
    engine = running()
    engine.on_tokens("r1", 3, 12, 3 * S)
    actions = engine.on_failed("r1", DIED, 4 * S)
    assert actions[0] == End("lease", Outcome.FAILED, 3, 12)
    assert error(actions) is DIED
    assert not only(actions, Ask)
    assert record(actions).response_tokens == 3


def test_what_the_model_refuses_is_not_tried_elsewhere() -> None:
    actions = running().on_failed("r1", InvalidArgument("seed must be positive"), 3 * S)
    assert isinstance(error(actions), InvalidArgument)
    assert not only(actions, Ask)


def test_a_client_that_leaves_while_it_waits_is_withdrawn() -> None:
    engine = linked()
    engine.on_arrive(REQUEST, 1)
    actions = engine.on_gone("r1", 2)
    assert actions[0] == Withdraw("r1")
    assert record(actions).status is RequestStatus.CANCELLED
    assert engine.on_placed("", placement(), 3) == []


def test_a_client_that_leaves_in_the_middle_ends_its_lease() -> None:
    engine = running()
    engine.on_tokens("r1", 3, 12, 3 * S)
    actions = engine.on_gone("r1", 4 * S)
    assert actions[0] == End("lease", Outcome.CANCELLED, 3, 12)
    assert record(actions).status is RequestStatus.CANCELLED


def test_what_ended_stays_ended() -> None:
    engine = running()
    engine.on_finished("r1", Outcome.STOPPED, 3 * S)
    assert engine.on_gone("r1", 4 * S) == []
    assert engine.on_failed("r1", DIED, 4 * S) == []
    assert engine.on_finished("r1", Outcome.STOPPED, 4 * S) == []
    assert engine.on_tokens("r1", 9, 9, 4 * S) == []


def test_more_requests_than_the_limit_are_refused_at_once() -> None:
    engine = linked(Config(requests_max=1))
    engine.on_arrive(REQUEST, 1)
    actions = engine.on_arrive(replace(REQUEST, request_id="r2"), 2)
    refusal = error(actions)
    assert isinstance(refusal, ResourceExhausted)
    assert refusal.retry_after_us
    assert record(actions).status is RequestStatus.REJECTED


def test_running_requests_are_renewed_once_an_interval() -> None:
    engine = running()
    engine.on_tokens("r1", 5, 12, 3 * S)
    assert engine.on_wake(2 * S + 999_999) == [WakeAt(3 * S + 249_999)]
    assert engine.on_wake(3 * S) == [Renew("lease", 5), WakeAt(3 * S + 250_000)]
    assert engine.on_wake(3 * S + 250_000) == [WakeAt(3 * S + 500_000)]


def test_the_rate_of_renewals_is_bounded() -> None:
    engine = linked(Config(progress_rate_max=2))
    for number in range(8):
        engine.on_arrive(replace(REQUEST, request_id=f"r{number}"), 0)
        engine.on_placed("", placement(f"r{number}", lease_id=f"l{number}"), 0)
    assert not only(engine.on_wake(3_999_999), Renew)
    assert len(only(engine.on_wake(4 * S), Renew)) == 8


def test_those_whose_renewal_is_due_are_known_before() -> None:
    engine = linked(Config())
    for number in range(3):
        engine.on_arrive(replace(REQUEST, request_id=f"r{number}"), 0)
        engine.on_placed("", placement(f"r{number}", lease_id=f"l{number}"), number * S // 2)
    assert [engine.due(at) for at in (S - 1, S, 3 * S // 2)] == [[], ["r0"], ["r0", "r1"]]
    assert only(engine.on_wake(3 * S // 2), Renew) == [Renew("l0", 0), Renew("l1", 0)]
    assert engine.due(2 * S) == ["r2"]


def test_a_wake_before_the_engine_says_so_names_the_next_tick_and_no_more() -> None:
    engine = linked(Config(progress_interval_s=5.0, placement_timeout_s=7.0))
    assert engine.quiet_until_us(S) == S, "no lease was seen yet, and the first may be short"
    for number in range(3):
        engine.on_arrive(replace(REQUEST, request_id=f"r{number}"), 0)
        engine.on_placed("", placement(f"r{number}", lease_id=f"l{number}"), number * S)
    assert engine.quiet_until_us(S) == 5 * S
    assert engine.on_wake(5 * S - 1) == [WakeAt(5 * S + 249_999)]
    assert only(engine.on_wake(5 * S), Renew) == [Renew("l0", 0)]
    engine.on_arrive(replace(REQUEST, request_id="r3"), 5 * S)
    engine.on_wake(7 * S)
    assert engine.quiet_until_us(7 * S) == 10 * S
    engine.on_wake(11 * S)
    assert engine.quiet_until_us(11 * S) == 12 * S, "patience with the scheduler ends before the next renewal"
    engine.on_link_down("", 11 * S)
    assert engine.quiet_until_us(11 * S) == 11 * S


def test_a_clock_that_was_set_back_delays_no_renewal_of_later_leases() -> None:
    engine = linked(Config())
    for number, placed_us in enumerate((100 * S, 0)):
        engine.on_arrive(replace(REQUEST, request_id=f"r{number}"), placed_us)
        engine.on_placed("", placement(f"r{number}", lease_id=f"l{number}"), placed_us)
    assert only(engine.on_wake(S), Renew) == [Renew("l1", 0)]


def test_a_lease_is_renewed_before_it_expires_whatever_the_rate() -> None:
    engine = linked(Config(progress_interval_s=100.0))
    engine.on_arrive(REQUEST, 0)
    engine.on_placed("", replace(placement(), lease_ttl_us=3 * S), 0)
    assert only(engine.on_wake(1 * S), Renew) == [Renew("lease", 0)]


def test_without_a_scheduler_the_instance_with_the_fewest_requests_is_taken() -> None:
    engine = alone()
    chosen = [placed(engine.on_arrive(replace(REQUEST, request_id=f"r{n}"), 1)) for n in range(4)]
    assert chosen == [[("r0", "a")], [("r1", "b")], [("r2", "a")], [("r3", "b")]]


def test_requests_that_the_scheduler_placed_count_when_it_is_gone() -> None:
    engine = linked()
    engine.on_arrive(REQUEST, 1)
    engine.on_placed("", placement(), 2)
    engine.on_link_down("", 3)
    assert placed(engine.on_arrive(replace(REQUEST, request_id="r2"), 4)) == [("r2", "b")]


def test_questions_without_an_answer_are_placed_when_the_scheduler_is_lost() -> None:
    engine = linked()
    engine.on_arrive(REQUEST, 1)
    assert placed(engine.on_link_down("", 2)) == [("r1", "a")]


def test_without_a_scheduler_draining_instances_get_nothing() -> None:
    engine = alone(instance("a", InstanceState.DRAINING), instance("b"))
    assert placed(engine.on_arrive(REQUEST, 1)) == [("r1", "b")]


def test_without_a_scheduler_an_instance_that_just_failed_is_the_last_resort() -> None:
    engine = alone()
    engine.on_arrive(REQUEST, 1)
    assert placed(engine.on_failed("r1", DIED, 2)) == [("r1", "b")]
    assert placed(engine.on_arrive(replace(REQUEST, request_id="r2"), 3)) == [("r2", "b")]
    assert placed(engine.on_arrive(replace(REQUEST, request_id="r3"), 6 * S)) == [("r3", "a")]


def test_without_a_scheduler_requests_wait_for_room_in_the_order_they_came() -> None:
    engine = alone(instance("a", concurrency_max=1), config=Config(fallback_queue_factor=1.0))
    engine.on_arrive(replace(REQUEST, request_id="r0"), 1)
    assert engine.on_arrive(REQUEST, 2) == []
    assert engine.on_arrive(replace(REQUEST, request_id="r2"), 3) == []
    assert placed(engine.on_finished("r0", Outcome.STOPPED, 4)) == [("r1", "a")]
    assert placed(engine.on_gone("r1", 5)) == [("r2", "a")]


def test_without_a_scheduler_patience_ends() -> None:
    engine = alone(instance("a", concurrency_max=1), config=Config(fallback_queue_factor=1.0, placement_timeout_s=5.0))
    engine.on_arrive(replace(REQUEST, request_id="r0"), 0)
    engine.on_arrive(REQUEST, 0)
    assert engine.on_wake(4 * S) == [WakeAt(4 * S + 250_000)]
    actions = engine.on_wake(5 * S)
    assert isinstance(error(actions), ResourceExhausted)
    assert record(actions).request is REQUEST


def test_requests_that_wait_are_asked_for_when_the_scheduler_returns() -> None:
    engine = alone(instance("a", concurrency_max=1), config=Config(fallback_queue_factor=1.0))
    engine.on_arrive(replace(REQUEST, request_id="r0"), 1)
    engine.on_arrive(REQUEST, 2)
    resume, ask = engine.on_link_up("", 3)
    assert ask == Ask(REQUEST)
    assert isinstance(resume, Resume)


@pytest.mark.parametrize(
    ("instances", "model", "kind"),
    [
        ([], "llama", Unavailable),
        ([instance("a")], "lama", ModelUnknown),
        ([instance("a", InstanceState.LOADING)], "llama", NoInstanceReady),
    ],
)
def test_without_a_scheduler_and_without_an_instance_the_client_learns_why(
    instances: list[Instance], model: str, kind: type[Exception]
) -> None:
    engine = Engine(Config())
    engine.on_fleet(instances, 0)
    assert type(error(engine.on_arrive(replace(REQUEST, model=model), 1))) is kind


def test_a_returning_scheduler_hears_of_all_that_runs_and_of_what_ended_meanwhile() -> None:
    engine = running()
    engine.on_tokens("r1", 4, 12, 3 * S)
    engine.on_arrive(replace(REQUEST, request_id="r2"), 3 * S)
    engine.on_placed("", placement("r2", "b", "l2"), 3 * S)
    engine.on_link_down("", 3 * S)
    assert not only(engine.on_finished("r2", Outcome.STOPPED, 4 * S), End)
    engine.on_arrive(replace(REQUEST, request_id="r3"), 4 * S)
    resume, *rest = engine.on_link_up("", 5 * S)
    assert isinstance(resume, Resume)
    opened = {one.lease_id: one for one in resume.leases}
    assert set(opened) == {"lease", "l2", "own-r3-1"}
    assert opened["lease"].generated_tokens == 4
    assert opened["lease"].predicted == LengthQuantiles(1, 2, 3, 4)
    assert opened["own-r3-1"].predicted is None
    assert rest == [End("l2", Outcome.STOPPED, 0, 0)]


def test_what_ended_is_told_to_one_scheduler_only() -> None:
    engine = running()
    engine.on_link_down("", 3 * S)
    engine.on_finished("r1", Outcome.STOPPED, 4 * S)
    assert only(engine.on_link_up("", 5 * S), End)
    engine.on_link_down("", 6 * S)
    assert engine.on_link_up("", 7 * S) == [Resume(())]


def test_a_request_that_waits_for_room_beside_a_silent_scheduler_gets_it() -> None:
    engine = linked(Config(placement_timeout_s=5.0, fallback_queue_factor=1.0))
    engine.on_fleet([instance("a", concurrency_max=1)], 0)
    engine.on_arrive(replace(REQUEST, request_id="r0"), 0)
    engine.on_placed("", placement("r0"), 0)
    engine.on_arrive(REQUEST, 0)
    assert not placed(engine.on_wake(5 * S))
    engine.on_finished("r0", Outcome.STOPPED, 6 * S)
    assert placed(engine.on_wake(7 * S)) == [("r1", "a")]


def test_a_request_that_left_while_it_waited_is_not_placed() -> None:
    engine = alone(instance("a", concurrency_max=1), config=Config(fallback_queue_factor=1.0))
    engine.on_arrive(replace(REQUEST, request_id="r0"), 1)
    engine.on_arrive(REQUEST, 2)
    engine.on_gone("r1", 3)
    assert not placed(engine.on_finished("r0", Outcome.STOPPED, 4))


def test_a_resumed_lease_holds_no_prompt() -> None:
    engine = running()
    engine.on_link_down("", 3)
    [resume] = engine.on_link_up("", 4)
    assert isinstance(resume, Resume)
    assert resume.leases[0].request == replace(REQUEST, prompt_head="")


def test_a_request_that_the_gateway_placed_is_told_only_after_a_resume() -> None:
    engine = alone()
    engine.on_arrive(REQUEST, 1)
    engine.on_arrive(replace(REQUEST, request_id="r2"), 1)
    assert not only(engine.on_finished("r2", Outcome.STOPPED, 2), End)
    engine.on_link_up("", 3)
    assert engine.on_finished("r1", Outcome.STOPPED, 4)[0] == End("own-r1-1", Outcome.STOPPED, 0, 0)


def test_a_scheduler_that_never_answers_is_given_up_and_told_so() -> None:
    engine = linked(Config(placement_timeout_s=5.0))
    engine.on_arrive(REQUEST, 0)
    withdrawal, attempt, _ = engine.on_wake(5 * S)
    assert withdrawal == Withdraw("r1")
    assert placed([attempt]) == [("r1", "a")]
    assert engine.on_placed("", placement(), 6 * S) == []


def test_a_scheduler_that_knows_no_fleet_yet_does_not_take_ours_away() -> None:
    engine = alone()
    engine.on_fleet([], 1)
    assert placed(engine.on_arrive(REQUEST, 2)) == [("r1", "a")]


def test_the_oldest_question_is_known_as_long_as_it_is_open() -> None:
    engine = linked()
    assert engine.oldest_ask_us() is None
    engine.on_arrive(REQUEST, 3)
    engine.on_arrive(replace(REQUEST, request_id="r2"), 5)
    assert engine.oldest_ask_us() == 3
    engine.on_placed("", placement(), 6)
    assert engine.oldest_ask_us() == 5


def test_a_failure_that_the_client_has_seen_is_final_though_no_token_had_come() -> None:
    engine = running()
    found = engine.on_failed("r1", DIED, 2, is_final=True)
    assert [type(one) for one in found] == [End, Fail, Report]
    assert engine.flight_count == 0
    assert engine.fleet.suspected(3) == {"a"}
    assert engine.fleet.suspected(3 + 5 * S) == set()


def test_an_answer_that_came_whole_has_its_counts_and_no_time_of_a_first_token() -> None:
    engine = running()
    assert engine.on_counted("r1", 7, 3, 2) == []
    end, ended = engine.on_finished("r1", Outcome.STOPPED, 3)
    assert isinstance(end, End)
    assert isinstance(ended, Report)
    assert (end.generated_tokens, end.prompt_tokens) == (7, 3)
    assert (ended.record.first_token_us, ended.record.response_tokens) == (0, 7)


def test_instances_that_a_request_excludes_are_not_chosen_without_a_scheduler_either() -> None:
    engine = alone()
    assert placed(engine.on_arrive(replace(REQUEST, excluded_instance_ids=frozenset({"a"})), 1)) == [("r1", "b")]
