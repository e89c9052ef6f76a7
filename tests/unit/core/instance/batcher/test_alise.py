"""ALISE: queues by predicted remaining time, by hand: bounds of 200 ms, 400 ms, 800 ms."""

import pytest

from forebay.core.instance import EngineFlags
from forebay.core.instance.batcher import BatchView
from forebay.core.instance.batcher.alise import Alise
from tests.unit.core.instance.batcher.seen import CLEAR, MS_PS, Seen, decodes, plan, waits

QUEUES = "alise:queue_count=4,first_s=0.2,promote_s=1.0"
POLICY = Alise(queue_count=4, first_s=0.2, promote_s=1.0)


def level(one: Seen, now_ms: int = 0) -> int:
    return POLICY.level(one, BatchView([], [], 40, CLEAR, EngineFlags(), now_ms * MS_PS))


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (waits("a", 50, predicted_tokens=15), 0),
        (waits("a", 51, predicted_tokens=15), 1),
        (waits("a", 50, predicted_tokens=36), 2),
        (waits("a", 50, predicted_tokens=400), 3),
        (decodes("a", 60, 30, predicted_tokens=50), 0),
        (decodes("a", 60, 29, predicted_tokens=50), 1),
    ],
)
def test_the_queue_is_that_of_the_remaining_time(one: Seen, expected: int) -> None:
    assert level(one) == expected


def test_an_overrun_prediction_takes_a_request_down() -> None:
    # 14 tokens of a new 28 are left, 140 ms: the top queue but for the one doubling.
    assert level(decodes("a", 60, 13, predicted_tokens=14)) == 0
    assert level(decodes("a", 60, 14, predicted_tokens=14)) == 1


def test_waiting_lifts_queue_by_queue_and_for_good() -> None:
    long = waits("a", 50, predicted_tokens=400)
    assert [level(long, now_ms) for now_ms in (999, 1_000, 2_000, 3_000, 9_000)] == [3, 2, 1, 0, 0]
    assert level(decodes("a", 60, 1, predicted_tokens=400, queued_ms=2_000), 9_000) == 1


def test_a_higher_queue_takes_the_memory_of_a_lower_one() -> None:
    planned = plan(QUEUES, [decodes("a", 60, 1, predicted_tokens=90)], [waits("b", 40, predicted_tokens=9)], 0, 1)
    assert (planned.preempted, planned.admitted) == (("a",), ("b",))


def test_in_a_queue_those_who_run_stay() -> None:
    running = [decodes("b", 60, 1, predicted_tokens=90)]
    planned = plan(QUEUES, running, [waits("a", 40, predicted_tokens=80)], 0, 1)
    assert (planned.preempted, planned.admitted) == ((), ())


def test_those_who_wait_enter_by_expected_wait_and_that_of_ageing_counts() -> None:
    # All in the second queue: "c" is lifted in 100 ms, before the 890 ms of those before it have passed.
    waiting = [
        waits("a", 60, predicted_tokens=30, since_ms=900),
        waits("b", 60, predicted_tokens=32, since_ms=900),
        waits("c", 60, predicted_tokens=34, since_ms=0),
    ]
    assert plan(QUEUES, [], waiting, now_ms=900, free_blocks=60).admitted[:1] == ("a",)
    running = [decodes("d", 60, 1, predicted_tokens=31)]
    assert plan(QUEUES, running, waiting, now_ms=900, free_blocks=60).admitted[:1] == ("c",)


def test_engines_that_never_evict_keep_all_who_run() -> None:
    running = [decodes("a", 60, 1, predicted_tokens=90, tokens_max=340)]
    waiting = [waits("b", 40, predicted_tokens=9, tokens_max=70)]
    planned = plan(QUEUES, running, waiting, no_evict=True)
    assert (planned.preempted, planned.admitted, planned.decodes) == ((), (), ("a",))
