"""What the engine of deferred work does, step by step."""

from dataclasses import replace
from typing import Any, TypeVar

from forebay.core.errors import Aborted, InvalidArgument, NoInstanceReady, PromptTooLong, ResourceExhausted
from forebay.core.pressure import WaitingJob
from forebay.core.values import WakeAt
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.engine import Engine
from forebay.gateway.deferred.pacing import Demand
from forebay.gateway.deferred.values import (
    Action,
    Claim,
    End,
    Forecast,
    GiveUp,
    Job,
    JobStatus,
    Line,
    Poll,
    Record,
    Renew,
    RequestState,
    Run,
    Stop,
    Work,
)

S = 1_000_000
NOW = 1_000 * S
HOUR = 3_600 * S
CONFIG = DeferredConfig(window_min=4, window_max=16, attempts_max=3, retry_s=1.0, retry_s_max=4.0, claim_s=60.0)
T = TypeVar("T")


def job(name: str = "batch_1", total: int = 100, hours: float = 24.0, **changes: Any) -> Job:
    base = Job(name, "t", "/v1/completions", "m", "", 0, NOW, NOW + int(hours * HOUR), status=JobStatus.IN_PROGRESS)
    return replace(base, total_count=total, prompt_tokens=100 * total, tokens_max=100 * total, **changes)


def linked(*jobs: Job, config: DeferredConfig = CONFIG) -> tuple[Engine, list[Action]]:
    engine = Engine(config)
    engine.on_link(True, NOW)
    return engine, engine.on_jobs(jobs, 0, NOW)


def only(kind: type[T], actions: list[Action]) -> list[T]:
    return [action for action in actions if isinstance(action, kind)]


def works(count: int, name: str = "batch_1", first: int = 1, claims: int = 1) -> list[Work]:
    return [Work(name, number, f"r{number}", "{}", claims) for number in range(first, first + count)]


def running(count: int = 4, *jobs: Job) -> Engine:
    engine, actions = linked(*(jobs or (job(total=count),)))
    [claim] = only(Claim, actions)[:1]
    assert len(only(Run, engine.on_claimed(claim, works(count), NOW))) == count
    return engine


def line(number: int, name: str = "batch_1") -> Line:
    return Line(name, number, RequestState.ANSWERED, "{}")


def test_it_looks_for_work_at_once_and_then_now_and_then() -> None:
    engine = Engine(CONFIG)
    assert only(Poll, engine.on_wake(NOW)) == [Poll()]
    assert only(Poll, engine.on_wake(NOW + 5 * S)) == [], "one look at a time"
    assert engine.on_jobs([], 0, NOW + 6 * S)[-1] == WakeAt(NOW + 7 * S)
    assert only(Poll, engine.on_wake(NOW + 7 * S)) == [Poll()]


def test_a_calm_hour_keeps_the_smallest_window_full() -> None:
    engine, actions = linked(job())
    [claim] = only(Claim, actions)
    assert claim == Claim("batch_1", 4, NOW + 60 * S)
    runs = only(Run, engine.on_claimed(claim, works(4), NOW))
    assert [run.work.number for run in runs] == [1, 2, 3, 4]
    assert only(Claim, engine.on_wake(NOW + 1)) == []
    [record] = only(Record, engine.on_answered(line(2), 10.0, NOW + S))
    assert record == Record((line(2),))
    [next_claim] = only(Claim, engine.on_recorded(record.lines, NOW + S))
    assert next_claim.count == 1


def test_lines_that_come_while_one_is_written_are_written_together() -> None:
    engine = running()
    [first] = only(Record, engine.on_answered(line(1), 1.0, NOW))
    assert only(Record, engine.on_answered(line(2), 1.0, NOW)) == []
    assert only(Record, engine.on_answered(line(3), 1.0, NOW)) == []
    assert only(Record, engine.on_recorded(first.lines, NOW)) == [Record((line(2), line(3)))]


def test_the_earliest_deadline_comes_first() -> None:
    near, far = job("batch_near", total=3, hours=2), job("batch_far", hours=9)
    _, actions = linked(near, far)
    assert [(claim.job_id, claim.count) for claim in only(Claim, actions)] == [("batch_near", 3), ("batch_far", 1)]


def test_a_job_without_free_requests_is_left_alone_until_the_next_look() -> None:
    near, far = job("batch_1", hours=2), job("batch_2", hours=9)
    engine, actions = linked(near, far)
    [claim] = only(Claim, actions)
    after = engine.on_claimed(claim, works(1), NOW)
    assert [(one.job_id, one.count) for one in only(Claim, after)] == [("batch_2", 3)]
    again = engine.on_jobs([near, far], 1, NOW + S)
    assert [(one.job_id, one.count) for one in only(Claim, again)] == [], "three are being asked for"


