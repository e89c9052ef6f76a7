"""Generators of closed-loop traffic: the next call waits for the answer to the last."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from forebay.core.units import US_PER_S
from forebay.simulator.workload.base import Workload
from forebay.simulator.workload.calls import Calls
from forebay.simulator.workload.growing import Text, Writer
from forebay.simulator.workload.lengths import Lengths, LognormalLengths
from forebay.simulator.workload.renewal import renewal_times_us
from forebay.simulator.workload.streams import stream

DRAWN_COUNT = 1_000
Rows = tuple[int, ...]
TURN_LENGTHS = LognormalLengths(prompt_p50=60, prompt_p90=400, prompt_max=4_096, output_p50=200, output_p90=600)
"""What a user adds to a chat in a turn, and the answer: orders of magnitude, fitted to no data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looped:
    """Programs that start at random, `rate_per_s` of them on average over `duration_s`.

    `lengths` are those of a call: what it adds to the text before it, and its answer. Every prompt begins with the
    same `system_tokens`. A program ends before a call whose prompt and answer would be longer than `context_tokens`.
    """

    rate_per_s: float = 0.2
    duration_s: float = 3_600.0
    model: str = "model"
    lengths: Lengths = field(default_factory=lambda: TURN_LENGTHS)
    system_tokens: int = 512
    context_tokens: int = 32_768
    block_tokens: int = 512

    def __post_init__(self) -> None:
        if not (0 < self.rate_per_s < 1e6 and 0 < self.duration_s < 1e9):
            raise ValueError("rate_per_s must be above 0 and below 1e6, duration_s above 0 and below 1e9")
        if self.system_tokens < 0 or self.block_tokens < 1 or self.context_tokens <= self.system_tokens:
            raise ValueError("block_tokens must be at least 1, and context_tokens larger than system_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions(Looped):
    """Chats: on average `turns` turns (geometric), each with all that was said before as the beginning of its prompt;
    the user thinks `think_s` on average (exponential) between an answer and the next turn."""

    turns: float = 5.0
    think_s: float = 30.0

    def __post_init__(self) -> None:
        Looped.__post_init__(self)
        if not (self.turns >= 1 and 0 <= self.think_s < 1e9):
            raise ValueError("turns must be at least 1, and think_s not negative")

    def generate(self, seed: int = 0) -> Workload:
        """The workload of this seed."""
        maker = _Maker(self, seed)
        for program, start_us in enumerate(maker.starts_us()):
            maker.chat(program, start_us, int(maker.shapes.geometric(1 / self.turns)), self.think_s)
        return maker.workload(f"generated: chats, {self.rate_per_s:g}/s, {self.turns:g} turns on average, seed {seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs(Looped):
    """Agents: on average `steps` steps (geometric), each of one call or, with probability `fork_share`, of 2 to
    `fork_max` calls at once and one that joins their answers; tools run `tool_s` on average (exponential) between
    steps."""

    steps: float = 6.0
    fork_share: float = 0.3
    fork_max: int = 4
    tool_s: float = 3.0

    def __post_init__(self) -> None:
        Looped.__post_init__(self)
        if not (self.steps >= 1 and 0 <= self.fork_share <= 1 and self.fork_max >= 2 and 0 <= self.tool_s < 1e9):
            raise ValueError(
                "steps must be at least 1, fork_share from 0 to 1, fork_max at least 2, tool_s not negative"
            )

    def generate(self, seed: int = 0) -> Workload:
        """The workload of this seed."""
        maker = _Maker(self, seed)
        for program, start_us in enumerate(maker.starts_us()):
            self._program(maker, program, start_us)
        return maker.workload(f"generated: agents, {self.rate_per_s:g}/s, {self.steps:g} steps on average, seed {seed}")

    def _program(self, maker: "_Maker", program: int, start_us: int) -> None:
        text, parents = maker.system, Rows()
        for _ in range(int(maker.shapes.geometric(1 / self.steps))):
            think_us = maker.pause_us(self.tool_s) if parents else 0
            width = int(maker.shapes.integers(2, self.fork_max + 1)) if maker.shapes.random() < self.fork_share else 1
            step = maker.step(program, text, parents, start_us, think_us, width)
            if step is None:
                return
            text, parents = step


def _drawn(lengths: Lengths, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    while True:
        prompts, outputs = lengths.draw(DRAWN_COUNT, rng)
        yield from zip(prompts.tolist(), outputs.tolist(), strict=True)


class _Maker:
    """Adds the calls of programs one by one; draws shapes, pauses and lengths from streams of their own."""

    def __init__(self, traffic: Looped, seed: int) -> None:
        self._traffic, self._seed = traffic, seed
        self._writer = Writer(traffic.block_tokens)
        self._calls = Calls(self._writer)
        self._lengths = _drawn(traffic.lengths, stream(seed, "lengths"))
        self._pauses = stream(seed, "pauses")
        self.shapes = stream(seed, "shapes")
        self.system = self._writer.extend(Text(), traffic.system_tokens)

    def starts_us(self) -> list[int]:
        rates, span_s = np.array([self._traffic.rate_per_s]), self._traffic.duration_s
        starts: list[int] = renewal_times_us(rates, span_s, 1.0, stream(self._seed, "arrivals")).tolist()
        return starts

    def pause_us(self, mean_s: float) -> int:
        return round(self._pauses.exponential(mean_s) * US_PER_S)

    def chat(self, program: int, start_us: int, turn_count: int, think_s: float) -> None:
        text, parents = self.system, Rows()
        for _ in range(turn_count):
            step = self.step(program, text, parents, start_us, self.pause_us(think_s) if parents else 0, 1)
            if step is None:
                return
            text, parents = step

    def step(
        self, program: int, text: Text, parents: Rows, start_us: int, think_us: int, width: int
    ) -> tuple[Text, Rows] | None:
        """`width` calls at once, and where there are several one that joins them; None where one would be too long.

        Gives the text after it and its last call.
        """
        prompts, outputs = zip(*(next(self._lengths) for _ in range(width + (width > 1))), strict=True)
        branches = [self._writer.extend(text, tokens) for tokens in prompts[:width]]
        joined = sum(outputs[:width]) + (prompts[-1] if width > 1 else 0)
        after = self._writer.extend(branches[0] if width == 1 else text, joined)
        if not self._fit([*branches, after], [*outputs[:width], outputs[-1] if width > 1 else 0]):
            return None
        rows = tuple(
            self._calls.add(program, prompt, tokens, parents, start_us, think_us)
            for prompt, tokens in zip(branches, outputs, strict=False)
        )
        if width == 1:
            return after, rows
        last = self._calls.add(program, after, outputs[-1], rows, start_us, 0)
        return self._writer.extend(after, outputs[-1]), (last,)

    def _fit(self, prompts: Sequence[Text], outputs: Sequence[int]) -> bool:
        longest = max(prompt.tokens + tokens for prompt, tokens in zip(prompts, outputs, strict=True))
        return longest <= self._traffic.context_tokens

    def workload(self, note: str) -> Workload:
        if not self._calls.arrival_us:
            raise ValueError(f"{note}: no program came; raise rate_per_s, duration_s or context_tokens")
        return self._calls.workload(self._traffic.model, self._traffic.block_tokens, note)
