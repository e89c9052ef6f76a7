"""Kernels side by side: generated stories, what a kernel makes of one, and the first difference between two."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import strategies as st

from forebay.core.instance import EngineFlags, EngineProfile
from forebay.core.instance.batcher import BATCHERS
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.simulator.kernel.backend import Backend, Compiled, Plain
from forebay.simulator.kernel.base import Kernel, OpenLoop
from forebay.simulator.kernel.fast import FastKernel
from forebay.simulator.kernel.reference import ReferenceKernel

END_PS = 2**61
T = TypeVar("T")


def compiled() -> Backend:
    """The compiled backend; skips the test where numba is not installed."""
    pytest.importorskip("numba", reason="numba is not installed: the compiled kernel is not tested")
    return Compiled()


BACKENDS: dict[str, Callable[[], Backend]] = {"plain": Plain, "compiled": compiled}


def profile(
    kv_tokens: int = 10_000, max_seqs: int = 8, budget: int = 32, block_size: int = 4, scale: int = 1
) -> EngineProfile:
    """An engine whose times are small enough for events to meet at the same picosecond."""
    return EngineProfile(
        name="toy",
        status="kernel-level",
        iteration_ps=(0, *(scale * (10 + token // 3) for token in range(1, budget + 1))),
        decode_ps=scale,
        context_token_ps=scale,
        prefill_ps=5 * scale,
        half_pair_fixed=700 * scale,
        prefill_token_fixed=300 * scale,
        mixed_context_token_ps=scale // 2,
        mixed_pair_ps=scale % 3,
        kv_tokens=kv_tokens,
        max_seqs=max_seqs,
        block_size=block_size,
    )


@dataclass(frozen=True)
class Step:
    """`gap_ps` after the step before, something happens to an instance or a row, both taken modulo what there is."""

    kind: str
    gap_ps: int
    target: int
    prompt_tokens: int
    output_tokens: int
    hit_tokens: int
    spare_tokens: int


@dataclass(frozen=True)
class Story:
    """Instances, each with its batcher, and what happens to them."""

    engines: list[tuple[EngineProfile, EngineFlags, str]]
    steps: list[Step]


KINDS = (
    ("arrive",) * 9 + ("cancel",) * 2 + ("again", "look", "hang", "resume", "resume", "slow", "limit", "crash", "add")
)

profiles = st.builds(
    profile,
    kv_tokens=st.sampled_from([80, 100, 120, 200, 5_000]),
    max_seqs=st.sampled_from([1, 2, 4, 8, 16]),
    budget=st.sampled_from([17, 20, 33, 64]),
    block_size=st.sampled_from([1, 2, 4, 5, 8]),
    scale=st.sampled_from([1, 2, 7]),
)
flags = st.builds(
    EngineFlags,
    reserve_full_prompt=st.booleans(),
    watermark_blocks=st.sampled_from([0, 0, 0, 1, 3]),
    no_evict=st.sampled_from([False, False, False, True]),
    chunked_prefill=st.sampled_from([True, True, True, False]),
    model_tokens_max=st.sampled_from([0, 0, 0, 60]),
)
GAPS_PS = (0, 0, 1, 5, 16, 17, 40, 100)
OUTPUTS = (1, 2, 3, 10, 11, 12, 20, 21, 40)
HITS = (0, 0, 3, 8, 20, 60)
SPARES = (0, 0, 5, 20)
STEP_BYTES = 7
HINTS = (NO_HINTS, Hints(5, 9), Hints(12, 30, 1, 1, 400), Hints(40, 40, 1, 0, 0))


def decode(text: bytes) -> list[Step]:
    """Steps from bytes: hypothesis makes bytes much quicker than lists of objects."""
    pieces = [text[k : k + STEP_BYTES] for k in range(0, len(text) - STEP_BYTES + 1, STEP_BYTES)]
    return [
        Step(_one(KINDS, a), _one(GAPS_PS, b), c, 1 + d % 40, _one(OUTPUTS, e), _one(HITS, f), _one(SPARES, g))
        for a, b, c, d, e, f, g in pieces
    ]


def _one(choices: tuple[T, ...], number: int) -> T:
    return choices[number % len(choices)]


tales = st.binary(min_size=60 * STEP_BYTES, max_size=200 * STEP_BYTES).map(decode)
plain_engines = st.tuples(profiles, flags, st.just("chunked_prefill"))
special_engines = st.tuples(
    profiles,
    st.sampled_from(
        [
            EngineFlags(preemption="swap", swap_block_ps=3),
            EngineFlags(order="priority"),
            EngineFlags(order="preemptive"),
            EngineFlags(batch_delay_ps=40),
            EngineFlags(admits_ahead=True),
        ]
    ),
    st.sampled_from([*BATCHERS, "alise:queue_count=2"]),
)
stories = st.builds(Story, engines=st.lists(plain_engines, min_size=1, max_size=4), steps=tales)
mixed_stories = st.builds(
    Story, engines=st.lists(st.one_of(plain_engines, special_engines), min_size=2, max_size=4), steps=tales
)


@dataclass
class Teller:
    """Puts a kernel through a story and writes down all that it says."""

    kernel: Kernel
    story: Story
    log: list[tuple[object, ...]] = field(default_factory=list)
    now_ps: int = 0
    row_count: int = 0
    away: list[int] = field(default_factory=list)
    here: list[int] = field(default_factory=list)
    lengths: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    engines: dict[int, EngineProfile] = field(default_factory=dict)
    chunked: dict[int, bool] = field(default_factory=dict)
    loads: OpenLoop | None = None

    def tell(self) -> list[tuple[object, ...]]:
        """The whole story, until nothing moves any more."""
        for engine in self.story.engines:
            self.add(engine)
        for step in self.story.steps:
            self.now_ps += step.gap_ps
            self.pass_time(self.now_ps)
            self.act(step)
        for instance in self.engines:
            self.kernel.resume(instance, self.now_ps)
        self.now_ps = END_PS
        self.pass_time(END_PS)
        self.look()
        return self.log

    def add(self, engine: tuple[EngineProfile, EngineFlags, str]) -> None:
        instance = self.kernel.add(*engine)
        self.engines[instance], self.chunked[instance] = engine[0], engine[1].chunked_prefill

    def pass_time(self, until_ps: int) -> None:
        while rows := self.kernel.advance(until_ps):
            self.log.append(("finished", self.kernel.now_ps, *rows))
            self.here = [row for row in self.here if row not in rows]
        assert self.kernel.now_ps == until_ps

    def act(self, step: Step) -> None:
        if step.kind == "add" and len(self.engines) < 5:
            self.add(self.story.engines[step.target % len(self.story.engines)])
        if step.kind == "look":
            self.look()
        if step.kind == "cancel" and self.here:
            self.cancel(self.here[step.target % len(self.here)])
        if self.engines:
            self.act_on(sorted(self.engines)[step.target % len(self.engines)], step)

    def act_on(self, instance: int, step: Step) -> None:
        if step.kind == "arrive":
            hit, limit = step.hit_tokens, step.output_tokens + step.spare_tokens
            self.lengths[self.row_count] = (step.prompt_tokens, step.output_tokens, hit, limit if limit % 2 else 0)
            self.row_count += 1
            self.arrive(instance, self.row_count - 1)
        elif step.kind == "again" and self.away:
            self.arrive(instance, self.away.pop())
        elif step.kind == "hang":
            self.kernel.hang(instance, self.now_ps)
        elif step.kind == "resume":
            self.kernel.resume(instance, self.now_ps)
        elif step.kind == "slow":
            self.kernel.retime(instance, self.engines[instance].slowed(1 + step.prompt_tokens / 25), self.now_ps)
        elif step.kind == "limit":
            self.limit(instance, step)
        elif step.kind == "crash" and len(self.engines) > 1:
            del self.engines[instance]
            lost = self.kernel.crash(instance, self.now_ps)
            self.away += lost
            self.here = [row for row in self.here if row not in lost]
            self.log.append(("lost", self.now_ps, instance, *lost))

    def arrive(self, instance: int, row: int) -> None:
        told = HINTS[row % len(HINTS)]
        entered = self.kernel.arrive(instance, row, *self.lengths[row], self.now_ps, row % 3, hints=told)
        self.log.append(("arrive", self.now_ps, instance, row, entered))
        prompt, output, _, limit = self.lengths[row]
        assert entered == (self.kernel.refusal(instance, prompt, output, limit) is None)
        (self.here if entered else self.away).append(row)

    def limit(self, instance: int, step: Step) -> None:
        engine = self.engines[instance]
        spare = engine.max_batch_tokens - engine.max_seqs
        chunked = self.chunked[instance]
        budget = engine.max_batch_tokens - (step.output_tokens % spare if chunked else 0)
        self.kernel.limit(instance, 1 + step.prompt_tokens % engine.max_seqs, budget, self.now_ps)

    def cancel(self, row: int) -> None:
        assert self.kernel.cancel(row, self.now_ps)
        assert not self.kernel.cancel(row, self.now_ps)
        self.log.append(("cancel", self.now_ps, row, self.kernel.generated_tokens(row)))
        self.here.remove(row)
        self.away.append(row)

    def look(self) -> None:
        """All that can be seen."""
        for instance in self.engines:
            self.log.append(("view", self.now_ps, instance, self.kernel.view(instance)))
        if self.loads is not None:
            self.log.append(("loads", self.now_ps, *(tuple(column.tolist()) for column in self.loads.loads())))
        for row in range(self.row_count):
            self.log.append(("row", self.now_ps, row, *self.row(row)))

    def row(self, row: int) -> tuple[int, ...]:
        kernel = self.kernel
        return (
            kernel.first_ps(row),
            kernel.finish_ps(row),
            kernel.preemption_count(row),
            kernel.lost_tokens(row),
            kernel.gap_ps(row),
            kernel.generated_tokens(row),
        )


def fast(story: Story, backend: Backend, stretch_iterations_max: int = 65_536) -> list[tuple[object, ...]]:
    """The story by the fast kernel."""
    kernel = FastKernel(len(story.steps), backend, stretch_iterations_max)
    return Teller(kernel, story, loads=kernel).tell()


def reference(story: Story) -> list[tuple[object, ...]]:
    """The story by the reference."""
    kernel = ReferenceKernel(len(story.steps))
    return Teller(kernel, story, loads=kernel).tell()


def first_difference(one: list[tuple[object, ...]], other: list[tuple[object, ...]]) -> str:
    """Where two logs part, with what both said shortly before; empty where they are equal."""
    if one == other:
        return ""
    place = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return "\n".join(_lines(one, other, place))


def _lines(one: list[tuple[object, ...]], other: list[tuple[object, ...]], place: int) -> Iterator[str]:
    yield f"parted at entry {place}; before it:"
    yield from (f"  {entry}" for entry in one[max(0, place - 6) : place])
    yield f"expected: {one[place] if place < len(one) else 'the end'}"
    yield f"found:    {other[place] if place < len(other) else 'the end'}"
