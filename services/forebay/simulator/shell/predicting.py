"""The predictor in virtual time: answers after a fixed delay, learns in batches."""

from collections.abc import Callable
from functools import partial

from forebay.core.prediction import LengthOutcome
from forebay.core.units import US_PER_MS
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.engine import PredictorEngine
from forebay.scheduler.actions import Observe
from forebay.scheduler.config import OUTCOME_BATCH_MAX
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.scheduling import SCHEDULER_ID

Reply = Callable[[LengthPrediction | None], None]


class PredictorShell:
    """Both halves of the predictor's work for one scheduler: each question by itself, outcomes every `interval_s`."""

    def __init__(self, context: Context, engine: PredictorEngine, interval_s: float) -> None:
        self.engine = context.recorded("predictor", engine)
        self._context = context
        self._interval_s = interval_s
        self._delay_us = round(context.world.network.prediction_ms * US_PER_MS)
        self._pending: list[LengthOutcome] = []
        self._batch_count = 0

    def begin(self) -> None:
        """The run starts."""
        self._context.every_s(self._interval_s, self._teach)

    def ask(self, request: InferenceRequest, reply: Reply) -> None:
        """Predicts now and replies when the prediction would have come."""
        answering = self.engine.on_queries((request,))
        while not answering.step():
            pass
        prediction = answering.predictions[0]
        if self._delay_us:
            self._context.after_us(self._delay_us, partial(reply, prediction))
        else:
            reply(prediction)

    def observe(self, outcome: Observe) -> None:
        """Keeps an outcome for the next batch."""
        self._pending.append(
            LengthOutcome(
                outcome.request, outcome.generated_tokens, outcome.censored, outcome.predicted, outcome.predicted_by
            )
        )

    def _teach(self) -> None:
        pending, self._pending = self._pending, []
        for start in range(0, len(pending), OUTCOME_BATCH_MAX):
            self._batch_count += 1
            batch = pending[start : start + OUTCOME_BATCH_MAX]
            learning = self.engine.on_outcomes(f"{SCHEDULER_ID}-o{self._batch_count}", batch, self._context.now_us)
            while not learning.step():
                pass


class NoPredictor:
    """Nobody predicts: the scheduler's own histogram answers."""

    def begin(self) -> None:
        """Nothing starts."""

    def ask(self, request: InferenceRequest, reply: Reply) -> None:
        """There is no prediction."""
        reply(None)

    def observe(self, outcome: Observe) -> None:
        """Nobody learns."""
