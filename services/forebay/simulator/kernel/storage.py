"""The fast kernel's columns: made, filled and enlarged; never read while time passes."""

from typing import Any

from forebay.core.instance import EngineFlags, EngineProfile
from forebay.simulator.kernel import columns as at
from forebay.simulator.kernel.backend import Backend
from forebay.simulator.kernel.base import Loads
from forebay.simulator.kernel.columns import Ints
from forebay.simulator.kernel.structures import set_end

RECORDS_FIRST = 64
HELD = (at.GAP_COUNT, at.DECODES, at.CONTEXT, at.RESERVED, at.LEAVING, at.QUEUED_TOKENS)
LOADS = (at.IN_FLIGHT, at.WEIGHT_HERE, at.PROMPTS_HERE)
"""The fields of `base.Loads`, in its order."""


class Storage:
    """All columns of one kernel. `step` and `every` are what the functions take first; both change as columns grow.

    The windows show the same numbers and are quicker to read one by one. Columns grow by half of what they are, and the
    room of an instance that is gone is given to the next of its kind: a fleet that comes and goes for days takes the
    memory of those that are there at once, but for a record each.
    """

    def __init__(self, backend: Backend, row_count: int, stretch_iterations_max: int) -> None:
        self._backend = backend
        column = backend.column
        self.head = column(at.HEAD_WIDTH)
        self.inst, self.table, self.room, self.seq = column(0), column(0), column(0), column(0)
        self.tree, self.done, self.given = column(2, at.NEVER_PS), column(1), column(0)
        self.rows = column(row_count * at.ROW_WIDTH, -1)
        self.head[at.LEAVES] = 1
        self.head[at.FREE_SEQ] = at.NONE
        self.head[at.LONGEST] = stretch_iterations_max
        self._profiles: dict[EngineProfile, int] = {}
        self._left_rooms: dict[tuple[int, int], list[int]] = {}
        self._room_end = self._seat_count = 0
        self._bind()

    def add_instance(self, profile: EngineProfile, flags: EngineFlags) -> int:
        """Room for one more instance; gives its number."""
        index = self.head[at.COUNT]
        place = self.profile(profile)
        residues = self._take_room(profile.block_size, profile.max_seqs)
        self._seat_count += profile.max_seqs
        self.done = self._longer(self.done, self._seat_count + 1)
        self.inst = self._longer(self.inst, (index + 1) * at.INST_WIDTH, at.INST_WIDTH)
        record = {
            at.PROFILE: place,
            at.BLOCK: profile.block_size,
            at.BLOCKS: profile.block_count,
            at.SEATS: profile.max_seqs,
            at.SEATS_MOST: profile.max_seqs,
            at.BUDGET: profile.max_batch_tokens,
            at.WATERMARK: flags.watermark_blocks,
            at.RESERVE_PROMPT: int(flags.reserve_full_prompt),
            at.NO_EVICT: int(flags.no_evict),
            at.CHUNKED: int(flags.chunked_prefill),
            at.MODEL_MAX: flags.model_tokens_max,
            at.RESIDUES: residues,
            at.HEAP: residues + profile.block_size,
            at.GAPS: residues + profile.block_size + 2 * (profile.max_seqs + 1),
            at.END: at.NEVER_PS,
            at.LENGTH: 1,
            at.FREE: profile.block_count,
            at.HUNG: at.NONE,
        }
        self._fill(index, record)
        return int(index)

    def profile(self, profile: EngineProfile) -> int:
        """Where the profile's constants are."""
        if profile not in self._profiles:
            place = self._profiles[profile] = len(self.table)
            numbers = (
                profile.decode_ps,
                profile.context_token_ps,
                profile.prefill_ps,
                profile.half_pair_fixed,
                profile.prefill_token_fixed,
                profile.mixed_context_token_ps,
                profile.mixed_pair_ps,
                *profile.iteration_ps,
            )
            self.table = self._backend.extend(self.table, len(numbers))
            for offset, number in enumerate(numbers):
                self.table[place + offset] = number
            self._bind()
        return self._profiles[profile]

    def clear_instance(self, index: int) -> None:
        """The instance holds nothing; its totals stay."""
        i = index * at.INST_WIDTH
        for residue in range(self.inst[i + at.BLOCK]):
            self.room[self.inst[i + at.RESIDUES] + residue] = 0
        size = int(self.inst[i + at.BLOCK]), int(self.inst[i + at.SEATS_MOST])
        self._left_rooms.setdefault(size, []).append(int(self.inst[i + at.RESIDUES]))
        self._seat_count -= size[1]
        record = {at.END: at.NEVER_PS, at.LENGTH: 1, at.FREE: self.inst[i + at.BLOCKS], at.GONE: 1, at.HUNG: at.NONE}
        record |= dict.fromkeys((*HELD, *LOADS), 0)
        self._empty(i, record)
        set_end(self.head, self.tree, index, at.NEVER_PS)

    def grow_records(self) -> None:
        """Twice the room for requests that are here."""
        self.seq = self._backend.extend(self.seq, len(self.seq) or RECORDS_FIRST * at.SEQ_WIDTH)
        self.head[at.SEQ_END] = len(self.seq)
        self._bind()

    def give(self, lengths: Any) -> None:
        """Takes the lengths of all rows, already in the shape of `given`."""
        self.given = self._backend.taken(lengths)
        self._bind()

    def loads(self) -> Loads:
        """The loads as of now."""
        return Loads(*self._loads())

    def _take_room(self, block_size: int, seat_count: int) -> int:
        """Where an instance's residues, heap and gaps may lie; the residues are zeros."""
        left = self._left_rooms.get((block_size, seat_count))
        if left:
            return left.pop()
        place = self._room_end
        self._room_end += block_size + 2 * (seat_count + 1) + 2 * at.GAPS_PER_SEAT * seat_count
        self.room = self._longer(self.room, self._room_end)
        return place

    def _longer(self, column: Ints, size: int, width: int = 1) -> Ints:
        """The column with room for `size` numbers, in whole records."""
        if size <= len(column):
            return column
        records = max(size, len(column) * 3 // 2) // width
        return self._backend.extend(column, records * width - len(column))

    def _fill(self, index: int, record: dict[int, int]) -> None:
        self._empty(index * at.INST_WIDTH, record)
        self.head[at.COUNT] = index + 1
        if index >= self.head[at.LEAVES]:
            self._grow_tree()
        self._bind()

    def _empty(self, i: int, record: dict[int, int]) -> None:
        for queue in (at.RUNNING, at.WAITING):
            record |= {queue + at.FIRST: at.NONE, queue + at.LAST: at.NONE, queue + at.LENGTH_OF: 0}
        for field, value in record.items():
            self.inst[i + field] = value

    def _grow_tree(self) -> None:
        old, leaves = self.tree, self.head[at.LEAVES]
        self.tree = self._backend.column(4 * leaves, at.NEVER_PS)
        self.head[at.LEAVES] = 2 * leaves
        for index in range(leaves):
            set_end(self.head, self.tree, index, old[leaves + index])

    def _bind(self) -> None:
        """After columns were replaced."""
        self.step = (self.head, self.inst, self.table, self.room, self.seq, self.tree, self.rows)
        self.every = (*self.step, self.done)
        window = self._backend.window
        self.see_head: Ints = window(self.head)
        self.see_inst: Ints = window(self.inst)
        self.see_seq: Ints = window(self.seq)
        self.see_rows: Ints = window(self.rows)
        self.see_done: Ints = window(self.done)
        self._loads = self._backend.fields(self.inst, self.head[at.COUNT], at.INST_WIDTH, LOADS)
