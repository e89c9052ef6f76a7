"""The prefix cache remembers what was used last, and what it remembers is always a prefix."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.simulator.workload.prefix import PrefixCache


def test_an_empty_cache_knows_nothing() -> None:
    assert PrefixCache(None).hit_tokens([1, 2, 3], 1_500) == 0


def test_the_longest_common_beginning_is_a_hit() -> None:
    cache = PrefixCache(None, 512)
    cache.insert([1, 2, 3])
    assert cache.hit_tokens([1, 2, 9], 1_500) == 1_024
    assert cache.hit_tokens([9, 2, 3], 1_500) == 0


def test_a_partial_last_block_counts_what_the_prompt_has_of_it() -> None:
    cache = PrefixCache(None, 512)
    cache.insert([1, 2, 3])
    assert cache.hit_tokens([1, 2, 3], 1_100) == 1_100


def test_asking_changes_nothing() -> None:
    cache = PrefixCache(2, 1)
    cache.insert([1])
    cache.insert([2])
    cache.hit_tokens([1], 1)
    cache.insert([3])
    assert [cache.hit_tokens([block], 1) for block in (1, 2, 3)] == [0, 1, 1]


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    cache = PrefixCache(3, 1)
    cache.insert([1, 2])
    cache.insert([3])
    cache.insert([1])
    cache.insert([4])
    assert [cache.hit_tokens([block], 1) for block in (1, 2, 3, 4)] == [1, 0, 1, 1]


def test_of_one_prompt_the_end_is_forgotten_before_the_beginning() -> None:
    cache = PrefixCache(4, 1)
    cache.insert([1, 2, 3])
    cache.insert([7, 8])
    assert cache.hit_tokens([1, 2, 3], 3) == 2


def test_of_a_prompt_longer_than_the_cache_the_beginning_stays() -> None:
    cache = PrefixCache(1_024, 512)
    cache.insert([1, 2, 3, 4])
    assert cache.hit_tokens([1, 2, 3, 4], 2_048) == 1_024


def test_a_cache_without_room_remembers_nothing() -> None:
    cache = PrefixCache(511, 512)
    cache.insert([1])
    assert len(cache) == 0


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), max_size=30), st.integers(0, 12))
def test_the_cache_stays_within_its_room_and_what_is_known_can_be_reached(paths: list[list[int]], most: int) -> None:
    ids: dict[tuple[int, ...], int] = {}
    chains = [[ids.setdefault(tuple(path[: end + 1]), len(ids)) for end in range(len(path))] for path in paths]
    cache = PrefixCache(most, 1)
    for chain in chains:
        cache.insert(chain)
        assert cache.hit_tokens(chain, len(chain)) == min(len(chain), most)
        reachable = {block for one in chains for block in one[: cache.hit_tokens(one, len(one))]}
        assert len(reachable) == len(cache) <= most
