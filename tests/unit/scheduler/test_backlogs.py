import pytest

from forebay.core.pressure import WaitingGroup, WaitingJob
from forebay.core.values import LengthQuantiles, SloClass
from forebay.core.waiting import work_of
from forebay.scheduler.backlogs import KEPT_US, Backlogs
from tests.unit.scheduler.kit import S, engine, instance, prediction, request

LENGTHS = LengthQuantiles(50, 100, 200, 300)
WORK = work_of(LENGTHS)


def job(
    name: str, remaining: int = 10, deadline_s: int = 1_000, in_flight: int = 0, region: str = "local"
) -> WaitingJob:
    return WaitingJob(name, "m", region, deadline_s * S, 5 * S, remaining, in_flight, 20)


def groups(made: Backlogs, now_us: int = S) -> tuple[WaitingGroup, ...]:
    return made.groups(lambda model, prompt_tokens: LENGTHS, 100 * S, now_us)


def test_jobs_that_are_due_together_are_one_group_of_stored_requests() -> None:
    made = Backlogs()
    made.tell("g1", [job("a", 10, 1_050), job("b", 3, 1_020), job("c", 2, 1_130), job("d", 1, 1_000, region="west")], S)
    found = groups(made)
    assert [(one.region, one.due_us // S, one.request_count) for one in found] == [
        ("local", 1_020, 13),
        ("local", 1_130, 2),
        ("west", 1_000, 1),
    ]
    mean, variance = pytest.approx(13 * WORK.mean_tokens), pytest.approx(13 * WORK.variance)
    assert found[0] == WaitingGroup("m", "local", SloClass.DEFERRED, 1_020 * S, 5 * S, 13, 260, mean, variance, True)  # type: ignore[arg-type]


def test_gateways_with_one_store_tell_of_the_same_jobs_and_what_each_has_sent_is_taken_off() -> None:
    made = Backlogs()
    made.tell("g1", [job("a", 100, in_flight=8)], S)
    made.tell("g2", [job("a", 97, in_flight=5), job("b", 2, in_flight=2)], S)
    assert [one.request_count for one in groups(made)] == [97 - 8 - 5]


def test_a_gateway_s_word_takes_the_place_of_its_last_one_and_is_forgotten_after_a_while() -> None:
    made = Backlogs()
    made.tell("g1", [job("a")], S)
    made.tell("g1", [job("b", 4)], 2 * S)
    assert [one.request_count for one in groups(made, 2 * S + KEPT_US)] == [4]
    assert groups(made, 2 * S + KEPT_US + 1) == ()
    made.tell("g2", [], 3 * S + KEPT_US)
    made.tell("g1", [], 3 * S + KEPT_US)
    assert groups(made, 3 * S + KEPT_US) == ()


def test_no_answer_is_taken_to_be_longer_than_its_limit() -> None:
    made = Backlogs()
    made.tell("g1", [WaitingJob("a", "m", "local", S, S, 1, prompt_tokens=5, tokens_max=80)], S)
    assert groups(made)[0].mean_tokens == work_of(LENGTHS.capped(80)).mean_tokens


def test_the_engine_tells_it_behind_what_it_holds_by_its_own_lengths() -> None:
    made = engine(instance("a", concurrency_max=1))
    for name in ("r1", "r2"):
        made.on_arrive(request(name), prediction(), S)
    assert made.on_backlog("g1", [job("a")], S) == []
    held, stored = made.pressure(S).waiting
    assert (held.is_stored, held.request_count, stored.is_stored, stored.request_count) == (False, 1, True, 10)
    assert stored.mean_tokens > 0
