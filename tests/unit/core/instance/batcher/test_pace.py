"""How much fits into an iteration of bounded length."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import PrefillChunk
from forebay.core.instance.batcher.pace import Pace
from tests.unit.core.instance.batcher.seen import CLEAR, MS_PS
from tests.unit.core.instance.kit import PROFILE


def test_decodes_and_chunks_share_the_time() -> None:
    pace = Pace(CLEAR, 50 * MS_PS)
    pace.decode(30)
    pace.decode(70)
    assert pace.tokens_within(0, 90) == 30
    pace.compute(12, 0)
    assert pace.tokens_within(0, 80) == 18
    assert pace.tokens_within(0, 5) == 5


def test_a_decode_has_room_as_long_as_the_time_is_kept() -> None:
    pace = Pace(CLEAR, 20 * MS_PS)
    pace.decode(5)
    assert pace.has_room(5)
    pace.decode(5)
    assert not pace.has_room(5)
    assert pace.tokens_within(0, 10) == 0


def test_without_a_limit_everything_fits() -> None:
    pace = Pace(CLEAR)
    assert pace.has_room(10_000)
    assert pace.tokens_within(0, 90) == 90


@given(
    st.integers(1, 4_000),
    st.lists(st.integers(0, 60), max_size=5),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40)), max_size=2),
    st.integers(0, 90),
    st.integers(1, 9),
)
def test_the_chunk_is_the_longest_that_keeps_the_limit(
    limit_ps: int, contexts: list[int], before: list[tuple[int, int]], cached: int, most: int
) -> None:
    pace = Pace(PROFILE, limit_ps)
    for context in contexts:
        pace.decode(context)
    for tokens, start in before:
        pace.compute(tokens, start)
    known = [PrefillChunk(*chunk) for chunk in before]

    def keeps(tokens: int) -> bool:
        chunks = [*known, PrefillChunk(tokens, cached)]
        return PROFILE.duration_ps(len(contexts), sum(contexts), chunks) <= limit_ps

    found = pace.tokens_within(cached, most)
    assert found == max((n for n in range(1, most + 1) if keeps(n)), default=0)
