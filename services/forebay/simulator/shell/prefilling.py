"""Instances that compute prompts for others: a kernel whose instances get requests with their first token."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

from forebay.core.instance import ALONE, Batch, EngineFlags, EngineProfile, EngineView
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.core.units import BYTES_PER_GB
from forebay.core.values import InstanceState
from forebay.simulator.config import Group, Prefill
from forebay.simulator.kernel.base import Kernel
from forebay.simulator.kernel.front import FrontKernel
from forebay.simulator.kernel.reference import ReferenceKernel
from forebay.simulator.shell.agenda import NEVER_PS
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.machines import change_of


@dataclass(slots=True, eq=False)
class _Source:
    """One prefill instance: its prompt tokens to come, and when its link is free."""

    number: int
    profile: EngineProfile
    bytes_per_s: int
    queued_tokens: int = 0
    free_ps: int = 0


@dataclass(slots=True, eq=False)
class _Way:
    """One request's way to its instance. What it did before it got there counts as done there."""

    row: int
    instance: int
    source: _Source
    prompt_tokens: int
    left_tokens: int
    left_tokens_max: int
    priority: int
    hints: Hints
    is_away: bool = True
    first_ps: int = -1
    preemption_count: int = 0
    lost_tokens: int = 0


@dataclass(slots=True)
class _Tally:
    """What an instance has beside what it knows of: requests on their way to it, and what became of others there."""

    coming_count: int = 0
    token_count: int = 0
    finished_count: int = 0
    cancelled_count: int = 0


