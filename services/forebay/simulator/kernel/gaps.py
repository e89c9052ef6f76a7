"""The longest time between two tokens of each answer, without a touch of any request while it decodes.

An instance keeps its longest iterations as a stack of (clock, length): the clock of decode iterations after one ended.
Clocks rise and lengths fall from the bottom to the top, so the first entry after the clock at which a request began to
decode is the longest iteration that it has waited for.
"""

from forebay.simulator.kernel import columns as at
from forebay.simulator.kernel.columns import Ints


def note_gap(inst: Ints, room: Ints, seq: Ints, i: int, clock: int, length_ps: int) -> None:
    """An iteration with decodes ended; shorter ones before it do not matter any more."""
    gaps, count = inst[i + at.GAPS], inst[i + at.GAP_COUNT]
    while count > 0 and room[gaps + 2 * count - 1] <= length_ps:
        count -= 1
    inst[i + at.GAP_COUNT] = count
    if count == at.GAPS_PER_SEAT * inst[i + at.SEATS_MOST]:
        count = drop_gaps(inst, room, seq, i)
    room[gaps + 2 * count] = clock
    room[gaps + 2 * count + 1] = length_ps
    inst[i + at.GAP_COUNT] = count + 1


def longest_since(inst: Ints, room: Ints, i: int, clock: int) -> int:
    """The longest iteration that ended after the clock; 0 where none did."""
    k = entry_after(inst, room, i, clock)
    return room[inst[i + at.GAPS] + 2 * k + 1] if k < inst[i + at.GAP_COUNT] else 0


def entry_after(inst: Ints, room: Ints, i: int, clock: int) -> int:
    """The number of the first entry after the clock."""
    gaps, low, high = inst[i + at.GAPS], 0, inst[i + at.GAP_COUNT]
    while low < high:
        middle = (low + high) >> 1
        if room[gaps + 2 * middle] > clock:
            high = middle
        else:
            low = middle + 1
    return low


def began(seq: Ints, s: int) -> int:
    """The clock at which a decode began."""
    return seq[s + at.STOP] - seq[s + at.OUTPUT] + seq[s + at.ANSWERED]


def drop_gaps(inst: Ints, room: Ints, seq: Ints, i: int) -> int:
    """Keeps the entries that are the answer for some decode, at most one each; their count."""
    gaps, count = inst[i + at.GAPS], inst[i + at.GAP_COUNT]
    s = inst[i + at.RUNNING]
    while s >= 0:
        k = entry_after(inst, room, i, began(seq, s)) if seq[s + at.PHASE] & at.DECODE else count
        if k < count and room[gaps + 2 * k + 1] > 0:
            # A length below 0 marks what is kept.
            room[gaps + 2 * k + 1] = -room[gaps + 2 * k + 1]
        s = seq[s + at.NEXT]
    kept = 0
    for k in range(count):
        if room[gaps + 2 * k + 1] < 0:
            room[gaps + 2 * kept] = room[gaps + 2 * k]
            room[gaps + 2 * kept + 1] = -room[gaps + 2 * k + 1]
            kept += 1
    return kept
