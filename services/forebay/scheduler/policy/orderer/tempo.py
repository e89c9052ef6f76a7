"""Most value a second of work first."""

from dataclasses import dataclass

import numpy as np

from forebay.core.units import US_PER_S
from forebay.core.values import SloClass
from forebay.scheduler.policy.orderer.base import Column, Keys, OrderView

LATE_MIN = 1e-6
"""Least share of its value that a late answer keeps."""


@dataclass(frozen=True, slots=True)
class Tempo:
    """Ranks by what an answer is worth over the seconds that it takes (Tempo = JITServe, NSDI'26).

    The rule is that of section 2.5 of the summary of related work. Worth: `prompt_weight` a token of the prompt and
    `answer_weight` a token of the answer, times (deadline / time of arrival to end) ^ `penalty` where it comes late.
    Interactive answers lose the worth of the prompt with their first token and that of the answer with their last one,
    which is due `tpot_s` a token after the first; deferred ones lose all with their end. The requests of one session
    share one density: their worth together over their work together.

    `step_s`, the weights and the form are the paper's; `penalty` and `tpot_s` are ours, since it tells none: twice as
    late is worth a quarter, as in its older version, and 100 ms a token.
    """

    step_s: float = 0.02
    penalty: float = 2.0
    prompt_weight: float = 1.0
    answer_weight: float = 8.0
    tpot_s: float = 0.1

    def __post_init__(self) -> None:
        if min(self.step_s, self.tpot_s) <= 0:
            raise ValueError("step_s and tpot_s must be positive")
        if min(self.penalty, self.prompt_weight, self.answer_weight) < 0:
            raise ValueError("penalty, prompt_weight and answer_weight must not be negative")

    def rank(self, view: OrderView) -> Keys:
        """Worth a second with its sign turned."""
        tokens = np.maximum(view.predicted_tokens, 1)
        work_s: Keys = tokens * self.step_s
        promise_s = (view.due_us - view.arrived_us) / US_PER_S
        is_whole = (view.is_due_whole > 0) | (view.slo_class == SloClass.DEFERRED)
        end_due_s = np.where(is_whole, promise_s, promise_s + tokens * self.tpot_s)
        kept = self._kept(end_due_s, view.waited_s + work_s)
        kept_first = np.where(is_whole, kept, self._kept(promise_s, view.waited_s + self.step_s))
        worth = self.prompt_weight * view.prompt_tokens * kept_first + self.answer_weight * tokens * kept
        return -_shared(worth, view.session_code) / _shared(work_s, view.session_code)

    def _kept(self, due_s: Keys, taken_s: Keys) -> Keys:
        return np.asarray(np.clip(due_s / taken_s, LATE_MIN, 1.0) ** self.penalty, dtype=np.float64)


def _shared(values: Keys, session_code: Column) -> Keys:
    """The sum over the requests of the same session; the code 0 is no session."""
    sums = np.bincount(session_code, weights=values)[session_code]
    return np.where(session_code > 0, sums, values)
