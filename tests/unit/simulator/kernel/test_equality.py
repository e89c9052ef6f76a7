"""The fast kernel agrees with the reference to the last picosecond, in whatever way it runs."""

import pytest
from hypothesis import given, settings

from forebay.core.instance import EngineFlags
from forebay.simulator.kernel.backend import Plain
from forebay.simulator.kernel.divided import DividedKernel
from forebay.simulator.kernel.fast import FastKernel
from forebay.simulator.kernel.reference import ReferenceKernel
from tests.unit.simulator.kernel.kit import (
    BACKENDS,
    Story,
    Teller,
    fast,
    first_difference,
    mixed_stories,
    profile,
    reference,
    stories,
)


def check(kind: str, story_count: int) -> None:
    backend = BACKENDS[kind]()

    @settings(max_examples=story_count, deadline=None)
    @given(stories)
    def agree(story: Story) -> None:
        assert not first_difference(reference(story), fast(story, backend))

    agree()


@pytest.mark.parametrize("kind", BACKENDS)
def test_fast_and_reference_tell_the_same_story(kind: str) -> None:
    check(kind, 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKENDS)
def test_fast_and_reference_tell_thousands_of_stories_alike(kind: str) -> None:
    check(kind, 3_000)


@settings(max_examples=60, deadline=None)
@given(mixed_stories)
def test_engines_that_only_the_reference_knows_run_beside_fast_ones(story: Story) -> None:
    alone = Teller(ReferenceKernel(len(story.steps)), story).tell()
    beside = Teller(DividedKernel(len(story.steps), Plain()), story).tell()
    assert not first_difference(alone, beside)


@pytest.mark.parametrize("flags", [EngineFlags(preemption="swap"), EngineFlags(order="priority")])
def test_the_fast_kernel_refuses_engines_that_it_does_not_know(flags: EngineFlags) -> None:
    with pytest.raises(ValueError, match="the fast kernel cannot do 'chunked_prefill' with"):
        FastKernel(1, Plain()).add(profile(), flags)


@pytest.mark.parametrize("longest", [1, 2, 7])
def test_the_length_of_stretches_changes_nothing(longest: int) -> None:
    backend = BACKENDS["plain"]()

    @settings(max_examples=30, deadline=None)
    @given(stories)
    def agree(story: Story) -> None:
        assert not first_difference(fast(story, backend), fast(story, backend, longest))

    agree()


def test_the_first_difference_is_shown() -> None:
    assert first_difference([("a", 1), ("b", 2)], [("a", 1), ("b", 3)]).splitlines()[-2:] == [
        "expected: ('b', 2)",
        "found:    ('b', 3)",
    ]
