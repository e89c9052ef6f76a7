"""What is sent is the difference, and a browser that applies it has the state."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.metrics.page.delta import applied, delta

KEYS = st.sampled_from(["a", "b", "c"])
STATES = st.dictionaries(KEYS, st.dictionaries(KEYS, st.integers(0, 3), max_size=3), max_size=3)


def test_only_what_differs_is_sent() -> None:
    before = {"loads": {"a": [1], "b": [2]}, "models": {"m": 1}}
    after = {"loads": {"a": [1], "b": [3], "c": [4]}, "models": {"m": 1}}
    assert delta(before, after) == {"loads": {"set": {"b": [3], "c": [4]}}}


def test_rows_and_whole_sections_that_are_gone_are_named() -> None:
    before = {"loads": {"a": [1], "b": [2]}, "pools": {"p": 1}}
    assert delta(before, {"loads": {"a": [1]}}) == {"loads": {"gone": ["b"]}, "pools": {"gone": ["p"]}}


def test_nothing_is_sent_where_nothing_changed() -> None:
    assert delta({"loads": {"a": [1]}, "pools": {}}, {"loads": {"a": [1]}}) == {}


@given(STATES, STATES)
def test_whoever_applies_the_difference_has_the_state(
    before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]
) -> None:
    known = applied(before, delta(before, after))
    assert {name: rows for name, rows in known.items() if rows} == {name: rows for name, rows in after.items() if rows}
