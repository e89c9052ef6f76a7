"""The live predictor, fed with a journal: the scheduler's clients, the servicer, its engine and models are real."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prometheus_client import CollectorRegistry

from forebay.core.config import from_mapping
from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.build import build_engine, build_loader
from forebay.predictor.config import Config
from forebay.predictor.engine import Answering
from forebay.predictor.servicer import PredictorServicer
from forebay.scheduler.actions import Observe
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.lengths import Outcomes, Predictions
from forebay.simulator.shell.journal import Entry
from forebay.simulator.shell.scheduling import SCHEDULER_ID
from tests.parity.journal_kit import Clock, Heard, Post, Replay, Wire, plain, settle, told
from tests.parity.scenarios import Case

PART = "predictor"


def wanted(journal: Sequence[Entry], case: Case) -> Replay:
    """What the journal says that a predictor hears and answers.

    The simulator hands it whole requests; of those it hears over the wire what a length query tells, and no policy may
    go by more.
    """
    replay = Replay()
    for entry in journal:
        if entry.part != PART:
            continue
        answer = entry.answer
        if isinstance(answer, Answering):
            replay.told.append((entry.event, plain(_queries(entry)), plain(answer)))
            for prediction in answer.predictions:
                replay.note("replies", prediction)
        else:
            learned = ("learned", tuple(_outcome(one) for one in answer.outcomes))
            replay.told.append((entry.event, plain(_queries(entry)), learned))
    return replay


def _queries(entry: Entry) -> tuple[Any, ...]:
    if entry.event == "on_queries":
        return (tuple(_query(one) for one in entry.arguments[0]),)
    request_id, outcomes, now_us = entry.arguments
    return (request_id, tuple(_outcome(one) for one in outcomes), now_us)


def _query(request: InferenceRequest) -> InferenceRequest:
    return InferenceRequest(
        request.request_id,
        request.model,
        request.prompt_tokens,
        tokens_max=request.tokens_max,
        tenant=request.tenant,
        application=request.application,
        prompt_head=request.prompt_head,
        temperature=request.temperature,
        turn_number=request.turn_number,
        system_digest=request.system_digest,
    )


def _outcome(outcome: LengthOutcome) -> LengthOutcome:
    return replace(outcome, query=_query(outcome.query))


@dataclass
class Live:
    """One live predictor and the scheduler's two clients of it; fields are what a sabotage may replace."""

    case: Case
    clock: Clock
    post: Post = field(default_factory=Post)

    async def run(self, journal: Sequence[Entry]) -> Replay:
        """Hears the journal."""
        self.journal, self.replay = Heard(), Replay()
        config = from_mapping(Config, self.case.policy.predictor, "predictor")
        engine = build_engine(config)
        loader = await build_loader(engine, config)
        nobody: Any = None
        watched = self.journal.watch(PART, engine, lambda: 0)
        servicer = PredictorServicer(watched, loader, nobody, CollectorRegistry(), self.clock)
        wire = self.wire(servicer)
        # Each question by itself: a batch would gather for a while of the real clock.
        table = {**self.case.policy.scheduler, "predictor_batch_ms": 0.0}
        scheduler = from_mapping(SchedulerConfig, table, "scheduler")
        self._predictions = Predictions(wire, scheduler, self.clock)
        self._outcomes = Outcomes(wire, SCHEDULER_ID, scheduler.outcome_interval_s)
        for entry in journal:
            if entry.part == PART:
                self.clock.now_us = entry.now_us
                await getattr(self, f"_{entry.event}")(*entry.arguments)
        self.replay.told = told(self.journal.entries, PART)
        return self.replay

    def wire(self, servicer: PredictorServicer) -> Any:
        """What is between scheduler and predictor."""
        return Wire(self.post, servicer)

    async def _on_queries(self, requests: Sequence[InferenceRequest]) -> None:
        replies: list[LengthPrediction | None] = []
        for request in requests:
            self._predictions.ask(request, replies.append)
        await settle(lambda: len(replies) == len(requests))
        for reply in replies:
            self.replay.note("replies", reply)
        await asyncio.sleep(0)

    async def _on_outcomes(self, request_id: str, outcomes: Sequence[LengthOutcome], now_us: int) -> None:
        for one in outcomes:
            assert one.predicted is not None
            self._outcomes.observe(
                Observe(one.query, one.predicted, one.generated_tokens, one.censored, one.predicted_by)
            )
        await self._outcomes.flush()
