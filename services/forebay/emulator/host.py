"""A loaded model in real time: one timer drives its engine, and every request has a sink for what it is told."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from forebay.core.instance import (
    EngineProfile,
    EngineRequest,
    EngineView,
    InstanceModel,
)
from forebay.core.instance.batcher import make_batcher
from forebay.core.values import WakeAt
from forebay.emulator.answers import Answer, Answers, words
from forebay.emulator.config import Config, ModelSpec
from forebay.emulator.engine import Action, EmulatedEngine, Refused, Tokens
from forebay.emulator.generate import Chunk, GenerateRequest, refusal
from forebay.wire.clock import Clock


@dataclass(slots=True)
class ModelStats:
    """Totals of one model since it was first loaded; durations on the wall clock."""

    success_count: int = 0
    failure_counts: dict[str, int] = field(
        default_factory=lambda: {"OTHER": 0, "BACKEND": 0, "CANCELED": 0, "REJECTED": 0}
    )
    request_us: int = 0
    queue_us: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    last_us: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """One request in flight: what it asked, how it will end, and where its chunks and its failure go."""

    request: GenerateRequest
    answer: Answer
    finish_reason: str
    arrived_us: int
    deliver: Callable[[Chunk], None]
    fail: Callable[[str], None]


def tokens_limit(spec: ModelSpec, profile: EngineProfile) -> int:
    """Longest prompt plus answer that the engine can run."""
    limits = [(profile.block_count - spec.watermark_blocks) * profile.block_size]
    if spec.model_tokens_max:
        limits.append(spec.model_tokens_max)
    if not spec.chunked_prefill:
        limits.append(profile.max_batch_tokens)
    return min(limits)


class ModelHost:
    """Runs one model on the event loop. Not thread-safe; methods return at once, sinks are called from the loop."""

    def __init__(
        self,
        spec: ModelSpec,
        profile: EngineProfile,
        config: Config,
        answers: Answers,
        stats: ModelStats,
        clock: Clock,
    ) -> None:
        self.spec = spec
        self.stats = stats
        self._tokens_max = tokens_limit(spec, profile)
        model = InstanceModel(profile, spec.flags(profile, self._tokens_max), make_batcher(spec.batcher))
        self._engine = EmulatedEngine(model, config.time_scale, config.coalesce_us, clock())
        self._answers = answers
        self._clock = clock
        self._generations: dict[str, Generation] = {}
        self._started_count = 0
        self._queued_us = 0
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self, request: GenerateRequest, deliver: Callable[[Chunk], None], fail: Callable[[str], None]) -> str:
        """Queue a request and give the key to cancel it with.

        `deliver` gets its chunks later, the last one with a finish reason; `fail` is called instead if the host closes.
        Raises InvalidArgument for what can never run, such as a prompt that leaves no room for an answer.
        """
        answer = self._answers.find(self.spec.name, request.prompt)
        room = self._tokens_max - answer.input_tokens
        if room < 1:
            raise refusal(
                f"The decoder prompt (length {answer.input_tokens}) is longer than the maximum model length "
                f"of {self._tokens_max}. Make sure that it leaves room for an answer."
            )
        limit = min(request.tokens_max, room)
        wanted = limit if request.ignore_eos else answer.output_tokens
        reason = "stop" if wanted <= limit and not request.ignore_eos else "length"
        self._started_count += 1
        key = str(self._started_count)
        self._generations[key] = Generation(request, answer, reason, self._clock(), deliver, fail)
        self._idle.clear()
        self.stats.prompt_tokens += answer.input_tokens
        lengths = (answer.input_tokens, min(wanted, limit), answer.hit_tokens, limit)
        asked = EngineRequest(key, *lengths, request.priority, request.batch, request.hints)
        actions = self._engine.on_request(asked, self._clock())
        self._apply(actions)
        for refused in (action for action in actions if isinstance(action, Refused)):
            raise refusal(refused.reason)
        return key

    def cancel(self, key: str) -> None:
        """Forget a request whose client is gone; nothing more is delivered."""
        if self._generations.pop(key, None) is not None:
            self.stats.failure_counts["CANCELED"] += 1
            self._apply(self._engine.on_cancel(key, self._clock()))

    def slow(self, factor: float) -> None:
        """Make every iteration take `factor` times as long; 1 is the profile's own speed."""
        self._apply(self._engine.on_slow(factor, self._clock()))

    def hang(self, hanging: bool) -> None:
        """Stop all progress, or go on."""
        self._apply(self._engine.on_hang(hanging, self._clock()))

    async def drained(self) -> None:
        """Returns once no request is in flight."""
        await self._idle.wait()

    def close(self) -> None:
        """Stop the timer; requests in flight are told that the model is gone."""
        self._set_timer(None)
        for generation in list(self._generations.values()):
            generation.fail(f"model '{self.spec.name}' was stopped before the answer was complete")
        self._generations.clear()
        self._idle.set()

    def view(self) -> EngineView:
        """The engine as of its last event."""
        return self._engine.view()

    @property
    def in_flight_count(self) -> int:
        """Requests that have not ended."""
        return len(self._generations)

    def _on_timer(self) -> None:
        self._timer = None
        self._apply(self._engine.on_wake(self._clock()))

    def _apply(self, actions: list[Action]) -> None:
        wake_us: int | None = None
        for action in actions:
            if isinstance(action, Tokens):
                self._tell(action)
            elif isinstance(action, Refused):
                self._give_up(action)
            elif isinstance(action, WakeAt):
                wake_us = action.at_us
        self._set_timer(wake_us)
        self._count_queue()
        if not self._generations:
            self._idle.set()

    def _tell(self, tokens: Tokens) -> None:
        self.stats.generated_tokens += tokens.count
        generation = self._generations.get(tokens.request_id)
        if generation is None:
            return
        if tokens.finished:
            self._end(tokens.request_id, generation)
        if generation.request.stream or tokens.finished:
            generation.deliver(_chunk(generation, tokens))

    def _end(self, key: str, generation: Generation) -> None:
        now_us = self._clock()
        del self._generations[key]
        self.stats.success_count += 1
        self.stats.request_us += now_us - generation.arrived_us
        self.stats.last_us = now_us

    def _give_up(self, refused: Refused) -> None:
        del self._generations[refused.request_id]
        self.stats.failure_counts["BACKEND"] += 1

    def _count_queue(self) -> None:
        queued_us = self._engine.wall_us(self._engine.view().queued_ps)
        self.stats.queue_us += queued_us - self._queued_us
        self._queued_us = queued_us

    def _set_timer(self, wake_us: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_us is not None:
            delay_s = max(0, wake_us - self._clock()) / 1e6
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)


def _chunk(generation: Generation, tokens: Tokens) -> Chunk:
    request, reason = generation.request, generation.finish_reason if tokens.finished else ""
    if request.stream:
        return Chunk(
            words(tokens.token_count - tokens.count, tokens.count), tokens.count, generation.answer.input_tokens, reason
        )
    prompt = request.prompt if request.prepend_prompt else ""
    text = prompt + words(0, tokens.token_count)
    return Chunk(text, tokens.token_count, generation.answer.input_tokens, reason)
