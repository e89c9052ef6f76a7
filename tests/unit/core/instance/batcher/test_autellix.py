"""PLAS: calls by the service of their session, by hand: queues of up to 100, 200 and 400 tokens."""

import pytest

from forebay.core.instance import EngineFlags
from forebay.core.instance.batcher import BatchView
from forebay.core.instance.batcher.autellix import Autellix
from tests.unit.core.instance.batcher.seen import CLEAR, MS_PS, Seen, decodes, plan, waits

QUEUES = "autellix:queue_count=4,first_tokens=100"


POLICY = Autellix(queue_count=4, first_tokens=100, starved_ratio=4, grace_s=1)


def lifted(one: Seen, now_ms: int) -> bool:
    """Whether the call goes to the top queue now."""
    running, waiting = ([one], []) if one.block_count else ([], [one])
    planned = POLICY.plan(BatchView(running, waiting, 40, CLEAR, EngineFlags(), now_ms * MS_PS))
    assert planned.marks in ((), (("a", one.generated_tokens + 1),))
    return bool(planned.marks)


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
    assert POLICY.level(one) == expected


def test_a_starved_call_goes_to_the_top_queue() -> None:
    heavy = {"session_tokens": 900}
    assert [lifted(waits("a", 50, **heavy), now_ms) for now_ms in (999, 1_000)] == [False, True]
    assert lifted(decodes("a", 50, 9, queued_ms=4_000, **heavy), 5_000)
    assert not lifted(decodes("a", 50, 9, queued_ms=4_000, **heavy), 5_001)


def test_from_the_top_it_falls_by_what_it_gets_and_goes_up_again_only_after_its_quantum() -> None:
    heavy = {"session_tokens": 900, "queued_ms": 90_000}
    assert POLICY.level(decodes("a", 150, 108, mark=10, **heavy)) == 0
    assert POLICY.level(decodes("a", 150, 109, mark=10, **heavy)) == 1
    assert not lifted(decodes("a", 150, 108, mark=10, **heavy), 95_000)
    assert lifted(decodes("a", 150, 109, mark=10, **heavy), 95_000)


def test_a_starved_call_takes_the_memory_of_one_below() -> None:
    running = [decodes("b", 60, 150)]
    waiting = [waits("a", 40, session_tokens=900)]
    assert plan(QUEUES, running, waiting, now_ms=9_000, free_blocks=1).admitted == ()
    assert plan(QUEUES, running, waiting, now_ms=10_000, free_blocks=1).admitted == ("a",)


def test_a_new_program_takes_the_memory_of_one_that_was_served_more() -> None:
    running = [decodes("a", 60, 5, session_tokens=300)]
    planned = plan(QUEUES, running, [waits("b", 40, session_tokens=20)], free_blocks=1)
    assert (planned.preempted, planned.admitted) == (("a",), ("b",))


def test_with_programs_hidden_it_orders_by_the_call_alone() -> None:
    running = [decodes("b", 60, 5)]
    planned = plan(QUEUES, running, [waits("a", 40)], free_blocks=1)
    assert (planned.preempted, planned.admitted) == ((), ())
