"""PLAS: calls by the service of their session, by hand: queues of up to 100, 200 and 400 tokens."""

import pytest

from forebay.core.instance import EngineFlags
from forebay.core.instance.batcher import BatchView
from forebay.core.instance.batcher.autellix import Autellix
from tests.unit.core.instance.batcher.seen import CLEAR, MS_PS, Seen, decodes, plan, waits

QUEUES = "autellix:queue_count=4,first_tokens=100"


def level(one: Seen, now_ms: int = 0) -> int:
    view = BatchView([], [], 40, CLEAR, EngineFlags(), now_ms * MS_PS)
    return Autellix(queue_count=4, first_tokens=100, starved_ratio=4, grace_s=1).level(one, view)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (waits("a", 50), 0),
        (waits("a", 50, session_tokens=99), 0),
        (waits("a", 50, session_tokens=100), 1),
        (decodes("a", 50, 150, session_tokens=50), 2),
        (waits("a", 50, session_tokens=90_000), 3),
    ],
)
def test_a_call_enters_the_queue_of_its_session_and_falls_by_its_own_tokens(one: Seen, expected: int) -> None:
    assert level(one) == expected


def test_a_starved_call_is_in_the_top_queue_until_it_was_served_its_share() -> None:
    heavy = {"session_tokens": 900}
    assert level(waits("a", 50, **heavy), 999) == 3
    assert level(waits("a", 50, **heavy), 1_000) == 0
    assert level(decodes("a", 50, 9, queued_ms=4_000, **heavy), 5_000) == 0
    assert level(decodes("a", 50, 9, queued_ms=4_000, **heavy), 5_100) == 3


def test_a_new_program_takes_the_memory_of_one_that_was_served_more() -> None:
    running = [decodes("a", 60, 5, session_tokens=300)]
    planned = plan(QUEUES, running, [waits("b", 40, session_tokens=20)], free_blocks=1)
    assert (planned.preempted, planned.admitted) == (("a",), ("b",))


def test_with_programs_hidden_it_orders_by_the_call_alone() -> None:
    running = [decodes("b", 60, 5)]
    planned = plan(QUEUES, running, [waits("a", 40)], free_blocks=1)
    assert (planned.preempted, planned.admitted) == ((), ())
