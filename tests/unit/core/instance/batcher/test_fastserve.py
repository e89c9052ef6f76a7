"""Skip-join MLFQ, by hand: with quanta of 50 ms, 100 ms, 200 ms."""

import pytest

from forebay.core.instance import EngineFlags
from forebay.core.instance.batcher import BatchView
from forebay.core.instance.batcher.fastserve import FastServe
from tests.unit.core.instance.batcher.seen import CLEAR, MS_PS, Seen, decodes, plan, waits

QUEUES = "fastserve:queue_count=4,quantum_s=0.05,promote_s=1.0"


@pytest.mark.parametrize(
    ("request_seen", "level"),
    [
        (waits("a", 50), 0),
        (waits("a", 51), 1),
        (waits("a", 101), 2),
        (decodes("a", 40, 1), 0),
        (decodes("a", 60, 3), 1),
        (decodes("a", 60, 8), 2),
    ],
)
def test_a_prompt_joins_the_queue_that_holds_it_and_falls_as_its_answer_grows(request_seen: Seen, level: int) -> None:
    view = BatchView([], [], 40, CLEAR, EngineFlags(), 0)
    assert FastServe(queue_count=4, quantum_s=0.05).level(request_seen, view) == level


def test_waiting_lifts_for_good() -> None:
    view = BatchView([], [], 40, CLEAR, EngineFlags(), 2_500 * MS_PS)
    policy = FastServe(queue_count=4, quantum_s=0.05, promote_s=1.0)
    assert policy.level(waits("a", 399), view) == 1
    assert policy.level(decodes("a", 399, 1, queued_ms=2_500), view) == 1


def test_a_short_prompt_takes_the_memory_of_a_long_answer() -> None:
    planned = plan(QUEUES, [decodes("a", 60, 30)], [waits("b", 40)], free_blocks=1)
    assert (planned.preempted, planned.admitted) == (("a",), ("b",))


def test_in_a_queue_those_who_run_stay() -> None:
    planned = plan(QUEUES, [decodes("b", 30, 1)], [waits("a", 35)], free_blocks=1)
    assert (planned.preempted, planned.admitted) == ((), ())
