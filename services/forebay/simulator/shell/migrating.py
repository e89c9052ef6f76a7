"""Moves running requests to other instances, at the cost of copying their caches."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from forebay.core.errors import ConfigError
from forebay.core.instance import GPUS, MODELS, parse_profile_name
from forebay.core.instance.catalog import HEAD_SIZE, WEIGHT_BYTES
from forebay.core.units import BYTES_PER_GB, PS_PER_S
from forebay.simulator.config import MigrationConfig
from forebay.simulator.shell.agenda import Agenda
from forebay.simulator.shell.machines import Machine
from forebay.simulator.shell.migrating_kernel import MovableKernel, Rest

PS_PER_MS = PS_PER_S // 1_000


@dataclass(slots=True, eq=False)
class Migration:
    """One move; `outcome` is empty while it goes on, then "moved" or why it was aborted.

    `copied_tokens` have reached the destination, which has `reserved_blocks` set aside for them and those to come.
    """

    row: int
    source: Machine
    destination: Machine
    residence: int
    preemption_count: int
    copied_tokens: int = 0
    reserved_blocks: int = 0
    stage_count: int = 0
    down_ps: int = -1
    outcome: str = ""


Ended = Callable[[Migration], None]


class Migrations:
    """Moves requests in stages, as Llumnix does: while a request goes on, the whole blocks that it has filled are
    copied, again and again, until few enough are left; for those it stands still.

    A move is aborted where the request ends, is evicted or taken away meanwhile, where its destination has no room or
    ends, and where too many stages would be needed; then it goes on where it is, but for one that stands still while
    both its instances end: `ended` hears of that as of everything else, and whoever hears it deals with the row. A
    request without a token moves at once and with nothing. An instance takes part in one move at a time. Room that is
    set aside is not offered to other moves; the engines' own admission does not know of it.
    """

    def __init__(self, agenda: Agenda, kernel: MovableKernel, config: MigrationConfig, ended: Ended) -> None:
        self._agenda = agenda
        self._kernel = kernel
        self._config = config
        self._ended = ended
        self._by_instance: dict[int, Migration] = {}

    def start(self, row: int, source: Machine, destination: Machine) -> Migration | None:
        """Begins to move a row that is on `source`; None where that is not possible now."""
        kernel = self._kernel
        numbers = (source.number, destination.number)
        if source is destination or any(number in self._by_instance for number in numbers):
            return None
        if kernel.instance_of(row) != source.number or not destination.serving:
            return None
        migration = Migration(row, source, destination, kernel.residence(row), kernel.preemption_count(row))
        self._by_instance.update(dict.fromkeys(numbers, migration))
        if kernel.generated_tokens(row):
            self._next_stage(migration)
        else:
            self._stop(migration, 0)
        return migration

    def reserved_blocks(self, instance: int) -> int:
        """Blocks of the instance that are set aside for a request on its way there."""
        migration = self._by_instance.get(instance)
        return migration.reserved_blocks if migration and migration.destination.number == instance else 0

    def _next_stage(self, migration: Migration) -> None:
        """Copies what has been filled since the last stage."""
        reason = self._obstacle(migration)
        if reason:
            self._end(migration, reason)
            return
        size = migration.source.profile.block_size
        context_tokens = self._kernel.context_tokens(migration.row)
        left_tokens = context_tokens - 1 - migration.copied_tokens
        if migration.stage_count and left_tokens <= self._config.last_blocks_max * size:
            self._stop(migration, left_tokens)
            return
        if migration.stage_count == self._config.stages_max:
            self._end(migration, "too many stages")
            return
        tokens = left_tokens // size * size
        migration.stage_count += 1
        self._after(self._copy_ps(migration, tokens), partial(self._copied, migration, tokens))

    def _copied(self, migration: Migration, tokens: int) -> None:
        migration.copied_tokens += tokens
        self._next_stage(migration)

    def _obstacle(self, migration: Migration) -> str:
        """Why the move cannot go on; room is set aside where it can."""
        kernel, destination = self._kernel, migration.destination
        if kernel.residence(migration.row) != migration.residence:
            return "the request is gone"
        if kernel.preemption_count(migration.row) != migration.preemption_count:
            return "the request was evicted"
        if not destination.serving:
            return "the destination is gone"
        # One block more than it fills by now: that is what it grows into next.
        needed = destination.profile.blocks(kernel.context_tokens(migration.row)) + 1
        if kernel.view(destination.number).free_block_count < needed:
            return "the destination has no room"
        migration.reserved_blocks = needed
        return ""

    def _stop(self, migration: Migration, tokens: int) -> None:
        """The request stands still for the last copy."""
        migration.down_ps = self._kernel.now_ps
        rest = self._kernel.leave(migration.row, migration.down_ps)
        assert rest is not None, "it was on its instance a moment ago"
        migration.residence = self._kernel.residence(migration.row)
        is_free = not migration.stage_count
        wait_ps = 0 if is_free else self._copy_ps(migration, tokens) + round(self._config.downtime_ms * PS_PER_MS)
        self._after(wait_ps, partial(self._commit, migration, rest))

    def _commit(self, migration: Migration, rest: Rest) -> None:
        """The request goes on at its destination, or where it came from."""
        if self._kernel.residence(migration.row) != migration.residence:
            self._end(migration, "the request is gone")
        elif self._enters(migration, migration.destination, rest):
            self._end(migration, "moved")
        elif self._enters(migration, migration.source, rest):
            self._end(migration, "the destination is gone")
        else:
            self._kernel.cancel(migration.row, self._kernel.now_ps)
            self._end(migration, "lost")

    def _enters(self, migration: Migration, machine: Machine, rest: Rest) -> bool:
        return machine.serving and self._kernel.enter(migration.row, machine.number, rest, self._kernel.now_ps)

    def _end(self, migration: Migration, outcome: str) -> None:
        migration.outcome, migration.reserved_blocks = outcome, 0
        for machine in (migration.source, migration.destination):
            del self._by_instance[machine.number]
        self._ended(migration)

    def _copy_ps(self, migration: Migration, tokens: int) -> int:
        bytes_per_s = self._config.bandwidth_gb_per_s * BYTES_PER_GB
        if not bytes_per_s:
            return 0
        each = self._config.kv_bytes_per_token or kv_bytes_per_token(migration.source.group.profile)
        return round(tokens * each * PS_PER_S / bytes_per_s)

    def _after(self, delay_ps: int, call: Callable[[], None]) -> None:
        if delay_ps:
            self._agenda.at(self._kernel.now_ps + delay_ps, call)
        else:
            call()


def kv_bytes_per_token(profile_name: str) -> int:
    """Bytes of one token's keys and values on all GPUs of an instance together: 2 * layers * heads * 128 * 2.

    Raises ConfigError for a profile whose model is not in the catalog.
    """
    gpu, model, tp = parse_profile_name(profile_name)
    if gpu not in GPUS or model not in MODELS:
        raise ConfigError(f"profile {profile_name}: not in the catalog, so give kv_bytes_per_token")
    shape = MODELS[model]
    return 2 * shape.layers * max(shape.kv_heads, tp) * HEAD_SIZE * WEIGHT_BYTES