def test_a_tight_deadline_widens_the_window_by_little_s_law() -> None:
    # 1,000 requests of 110 tokens of work within 900 s x 0.9, each taken to last 10 s: 13 at a time.
    engine, _ = linked(job(total=1_000, hours=0.25))
    assert engine.window("m", NOW) == 13
    assert Engine(CONFIG).window("m", NOW) == 0
    hopeless, _ = linked(job(total=1_000_000, hours=0.25))
    assert hopeless.window("m", NOW) == CONFIG.window_max


def test_several_gateways_share_the_pace() -> None:
    engine, _ = linked(job(total=1_000, hours=0.25))
    engine.on_jobs([job(total=1_000, hours=0.25)], 2, NOW)
    assert engine.window("m", NOW) == 7


def test_what_answers_needed_is_learnt() -> None:
    engine = running(4, job(total=1_000, hours=0.25))
    engine.on_answered(line(1), 110.0, NOW + 2 * S)
    assert engine.window("m", NOW) == 4, "2 s each: 3 at a time would do"


def test_a_predicted_peak_holds_work_back_and_a_valley_lets_it_go() -> None:
    engine, _ = linked(job(total=100, hours=10))
    peak_then_valley = Demand(NOW, HOUR, (3.6e6, 3.6e6, *(0.0,) * 8))
    engine.on_forecast("m", peak_then_valley, NOW)
    assert engine.window("m", NOW) == 0
    assert engine.window("m", NOW + 2 * HOUR) >= CONFIG.window_min


def test_a_deadline_in_the_peak_is_met_all_the_same() -> None:
    engine, _ = linked(job(total=1_000, hours=0.25))
    engine.on_forecast("m", Demand(NOW, HOUR, (3.6e6, 0.0)), NOW)
    assert engine.window("m", NOW) == 13


def test_a_forecast_that_has_run_out_counts_as_none() -> None:
    engine, _ = linked(job(total=100, hours=100))
    engine.on_forecast("m", Demand(NOW, HOUR, (0.0, 3.6e6)), NOW)
    assert engine.window("m", NOW + HOUR) == 0
    assert engine.window("m", NOW + 3 * HOUR) == CONFIG.window_min


def test_forecasts_are_asked_for_as_long_as_there_is_work() -> None:
    engine, _ = linked(job(hours=1))
    assert only(Forecast, engine.on_wake(NOW)) == [Forecast("m", 12)]
    assert only(Forecast, engine.on_wake(NOW + 299 * S)) == []
    assert only(Forecast, engine.on_wake(NOW + 300 * S)) == [Forecast("m", 11)]
    engine.on_jobs([], 0, NOW + 400 * S)
    assert only(Forecast, engine.on_wake(NOW + 900 * S)) == []


def test_without_the_scheduler_nothing_starts_unless_it_is_urgent() -> None:
    engine = Engine(CONFIG)
    assert only(Claim, engine.on_jobs([job()], 0, NOW)) == []
    assert only(Claim, engine.on_link(True, NOW)) != []
    urgent = Engine(CONFIG)
    assert only(Claim, urgent.on_jobs([job(total=16, hours=0.003)], 0, NOW)) != []


def test_what_has_no_room_is_tried_again_when_the_scheduler_says() -> None:
    engine = running()
    full = ResourceExhausted("full", retry_after_us=7 * S)
    for attempt in range(10):
        at_us = NOW + attempt * 7 * S
        assert only(GiveUp, engine.on_failed(("batch_1", 1), full, at_us)) == []
        assert only(Run, engine.on_wake(at_us + 7 * S - 1)) == []
        [run] = only(Run, engine.on_wake(at_us + 7 * S))
        assert run.work.number == 1
    for error in (NoInstanceReady("none"), ResourceExhausted("full")):
        engine.on_failed(("batch_1", 1), error, NOW + 80 * S)
        assert len(only(Run, engine.on_wake(NOW + 84 * S))) == 1, "pauses are never longer than the longest"


def test_a_broken_answer_is_tried_again_a_few_times_with_growing_pauses() -> None:
    engine, key, now_us = running(), ("batch_1", 1), NOW
    for pause_s in (1, 2):
        assert only(GiveUp, engine.on_failed(key, Aborted("broken"), now_us)) == []
        assert only(Run, engine.on_wake(now_us + pause_s * S - 1)) == []
        now_us += pause_s * S
        assert len(only(Run, engine.on_wake(now_us))) == 1
    [given_up] = only(GiveUp, engine.on_failed(key, Aborted("broken"), now_us))
    assert (given_up.work.number, given_up.error.code) == (1, "ABORTED")


def test_what_is_the_request_s_fault_is_given_up_at_once() -> None:
    engine = running()
    for number, error in ((1, InvalidArgument("bad")), (2, PromptTooLong("long"))):
        assert only(GiveUp, engine.on_failed(("batch_1", number), error, NOW)) == [GiveUp(works(2)[number - 1], error)]