class PrefillKernel(FrontKernel):
    """Stands before another kernel; see `kernel.base.Kernel`. No service knows of the instances of [[prefill]].

    A request first joins the prefill instance of its model with the fewest prompt tokens to come, as in Splitwise
    (Patel et al., arXiv 2311.18677), which computes the prompt and the first token. Its cache then crosses the link,
    after those that were ready before it, and it goes on where it was sent to, which meanwhile counts it as waiting;
    what lies beyond whole blocks is computed again there.
    """

    def __init__(self, kernel: Kernel, row_count: int) -> None:
        super().__init__(kernel)
        self._prefills = ReferenceKernel(row_count)
        self._sources: dict[str, list[_Source]] = {}
        self._ways: dict[int, _Way] = {}
        self._on_link: list[tuple[int, int, _Way]] = []
        self._link_count = 0
        self._tallies: list[_Tally] = []

    def begin(self, context: Context) -> None:
        """The instances of the context's world are there from its start on."""
        self._machines = context.machines
        for prefill in context.world.prefill:
            for _ in range(prefill.instances):
                self._add(prefill, context)

    def _add(self, prefill: Prefill, context: Context) -> None:
        group, engine = Group(prefill.model, prefill.profile), context.world.engine
        profile = self._machines.profile(group)
        number = self._prefills.add(profile, engine.flags(profile), engine.batcher)
        speed = round(prefill.link_gb_per_s * BYTES_PER_GB)
        self._sources.setdefault(prefill.model, []).append(_Source(number, profile, speed))
        name = f"prefill-{number + 1}/{prefill.model}"
        context.changes.append(change_of(name, group, profile, InstanceState.READY, context.now_us))

    @property
    def now_ps(self) -> int:
        """Where the clock stands."""
        return max(self._kernel.now_ps, self._prefills.now_ps)

    def add(self, profile: EngineProfile, flags: EngineFlags, batcher: str = "chunked_prefill") -> int:
        """A new, empty instance and its number."""
        self._tallies.append(_Tally())
        return self._kernel.add(profile, flags, batcher)

    def arrive(
        self,
        instance: int,
        row: int,
        prompt_tokens: int,
        output_tokens: int,
        hit_tokens: int,
        output_tokens_max: int,
        now_ps: int,
        priority: int = 0,
        batch: Batch = ALONE,
        hints: Hints = NO_HINTS,
    ) -> bool:
        """Queues a request for its prefill, or at the instance where its model has none; False where it never fits."""
        sources = self._sources.get(self._machines.all[instance].group.model)
        lengths = (prompt_tokens, output_tokens, hit_tokens, output_tokens_max)
        if not sources:
            return self._kernel.arrive(instance, row, *lengths, now_ps, priority, batch, hints)
        if self._kernel.refusal(instance, prompt_tokens, output_tokens, output_tokens_max) is not None:
            return False
        source = min(sources, key=lambda one: (one.queued_tokens, one.number))
        if not self._prefills.arrive(source.number, row, prompt_tokens, 1, 0, 0, now_ps, priority, hints=hints):
            return False
        left = (output_tokens - 1, max(0, output_tokens_max - 1))
        self._ways[row] = _Way(row, instance, source, prompt_tokens, *left, priority, hints.after(1))
        source.queued_tokens += prompt_tokens
        self._tallies[instance].coming_count += 1
        return True

    def cancel(self, row: int, now_ps: int) -> bool:
        """Drops a request, also one that is on its way."""
        way = self._ways.get(row)
        if way is None or not way.is_away:
            return self._kernel.cancel(row, now_ps)
        if way.first_ps >= 0 and not way.left_tokens:
            return False
        del self._ways[row]
        if self._prefills.cancel(row, now_ps):
            way.source.queued_tokens -= way.prompt_tokens
        self._tallies[way.instance].coming_count -= 1
        self._tallies[way.instance].cancelled_count += 1
        return True

    def advance(self, until_ps: int) -> Sequence[int]:
        """Passes boundaries, but not beyond the first at which a request finishes."""
        while True:
            link_ps = self._on_link[0][0] if self._on_link else NEVER_PS
            meet_ps = min(until_ps, self._prefills.next_ps, link_ps)
            finished = self._kernel.advance(meet_ps)
            if finished:
                return finished
            ended = [row for row in self._prefilled(meet_ps) if self._passes_on(row, meet_ps)]
            while self._on_link and self._on_link[0][0] == meet_ps:
                self._enter(heapq.heappop(self._on_link)[2], meet_ps)
            if ended or meet_ps == until_ps:
                return ended

    def _prefilled(self, now_ps: int) -> list[int]:
        rows: list[int] = []
        while found := self._prefills.advance(now_ps):
            rows += found
        return rows

    def _passes_on(self, row: int, now_ps: int) -> bool:
        """A prompt is computed: its cache sets out. Gives whether there is nothing left to do."""
        way, prefills = self._ways[row], self._prefills
        way.first_ps, way.preemption_count = now_ps, prefills.preemption_count(row)
        way.lost_tokens = prefills.lost_tokens(row)
        source, tally = way.source, self._tallies[way.instance]
        source.queued_tokens -= way.prompt_tokens
        tally.token_count += 1
        if not way.left_tokens:
            tally.coming_count -= 1
            tally.finished_count += 1
            return True
        copy_ps = source.profile.kv_transfer_ps(way.prompt_tokens, source.bytes_per_s) if source.bytes_per_s else 0
        source.free_ps = max(now_ps, source.free_ps) + copy_ps
        self._link_count += 1
        heapq.heappush(self._on_link, (source.free_ps, self._link_count, way))
        return False

    def _enter(self, way: _Way, now_ps: int) -> None:
        """The cache is there: the request goes on, unless it was dropped."""
        if self._ways.get(way.row) is not way:
            return
        way.is_away = False
        self._tallies[way.instance].coming_count -= 1
        prompt_tokens = way.prompt_tokens + 1
        lengths = (prompt_tokens, way.left_tokens, way.prompt_tokens, way.left_tokens_max)
        entered = self._kernel.arrive(way.instance, way.row, *lengths, now_ps, way.priority, hints=way.hints)
        assert entered, "it would have been refused when it came"

    def first_ps(self, row: int) -> int:
        """When the row's first token appeared, wherever that was; -1 before."""
        way = self._ways.get(row)
        return self._kernel.first_ps(row) if way is None else way.first_ps

    def finish_ps(self, row: int) -> int:
        """When the row's last token appeared; -1 before."""
        way = self._ways.get(row)
        if way is None or not way.is_away:
            return self._kernel.finish_ps(row)
        return -1 if way.left_tokens else way.first_ps

    def preemption_count(self, row: int) -> int:
        """How often the row was evicted in its present residence and on its way there."""
        way = self._ways.get(row)
        return (way.preemption_count if way else 0) + (0 if way and way.is_away else self._kernel.preemption_count(row))

    def lost_tokens(self, row: int) -> int:
        """Tokens of the row's cache that evictions dropped in its present residence and on its way there."""
        way = self._ways.get(row)
        return (way.lost_tokens if way else 0) + (0 if way and way.is_away else self._kernel.lost_tokens(row))

    def gap_ps(self, row: int) -> int:
        """The longest time between two tokens of the row's answer, its way included; -1 before it finished."""
        way = self._ways.get(row)
        if way is None:
            return self._kernel.gap_ps(row)
        if way.is_away:
            return -1 if self.finish_ps(row) < 0 else 0
        own_ps = self._kernel.gap_ps(row)
        return own_ps if own_ps < 0 else max(own_ps, self._kernel.first_ps(row) - way.first_ps)

    def generated_tokens(self, row: int) -> int:
        """Tokens that the row has produced by now, the first one among them."""
        way = self._ways.get(row)
        first = int(way is not None and way.first_ps >= 0)
        return first + (0 if way and way.is_away else self._kernel.generated_tokens(row))

    def view(self, instance: int) -> EngineView:
        """The instance as of now, with what is on its way to it as waiting."""
        view, tally = self._kernel.view(instance), self._tallies[instance]
        return replace(
            view,
            waiting_count=view.waiting_count + tally.coming_count,
            generated_tokens=view.generated_tokens + tally.token_count,
            finished_count=view.finished_count + tally.finished_count,
            cancelled_count=view.cancelled_count + tally.cancelled_count,
        )

    def crash(self, instance: int, now_ps: int) -> Sequence[int]:
        """The instance is gone; gives the rows that were lost, those on their way to it last."""
        lost = list(self._kernel.crash(instance, now_ps))
        coming = [way.row for way in self._ways.values() if way.is_away and way.instance == instance]
        return lost + [row for row in coming if self.cancel(row, now_ps)]
