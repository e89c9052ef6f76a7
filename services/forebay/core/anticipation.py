"""What may be asked of the load that is expected on each instance, and how long answers are taken to be."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]


class LengthRule(NamedTuple):
    """How long an answer is taken to be, at first and when it outlives that.

    Conditional: as long as expected of an answer that is not shorter, E[L | L > generated], by its predicted
    distribution, or, where `is_median`, as long as half of those are at most. Otherwise its predicted median, then
    `extend_share` of that and `extend_tokens` more, each time that it has outlived it by `grace_tokens`.
    """

    is_conditional: bool = True
    extend_share: float = 0.0
    extend_tokens: int = 0
    grace_tokens: int = 0
    is_median: bool = False


CONDITIONAL = LengthRule()
CONDITIONAL_MEDIAN = LengthRule(is_median=True)
PRESERVE_PAPER = LengthRule(is_conditional=False, extend_share=0.2)
"""PreServe as its paper is reported (section 3 of its summary)."""
PRESERVE_ARTIFACT = LengthRule(is_conditional=False, extend_tokens=30, grace_tokens=10)
"""PreServe as its artifact is (section 3 of its summary): 30 tokens more, once an answer is 10 past its end."""


class Anticipated(Protocol):
    """The tokens that each instance's cache is expected to hold, iteration by iteration; a new array each time."""

    def peak(self, horizon: int) -> Tokens:
        """The most tokens within so many iterations, at least 1."""
        ...

    def peak_with(self, prompt_tokens: int, answer_tokens: int, horizon: int) -> Tokens:
        """The same with one more request that begins now, whichever instance gets it."""
        ...

    @property
    def footprint_tokens(self) -> Tokens:
        """The prompts and whole expected answers of all requests that are there."""
        ...


class Anticipations(Protocol):
    """The anticipated load by the rule that says how long answers are taken to be."""

    def by(self, rule: LengthRule) -> Anticipated:
        """What is anticipated by this rule."""
        ...
