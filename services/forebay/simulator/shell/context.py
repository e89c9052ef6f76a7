"""What the shells of one run share: the clock, the agenda, the instances, the rows and the random streams."""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from forebay.core.units import PS_PER_US, US_PER_S
from forebay.simulator.config import World
from forebay.simulator.kernel.base import Kernel
from forebay.simulator.results import FleetChange, KnobTurn
from forebay.simulator.shell.agenda import Agenda, Call
from forebay.simulator.shell.journal import Journal
from forebay.simulator.shell.machines import Machines, ProfileOf
from forebay.simulator.shell.rows import Rows
from forebay.simulator.workload.base import Workload
from forebay.simulator.workload.streams import stream

E = TypeVar("E")


class Context:
    """One run's common ground. The loop alone moves the clock, `now_ps`, of which engines hear
    `now_us`; whatever is to happen later goes through `agenda`."""

    def __init__(
        self,
        workload: Workload,
        world: World,
        kernel: Kernel,
        profile_of: ProfileOf,
        seed: int = 0,
        journal: Journal | None = None,
    ) -> None:
        self.workload = workload
        self.world = world
        self.kernel = kernel
        self.seed = seed
        self.now_ps = self.now_us = 0
        self.agenda = Agenda()
        self.machines = Machines(kernel, world.engine, profile_of)
        self.rows = Rows(workload)
        self.changes: list[FleetChange] = []
        self.turns: list[KnobTurn] = []
        self.counters: Counter[str] = Counter()
        self.rejections: Counter[str] = Counter()
        self._journal = journal

    def reach(self, now_ps: int) -> None:
        """The clock stands there now."""
        self.now_ps, self.now_us = now_ps, now_ps // PS_PER_US

    def at_us(self, at_us: int, call: Call) -> None:
        """Calls at this time, or now where it has passed."""
        self.agenda.at(max(at_us * PS_PER_US, self.now_ps), call)

    def after_us(self, delay_us: int, call: Call) -> None:
        """Calls after a delay."""
        self.agenda.at(self.now_ps + delay_us * PS_PER_US, call)

    def every_s(self, interval_s: float, call: Call) -> None:
        """Calls now and then after every interval, for as long as the run lasts."""
        interval_ps = round(interval_s * US_PER_S) * PS_PER_US

        def turn() -> None:
            call()
            self.agenda.at(self.now_ps + interval_ps, turn)

        turn()

    def rng(self, name: str) -> np.random.Generator:
        """A random stream of its own for each name: what one part draws moves no other part's draws."""
        return stream(self.seed, name)

    def recorded(self, part: str, engine: E) -> E:
        """The engine, with its events written down where somebody keeps a journal."""
        return engine if self._journal is None else self._journal.watch(part, engine, lambda: self.now_us)


class Alarm:
    """Calls back at the time set last; what was set before is forgotten."""

    def __init__(self, context: Context, callback: Callable[[], None]) -> None:
        self._context = context
        self._callback = callback
        self._set_count = 0

    def set(self, at_us: int) -> None:
        """Calls back at this time, or now where it has passed."""
        self._set_count += 1
        number = self._set_count
        self._context.at_us(at_us, lambda: self._ring(number))

    def _ring(self, number: int) -> None:
        if number == self._set_count:
            self._callback()