def test_a_request_that_kills_gateways_is_given_up() -> None:
    engine, actions = linked(job(total=2), config=replace(CONFIG, claims_max=5))
    [claim] = only(Claim, actions)
    after = engine.on_claimed(claim, [*works(1, claims=5), *works(1, first=2, claims=6)], NOW)
    assert [run.work.number for run in only(Run, after)] == [1]
    assert [one.work.number for one in only(GiveUp, after)] == [2]


def test_claims_are_renewed_well_before_they_run_out() -> None:
    engine = running(2, job(total=2))
    assert only(Renew, engine.on_wake(NOW + 20 * S - 1)) == []
    [renewal] = only(Renew, engine.on_wake(NOW + 20 * S))
    assert renewal == Renew((("batch_1", 1), ("batch_1", 2)), NOW + 80 * S)
    assert only(Renew, engine.on_wake(NOW + 21 * S)) == []


def test_a_claim_that_went_to_another_gateway_stops_what_runs() -> None:
    engine = running(3, job(total=3))
    engine.on_answered(line(3), 1.0, NOW)
    keys = [("batch_1", number) for number in (1, 2, 3)]
    assert engine.on_renewed(keys, {("batch_1", 1)}, NOW) == [Stop((("batch_1", 2),))], "3 is being written"
    assert engine.on_answered(line(2), 1.0, NOW) == []


def test_a_claim_of_ours_that_comes_back_does_not_run_twice() -> None:
    engine, actions = linked(job(total=8))
    [claim] = only(Claim, actions)
    engine.on_claimed(claim, works(4), NOW)
    assert only(Run, engine.on_claimed(claim, works(4), NOW + 70 * S)) == []


def test_a_cancelled_job_stops_at_once_and_is_ended_once() -> None:
    engine = running()
    cancelled = job(total=4, status=JobStatus.CANCELLING)
    actions = engine.on_jobs([cancelled], 1, NOW)
    assert [set(stop.keys) for stop in only(Stop, actions)] == [{("batch_1", number) for number in (1, 2, 3, 4)}]
    assert only(End, actions) == [End("batch_1")]
    assert only(End, engine.on_jobs([cancelled], 1, NOW + S)) == []
    engine.on_store_failed(End("batch_1"), NOW + S)
    assert only(End, engine.on_jobs([cancelled], 1, NOW + 2 * S)) == [End("batch_1")]


def test_a_job_that_is_answered_is_ended() -> None:
    _, actions = linked(job(total=5, completed_count=3, failed_count=2))
    assert only(End, actions) == [End("batch_1")]
    assert only(Claim, actions) == []


def test_at_its_deadline_a_job_is_broken_off_but_a_line_that_is_there_is_written() -> None:
    engine = running(3, job(total=3, hours=1))
    engine.on_answered(line(3), 1.0, NOW)
    assert engine.on_failed(("batch_1", 2), ResourceExhausted("full"), NOW) != []
    actions = engine.on_wake(NOW + HOUR)
    assert [set(stop.keys) for stop in only(Stop, actions)] == [{("batch_1", 1), ("batch_1", 2)}]
    assert only(End, actions) == [End("batch_1")]
    assert engine.flight_count == 1


def test_lines_wait_for_a_store_that_is_away() -> None:
    engine = running()
    [record] = only(Record, engine.on_answered(line(1), 1.0, NOW))
    engine.on_store_failed(record, NOW)
    assert only(Record, engine.on_wake(NOW + S - 1)) == []
    assert only(Record, engine.on_wake(NOW + S)) == [record]


def test_a_claim_that_is_not_answered_is_asked_for_again_at_the_next_look() -> None:
    engine, actions = linked(job())
    [claim] = only(Claim, actions)
    engine.on_store_failed(claim, NOW)
    assert only(Claim, engine.on_wake(NOW + 1)) == []
    assert [one.count for one in only(Claim, engine.on_jobs([job()], 0, NOW + S))] == [4]


def test_a_submission_is_looked_at_without_delay() -> None:
    engine, _ = linked()
    assert only(Poll, engine.on_submitted(NOW + 1)) == [Poll()]


def test_what_waits_is_told_with_what_is_sent_and_the_means_of_a_request() -> None:
    sooner = job("batch_1", total=4, completed_count=1)
    engine = running(
        3, sooner, job("batch_2", hours=1.0), job("batch_3", status=JobStatus.CANCELLING), job("batch_4", 0)
    )
    engine.on_failed(("batch_1", 1), ResourceExhausted("no room"), NOW)
    assert engine.waiting("west") == (
        WaitingJob("batch_2", "m", "west", NOW + HOUR, NOW, 100, 0, 100, 100),
        WaitingJob("batch_1", "m", "west", NOW + 24 * HOUR, NOW, 3, 2, 100, 100),
    )
