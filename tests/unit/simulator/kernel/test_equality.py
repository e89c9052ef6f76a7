"""The fast kernel agrees with the reference to the last picosecond, in whatever way it runs."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.unit.simulator.kernel.kit import BACKENDS, Story, fast, first_difference, reference, stories

STORIES = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("kind", BACKENDS)
def test_fast_and_reference_tell_the_same_story(kind: str) -> None:
    backend = BACKENDS[kind]()

    @STORIES
    @given(stories)
    def agree(story: Story) -> None:
        assert not first_difference(reference(story), fast(story, backend))

    agree()


@pytest.mark.parametrize("longest", [1, 2, 7])
def test_the_length_of_stretches_changes_nothing(longest: int) -> None:
    backend = BACKENDS["plain"]()

    @STORIES
    @given(stories)
    def agree(story: Story) -> None:
        assert not first_difference(fast(story, backend), fast(story, backend, longest))

    agree()
