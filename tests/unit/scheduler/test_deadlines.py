from hypothesis import given
from hypothesis import strategies as st

from forebay.scheduler.deadlines import NEVER_US, Deadlines

CHANGES = st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 20))), max_size=40)


def test_nothing_is_due_where_nothing_was_set() -> None:
    assert Deadlines().next_us() == NEVER_US
    assert Deadlines().due(10**18) == []


def test_keys_come_due_in_order_and_once() -> None:
    deadlines = Deadlines()
    for key, at_us in (("b", 2), ("a", 1), ("c", 3)):
        deadlines.set(key, at_us)
    assert deadlines.due(2) == ["a", "b"]
    assert deadlines.due(2) == []
    assert deadlines.next_us() == 3


def test_a_key_that_is_moved_later_is_due_later_only() -> None:
    deadlines = Deadlines()
    deadlines.set("a", 1)
    deadlines.set("a", 5)
    assert deadlines.due(4) == []
    assert deadlines.due(5) == ["a"]


def test_a_key_that_is_moved_earlier_is_due_once() -> None:
    deadlines = Deadlines()
    deadlines.set("a", 5)
    deadlines.set("a", 1)
    assert deadlines.due(1) == ["a"]
    assert deadlines.due(9) == []


@given(CHANGES)
def test_it_agrees_with_a_plain_dictionary(changes: list[tuple[str, int | None]]) -> None:
    deadlines, plain = Deadlines(), dict[str, int]()
    for key, at_us in changes:
        if at_us is None:
            deadlines.drop(key)
            plain.pop(key, None)
        else:
            deadlines.set(key, at_us)
            plain[key] = at_us
        assert deadlines.soonest_us <= min(plain.values(), default=NEVER_US)
        assert deadlines.next_us() == min(plain.values(), default=NEVER_US)
    for now_us in range(0, 21, 3):
        due = {key for key, at_us in plain.items() if at_us <= now_us}
        assert set(deadlines.due(now_us)) == due
        plain = {key: at_us for key, at_us in plain.items() if key not in due}
