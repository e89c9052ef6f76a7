"""SLOs-Serve: whom the dynamic program accepts, and who gets the tokens, by hand.

With a promise of 50 ms between tokens an iteration computes 50 prompt tokens beside nobody."""

from forebay.core.instance.batcher.slos_serve import ACCEPTED, DECLINED
from tests.unit.core.instance.batcher.seen import Seen, chunks, decodes, plan, prefills, waits

PACE = {"tpot_slo_us": 50_000, "predicted_tokens": 10}


def due(name: str, prompt_tokens: int, due_ms: int, **more: object) -> Seen:
    return waits(name, prompt_tokens, due_ms=due_ms, ttft_slo_us=1, **{**PACE, **more})


def marks(*waiting: Seen, running: tuple[Seen, ...] = (), batcher: str = "slos_serve", **more: int) -> dict[str, int]:
    return dict(plan(batcher, running, waiting, **more).marks)


def test_who_can_be_served_in_time_is_accepted() -> None:
    # Two iterations of 50 tokens until 100 ms: 100 tokens, one fewer for each who decodes by then.
    assert marks(due("a", 100, 100)) == {"a": ACCEPTED}
    assert marks(due("a", 101, 100)) == {"a": DECLINED}
    assert marks(due("a", 101, 149)) == {"a": DECLINED}
    assert marks(due("a", 101, 150)) == {"a": ACCEPTED}


def test_the_most_acceptances_win_not_the_first_to_come() -> None:
    assert marks(due("a", 90, 100), due("b", 50, 101), due("c", 49, 102)) == {
        "a": DECLINED,
        "b": ACCEPTED,
        "c": ACCEPTED,
    }


def test_who_was_accepted_before_decodes_by_then_and_leaves_less() -> None:
    # After "a" one token of each iteration is its own: 49 * 2 are left until 200 ms.
    assert marks(due("a", 100, 100), due("b", 98, 200)) == {"a": ACCEPTED, "b": ACCEPTED}
    assert sorted(marks(due("a", 100, 100), due("b", 99, 200)).values()) == [ACCEPTED, DECLINED]


def test_those_accepted_stay_so_and_take_their_part() -> None:
    begun = prefills("a", 100, 30, mark=ACCEPTED, due_ms=100, **PACE)
    assert marks(due("b", 30, 100), running=(begun,)) == {"b": ACCEPTED}
    assert marks(due("b", 31, 100), running=(begun,)) == {"b": DECLINED}


def test_who_decodes_leaves_less_time_and_one_token_less() -> None:
    # 10 ms of 50 go to the decode, 40 tokens are left an iteration.
    running = (decodes("a", 8, mark=ACCEPTED, **PACE),)
    assert marks(due("b", 80, 100), running=running) == {"b": ACCEPTED}
    assert marks(due("b", 81, 100), running=running) == {"b": DECLINED}


def test_memory_for_prompt_and_upper_prediction_has_to_be_there() -> None:
    room = (decodes("a", 95, 1, mark=ACCEPTED, tpot_slo_us=50_000, predicted_tokens=105),)
    assert marks(due("b", 50, 900, predicted_tokens=50, predicted_tokens_p90=150), running=room) == {"b": ACCEPTED}
    assert marks(due("b", 50, 900, predicted_tokens=50, predicted_tokens_p90=151), running=room) == {"b": DECLINED}


def test_who_was_promised_nothing_is_served_as_far_as_there_is_room() -> None:
    planned = plan("slos_serve", [], [waits("a", 60), due("b", 50, 100)])
    assert dict(planned.marks) == {"a": DECLINED, "b": ACCEPTED}
    assert planned.admitted == ("b", "a")
    assert chunks(planned) == {"b": 50, "a": 50}


def test_a_decision_is_not_taken_twice() -> None:
    waiting = [due("a", 100, 100, mark=DECLINED), due("b", 9, 100, mark=ACCEPTED)]
    assert plan("slos_serve", [], waiting).marks == ()


def test_so_many_are_considered_at_once() -> None:
    waiting = [due("a", 10, 900), due("b", 10, 100), due("c", 10, 500)]
    assert marks(*waiting, batcher="slos_serve:considered_max=2") == {"b": ACCEPTED, "c": ACCEPTED}


def test_tokens_go_to_the_accepted_by_deadline_then_to_the_others() -> None:
    running = [
        decodes("a", 8, mark=ACCEPTED, **PACE),
        decodes("b", 8, mark=DECLINED),
        prefills("c", 60, 20, mark=ACCEPTED, due_ms=900, **PACE),
    ]
    waiting = [due("d", 25, 200, mark=ACCEPTED), waits("e", 9, mark=DECLINED)]
    planned = plan("slos_serve", running, waiting)
    # 50 ms: "a" takes 10, "d" 25, "c" 15 of its 40; nothing is left for the decode of "b".
    assert planned.decodes == ("a",)
    assert chunks(planned) == {"d": 25, "c": 15}
    assert planned.preempted == ()


def test_the_others_give_their_memory_to_the_accepted() -> None:
    running = [decodes("a", 60, mark=DECLINED), decodes("b", 60, mark=ACCEPTED, **PACE)]
    planned = plan("slos_serve", running, [due("c", 40, 900, mark=ACCEPTED)], free_blocks=2)
    assert (planned.decodes, planned.preempted, planned.admitted) == (("b",), ("a",), ("c",))
