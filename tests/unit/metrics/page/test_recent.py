"""Promises by class, the pace of instances, and the newest records, all bounded."""

import pytest

from forebay.core.metrics import RequestStatus
from forebay.core.promises import Promise
from forebay.core.values import SloClass
from forebay.metrics.page import recent as module
from forebay.metrics.page.config import PageConfig
from forebay.metrics.page.recent import keeps
from tests.unit.metrics.page.kit import NOW, S, recent, record

FAST, NORMAL, DEFERRED = SloClass
PROMISE = Promise(ttft_s=1.0, tpot_ms=200.0)


def test_an_answer_within_all_promises_keeps_them_and_one_beyond_any_does_not() -> None:
    assert keeps(record(), PROMISE)
    assert not keeps(record(ttft_us=S + 1), PROMISE)
    # Fifteen gaps of more than 200 ms after the first token.
    assert not keeps(record(end_to_end_us=4 * S), PROMISE)
    assert not keeps(record(end_to_end_us=3 * S), Promise(e2e_s=2.5))


def test_what_failed_or_was_turned_away_was_not_kept_its_promise_and_who_left_says_nothing() -> None:
    assert keeps(record(status=RequestStatus.FAILED), PROMISE) is False
    assert keeps(record(status=RequestStatus.REJECTED), PROMISE) is False
    assert keeps(record(status=RequestStatus.CANCELLED), PROMISE) is None


def test_a_class_without_a_promise_is_kept_whatever_it_took() -> None:
    assert keeps(record(ttft_us=900 * S, end_to_end_us=990 * S), Promise())


def test_attainment_is_counted_by_class_in_the_bucket_in_which_the_request_ended() -> None:
    made = recent()
    for name, ttft_us in (("a", S // 2), ("b", 2 * S)):
        made.observe(record(name, slo_class=FAST, arrival_us=NOW - 2 * S, ttft_us=ttft_us))
    made.observe(record("c", slo_class=NORMAL, arrival_us=NOW + 9 * S))
    assert made.attainment(NOW) == {(FAST, NOW): (1, 2), (NORMAL, NOW + 10 * S): (1, 1)}


def test_what_is_older_than_the_history_is_forgotten() -> None:
    made = recent()
    made.observe(record())
    assert made.attainment(NOW + module.HISTORY_US - 5 * S)
    assert not made.attainment(NOW + module.HISTORY_US + 20 * S)


def test_only_the_newest_records_are_kept_and_their_numbers_grow() -> None:
    made = recent()
    for number in range(module.RECORD_COUNT_MAX + 5):
        made.observe(record(str(number)))
    kept = made.records()
    assert len(kept) == module.RECORD_COUNT_MAX
    assert [one.number for one in kept] == list(range(6, module.RECORD_COUNT_MAX + 6))


def test_the_store_begins_the_history_only_where_nothing_has_come_yet() -> None:
    made = recent()
    made.begin_with([record("new"), record("old")])
    assert [one.record.request_id for one in made.records()] == ["old", "new"]
    made.begin_with([record("older still")])
    assert len(made.records()) == 2


def test_the_pace_is_that_of_the_instance_else_of_its_model_else_unknown() -> None:
    made = recent()
    made.observe(record(ttft_us=S // 2, end_to_end_us=2 * S, response_tokens=16))
    assert made.pace_us("a/m", "m") == pytest.approx(100_000)
    assert made.pace_us("b/m", "m") == pytest.approx(100_000)
    assert made.pace_us("c/n", "n") is None
    made.observe(record(instance_id="b/m", end_to_end_us=S // 2 + 15 * 20_000))
    assert made.pace_us("b/m", "m") == pytest.approx(20_000)
    assert made.pace_us("a/m", "m") == pytest.approx(100_000)


@pytest.mark.parametrize(
    "settings", [{"interval_s": 0}, {"ttft_interactive_fast_s": -1}, {"call_timeout_s": float("inf")}]
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        PageConfig(**settings)  # type: ignore[arg-type]
