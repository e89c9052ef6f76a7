"""A tree of ends, lists of requests and heaps of decodes, over flat columns."""

from forebay.simulator.kernel import columns as at
from forebay.simulator.kernel.columns import Ints

# The tree: the earliest end at 1, the children of p at 2p and 2p + 1, instances from `LEAVES` on


def set_end(head: Ints, tree: Ints, index: int, end_ps: int) -> None:
    """Says when the instance's work ends."""
    place = head[at.LEAVES] + index
    tree[place] = end_ps
    place >>= 1
    while place > 0:
        least = min(tree[2 * place], tree[2 * place + 1])
        if tree[place] == least:
            return
        tree[place] = least
        place >>= 1


def earliest(head: Ints, tree: Ints) -> int:
    """The index of the first of the instances whose work ends first."""
    leaves = head[at.LEAVES]
    place = 1
    while place < leaves:
        place *= 2
        if tree[place] != tree[1]:
            place += 1
    return place - leaves


# Lists of requests


def link_last(inst: Ints, seq: Ints, queue: int, s: int) -> None:
    """Puts a request at the end of a list."""
    last = inst[queue + at.LAST]
    seq[s + at.PREVIOUS] = last
    seq[s + at.NEXT] = at.NONE
    if last < 0:
        inst[queue] = s
    else:
        seq[last + at.NEXT] = s
    inst[queue + at.LAST] = s
    inst[queue + at.LENGTH_OF] += 1


def link_first(inst: Ints, seq: Ints, queue: int, s: int) -> None:
    """Puts a request at the front of a list."""
    first = inst[queue]
    seq[s + at.PREVIOUS] = at.NONE
    seq[s + at.NEXT] = first
    if first < 0:
        inst[queue + at.LAST] = s
    else:
        seq[first + at.PREVIOUS] = s
    inst[queue] = s
    inst[queue + at.LENGTH_OF] += 1


def unlink(inst: Ints, seq: Ints, queue: int, s: int) -> None:
    """Takes a request out of a list."""
    before = seq[s + at.PREVIOUS]
    after = seq[s + at.NEXT]
    if before < 0:
        inst[queue] = after
    else:
        seq[before + at.NEXT] = after
    if after < 0:
        inst[queue + at.LAST] = before
    else:
        seq[after + at.PREVIOUS] = before
    inst[queue + at.LENGTH_OF] -= 1


# The heap of an instance's decodes: (stop, request), the lowest stop first; DECODES is its size


def heap_up(room: Ints, heap: int, k: int, stop: int, s: int) -> None:
    """Puts (stop, s) at the free place k or above."""
    while k > 0:
        up = (k - 1) >> 1
        if room[heap + 2 * up] <= stop:
            break
        room[heap + 2 * k] = room[heap + 2 * up]
        room[heap + 2 * k + 1] = room[heap + 2 * up + 1]
        k = up
    room[heap + 2 * k] = stop
    room[heap + 2 * k + 1] = s


def heap_remove(room: Ints, heap: int, size: int, k: int) -> None:
    """Takes out what is at place k of `size`."""
    size -= 1
    down = 2 * k + 1
    while down < size:
        if room[heap + 2 * down + 2] < room[heap + 2 * down] and down + 1 < size:
            down += 1
        room[heap + 2 * k] = room[heap + 2 * down]
        room[heap + 2 * k + 1] = room[heap + 2 * down + 1]
        k = down
        down = 2 * k + 1
    heap_up(room, heap, k, room[heap + 2 * size], room[heap + 2 * size + 1])


def heap_find(room: Ints, heap: int, s: int) -> int:
    """The place of a request that is in the heap."""
    k = 0
    while room[heap + 2 * k + 1] != s:
        k += 1
    return k


# Records of requests


def take_record(head: Ints, seq: Ints) -> int:
    """A record that nobody uses, or NONE where there is none left."""
    s = head[at.FREE_SEQ]
    if s >= 0:
        head[at.FREE_SEQ] = seq[s + at.NEXT]
        return s
    s = head[at.FRESH_SEQ]
    if s == head[at.SEQ_END]:
        return at.NONE
    head[at.FRESH_SEQ] = s + at.SEQ_WIDTH
    return s


def free_record(head: Ints, seq: Ints, s: int) -> None:
    """Puts a record back."""
    seq[s + at.NEXT] = head[at.FREE_SEQ]
    head[at.FREE_SEQ] = s
