"""SRPT on predicted lengths, by hand."""

from tests.unit.core.instance.batcher.seen import decodes, plan, waits

LONG = {"predicted_tokens": 200}
SHORT = {"predicted_tokens": 10}


def test_the_shorter_remaining_request_takes_the_memory_of_the_longer() -> None:
    planned = plan("preemptive", [decodes("a", 50, 5, **LONG)], [waits("b", 30, **SHORT)], free_blocks=2)
    assert (planned.preempted, planned.admitted) == (("a",), ("b",))


def test_with_room_for_both_nobody_is_evicted() -> None:
    planned = plan("preemptive", [decodes("a", 50, 5, **LONG)], [waits("b", 30, **SHORT)])
    assert (planned.preempted, planned.admitted, planned.decodes) == ((), ("b",), ("a",))


def test_what_remains_counts_not_the_whole() -> None:
    nearly = decodes("a", 80, 70, predicted_tokens=100)
    assert plan("preemptive", [nearly], [waits("b", 30, predicted_tokens=28)], free_blocks=1).preempted == ()
    assert plan("preemptive", [nearly], [waits("b", 30, predicted_tokens=26)], free_blocks=1).preempted == ("a",)


def test_nobody_is_evicted_late() -> None:
    late = decodes("a", 80, 80, predicted_tokens=100)
    assert plan("preemptive", [late], [waits("b", 30, predicted_tokens=1)], free_blocks=1).preempted == ()
    assert plan("preemptive:late_share=0.81", [late], [waits("b", 30, predicted_tokens=1)], free_blocks=1).preempted


def test_an_overrun_answer_is_safe_as_long_as_it_runs() -> None:
    overrun = decodes("a", 120, 110, predicted_tokens=100)
    assert plan("preemptive", [overrun], [waits("b", 30, predicted_tokens=1)], free_blocks=1).preempted == ()


def test_of_those_who_wait_the_shortest_enters_first() -> None:
    waiting = [waits("a", 40, **LONG), waits("b", 40, **SHORT), waits("c", 40)]
    assert plan("preemptive", [], waiting).admitted == ("b", "a", "c")
