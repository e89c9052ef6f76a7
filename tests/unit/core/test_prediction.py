import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.prediction import QUANTILE_LEVELS, mean_of, remaining_tokens, system_digest

VALUES = st.lists(st.integers(0, 5_000), min_size=4, max_size=4).map(sorted)


def curve(values: list[int], count: int = 200_000) -> np.ndarray:
    """The lengths at the middles of equal shares: the quantile curve by brute force."""
    p10, _, p90, p97 = values
    levels, ends = (0.0, *QUANTILE_LEVELS, 1.0), (0.5 * p10, *values, p97 + (p97 - p90) * 3 / 7)
    return np.interp((np.arange(count) + 0.5) / count, levels, ends)


@given(VALUES)
def test_the_mean_is_that_of_the_curve(values: list[int]) -> None:
    assert mean_of(values) == pytest.approx(curve(values).mean(), rel=1e-3, abs=1e-3)


@given(VALUES, st.floats(0, 1))
def test_what_remains_is_the_mean_of_longer_answers(values: list[int], place: float) -> None:
    lengths = curve(values)
    generated = float(place * lengths[-1])
    longer = lengths[lengths > generated]
    if len(longer) >= 1_000:
        expected = max(1.0, float(longer.mean()) - generated)
        assert remaining_tokens(values, generated) == pytest.approx(expected, rel=2e-3, abs=0.05)


@given(VALUES)
def test_before_the_first_token_the_mean_remains(values: list[int]) -> None:
    if values[0]:
        assert remaining_tokens(values, 0) == pytest.approx(max(1.0, mean_of(values)))


@given(VALUES, st.lists(st.floats(0, 10_000), min_size=2, max_size=20).map(sorted))
def test_what_is_expected_in_all_never_falls(values: list[int], seen: list[float]) -> None:
    totals = [generated + remaining_tokens(values, generated) for generated in seen]
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(totals))


@pytest.mark.parametrize("generated", [100, 101, 1e9])
def test_an_answer_that_runs_has_a_token_to_come(generated: float) -> None:
    assert remaining_tokens((100, 100, 100, 100), generated) == 1
    assert remaining_tokens((0, 0, 0, 0), 0) == 1


def test_a_system_prompt_has_a_short_name() -> None:
    assert system_digest("") == ""
    assert system_digest("Be brief.") == hashlib.sha256(b"Be brief.").digest()[:8].hex()
