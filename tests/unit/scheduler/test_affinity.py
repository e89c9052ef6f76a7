"""What instances remember of sessions and prompts."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from forebay.core.values import InferenceRequest
from forebay.scheduler.affinity import Affinity
from tests.unit.scheduler.kit import request

IDS = ("a", "b", "c")


def asked(*blocks: int, tokens: int = 0, session: str = "") -> InferenceRequest:
    """A request of blocks of ten tokens."""
    return request(prompt=tokens or 10 * len(blocks) or 1, prefix_hashes=blocks, session=session)


def test_a_session_s_home_is_who_served_it_last() -> None:
    affinity = Affinity()
    assert affinity.home("s", IDS) == -1
    affinity.note(asked(session="s"), "c", 0)
    affinity.note(asked(session="s"), "b", 0)
    assert affinity.home("s", IDS) == 1
    assert affinity.home("s", ("a", "c")) == -1


def test_a_prompt_matches_by_its_beginning_only() -> None:
    affinity = Affinity()
    affinity.note(asked(1, 2, 3), "a", 0)
    affinity.note(asked(1, 9), "b", 0)
    assert affinity.prefix_tokens(asked(1, 2, 4), IDS).tolist() == [20, 10, 0]
    assert affinity.prefix_tokens(asked(2, 3), IDS).tolist() == [20, 0, 0]
    assert affinity.prefix_tokens(asked(7, 1), IDS).tolist() == [0, 0, 0]


def test_no_more_matches_than_the_prompt_has_where_its_last_block_is_partial() -> None:
    affinity = Affinity()
    affinity.note(asked(1, 2, tokens=15), "a", 0)
    assert affinity.prefix_tokens(asked(1, 2, tokens=15), IDS).tolist() == [15, 0, 0]


def test_what_was_not_used_for_longest_leaves_a_full_cache() -> None:
    affinity = Affinity()
    affinity.note(asked(1, 2), "a", 30)
    affinity.note(asked(3), "a", 30)
    affinity.note(asked(1, 2), "a", 30)
    affinity.note(asked(4), "a", 30)
    assert [int(affinity.prefix_tokens(asked(block), IDS)[0]) for block in (1, 2, 3, 4)] == [10, 10, 0, 10]


def test_an_instance_that_is_gone_remembers_nothing() -> None:
    affinity = Affinity()
    affinity.note(asked(1), "a", 0)
    affinity.note(asked(1), "b", 0)
    affinity.keep(("b",))
    assert affinity.prefix_tokens(asked(1), IDS).tolist() == [0, 10, 0]


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.sampled_from(IDS)), max_size=20),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
)
def test_matches_are_the_longest_beginnings_that_lie_there_whole(
    sent: Sequence[tuple[list[int], str]], blocks: list[int]
) -> None:
    affinity = Affinity()
    there: dict[str, set[int]] = {instance_id: set() for instance_id in IDS}
    for past, instance_id in sent:
        affinity.note(asked(*past), instance_id, 0)
        there[instance_id].update(past)
    wanted = []
    for instance_id in IDS:
        count = 0
        while count < len(blocks) and blocks[count] in there[instance_id]:
            count += 1
        wanted.append(10 * count)
    assert affinity.prefix_tokens(asked(*blocks), IDS).tolist() == wanted
