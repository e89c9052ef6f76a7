"""Carries out the moves that the scheduler asks for, and tells everyone who cares where a request is now."""

from typing import Protocol

from forebay.core.errors import ConfigError
from forebay.scheduler.actions import Migrate
from forebay.simulator.kernel.base import Kernel
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.machines import Machine
from forebay.simulator.shell.migrating import Migration, Migrations
from forebay.simulator.shell.migrating_kernel import MovableKernel


class Mover(Protocol):
    """Whoever can move running requests."""

    def move(self, action: Migrate) -> None:
        """Begins a move, if that is possible now."""
        ...


class Runs(Protocol):
    """Whoever knows which row a request is."""

    def row_of(self, request_id: str) -> int:
        """The row of a request that is under way; -1 of any other."""
        ...

    def moved(self, row: int, machine: Machine) -> None:
        """The row goes on at another instance."""
        ...

    def lost_between(self, row: int) -> None:
        """The row was on its way while both its instances ended."""
        ...


class Leases(Protocol):
    """Whoever counts on which instance a lease is."""

    def moved(self, lease_id: str, instance_id: str) -> None:
        """The lease is on another instance now."""
        ...


class Moving:
    """Moves rows on a kernel that can; a move that ends otherwise than planned is counted, and nobody is told."""

    def __init__(self, context: Context, kernel: MovableKernel, runs: Runs, leases: Leases) -> None:
        self._context = context
        self._kernel = kernel
        self._runs = runs
        self._leases = leases
        self._lease_of: dict[int, str] = {}
        self._migrations = Migrations(context.agenda, kernel, context.world.migration, self._ended)

    def move(self, action: Migrate) -> None:
        """Begins a move; a request that is not where the scheduler thinks, or is busy, stays where it is."""
        row = self._runs.row_of(action.placement.request_id)
        source = self._context.machines.get(action.placement.instance_id)
        destination = self._context.machines.get(action.instance_id)
        if row < 0 or row in self._lease_of or source is None or destination is None:
            return
        self._lease_of[row] = action.placement.lease_id
        if self._migrations.start(row, source, destination) is None:
            del self._lease_of[row]

    def _ended(self, migration: Migration) -> None:
        row, outcome = migration.row, migration.outcome
        lease_id = self._lease_of.pop(row)
        self._context.counters["moves" if outcome == "moved" else "moves_aborted"] += 1
        if outcome == "moved":
            self._runs.moved(row, migration.destination)
            self._leases.moved(lease_id, migration.destination.instance_id)
        elif outcome == "lost":
            self._runs.lost_between(row)


def movable(kernel: Kernel, has_prefill: bool) -> MovableKernel:
    """The kernel with moves; raises ConfigError beside instances that only read prompts."""
    if has_prefill:
        raise ConfigError("a rescheduler does not go with [[prefill]]: leave out one of the two")
    return MovableKernel(kernel)
