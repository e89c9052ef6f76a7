"""Answers one deferred request the way every other request is answered."""

from contextlib import aclosing

from forebay.core.units import US_PER_S
from forebay.gateway import triton
from forebay.gateway.config import Config
from forebay.gateway.deferred.lines import answer_line
from forebay.gateway.deferred.reading import PARSERS
from forebay.gateway.deferred.values import Job, Line, Work
from forebay.gateway.genai import CHAT, TEXT_COMPLETION
from forebay.gateway.intake import APPLICATION, DEADLINE_S, SLO_CLASS, Intake
from forebay.gateway.relay import Answer, Relay, gathered
from forebay.gateway.shape import Shape
from forebay.gateway.tenants import TENANT
from forebay.wire.clock import Clock

_CLASS = "deferred"


class Runner:
    """Sends requests of jobs through the gateway's own intake and relay."""

    def __init__(self, relay: Relay, intake: Intake, config: Config, clock: Clock) -> None:
        self._relay = relay
        self._intake = intake
        self._config = config
        self._clock = clock

    async def answer(self, job: Job, work: Work) -> tuple[Line, float]:
        """The request's line and the tokens of work that it took. Raises the ForebayError that a client would get."""
        now_us = self._clock()
        completion = PARSERS[job.endpoint](work.body.encode(), self._config.tokens_max_default)
        headers = {
            SLO_CLASS: _CLASS,
            TENANT: job.tenant,
            APPLICATION: job.application,
            DEADLINE_S: str(max(1.0, (job.deadline_us - now_us) / US_PER_S)),
        }
        inference = self._intake.of(f"{job.job_id}-{work.number}", completion, headers)
        operation = CHAT if completion.is_chat else TEXT_COMPLETION
        answer = Answer(inference, len(completion.text.encode()), operation)
        message = triton.text_request(completion.model, completion.text, completion.sampling)
        async with aclosing(self._relay.chunks(answer, message)) as chunks:
            text = await gathered(chunks)
        form = Shape(completion, inference.request_id, now_us // US_PER_S)
        body = form.whole(text, answer.finish_reason or "stop", answer.prompt_tokens, answer.response_tokens)
        tokens = answer.response_tokens + self._config.deferred.prompt_weight * answer.prompt_tokens
        return answer_line(work, inference.request_id, body), tokens
