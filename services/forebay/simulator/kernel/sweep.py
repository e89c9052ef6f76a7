"""A whole open-loop run over flat columns: a fixed fleet, and routers that need nothing but the kernel's own counts."""

from forebay.simulator.kernel import columns as at
from forebay.simulator.kernel.calls import place, run
from forebay.simulator.kernel.columns import Ints

ROUND_ROBIN = 0
LEAST_REQUESTS = 1
POWER_OF_TWO = 2
LEAST_PREDICTED_TOKENS = 3
JOIN_SHORTEST_TOKENS = 4


def least(head: Ints, inst: Ints, router: int) -> int:
    """The first instance with the lowest score."""
    best = 0
    best_score = score(inst, 0, router)
    for index in range(1, head[at.COUNT]):
        one = score(inst, index * at.INST_WIDTH, router)
        if one < best_score:
            best = index
            best_score = one
    return best


def score(inst: Ints, i: int, router: int) -> int:
    """What a router compares; a request's weight is its predicted tokens, and nobody reports progress."""
    if router == LEAST_PREDICTED_TOKENS:
        return inst[i + at.WEIGHT_HERE]
    if router == JOIN_SHORTEST_TOKENS:
        return inst[i + at.WEIGHT_HERE] + inst[i + at.PROMPTS_HERE]
    return inst[i + at.IN_FLIGHT]


def choose(head: Ints, inst: Ints, router: int, pairs: Ints, place: int) -> int:
    """Where a row goes; the two that were drawn for it are at `place`, the lower first."""
    if router == ROUND_ROBIN:
        return head[at.TURN]
    if router != POWER_OF_TWO:
        return least(head, inst, router)
    one, other = pairs[place], pairs[place + 1]
    fewer = inst[other * at.INST_WIDTH + at.IN_FLIGHT] < inst[one * at.INST_WIDTH + at.IN_FLIGHT]
    return other if fewer else one


def sweep(
    head: Ints,
    inst: Ints,
    table: Ints,
    room: Ints,
    seq: Ints,
    tree: Ints,
    rows: Ints,
    done: Ints,
    given: Ints,
    arrivals_ps: Ints,
    chosen: Ints,
    router: int,
    pairs: Ints,
    base: int,
    first: int,
    last: int,
) -> int:
    """Passes rows first..last - 1 with the time between them and says in `chosen` where they went.

    The pairs are those of the rows from `base` on.
    Gives the row to go on with, before `last` where records run out, or an objection below 0.
    """
    if first < last:
        run(head, inst, table, room, seq, tree, rows, done, arrivals_ps[first])
    for row in range(first, last):
        index = choose(head, inst, router, pairs, 2 * (row - base) if router == POWER_OF_TWO else 0)
        now_ps = arrivals_ps[row]
        until_ps = arrivals_ps[row + 1] if row + 1 < last else now_ps
        i = index * at.INST_WIDTH
        code = place(head, inst, table, room, seq, tree, rows, done, given, i, row, now_ps, until_ps)
        if code < 0:
            return row if code == at.NO_ROOM else code
        chosen[row] = index if code == 1 else at.NONE
        head[at.TURN] = (index + 1) % head[at.COUNT]
    return last


def draw_pairs(words: Ints, instance_count: int, pairs: Ints, pair_count: int) -> int:
    """Turns a generator's 32-bit words into pairs as `random.Random.sample(range(instance_count), 2)` does.

    Up to 21 instances `sample` draws from a list and moves its last element into the gap; beyond, it draws again what
    it has drawn. Gives how many words were used; there must be enough.
    """
    used = 0
    for pair in range(pair_count):
        used = draw(words, used, instance_count)
        one = words[used - 1]
        other = one
        while other == one:
            used = draw(words, used, instance_count - 1 if instance_count <= 21 else instance_count)
            other = words[used - 1]
            if instance_count <= 21 and other == one:
                other = instance_count - 1
                break
        pairs[2 * pair] = min(one, other)
        pairs[2 * pair + 1] = max(one, other)
    return used


def draw(words: Ints, used: int, limit: int) -> int:
    """Takes words until one gives a number below `limit`, which replaces it; gives how many words are used."""
    bits = 0
    while limit >> bits > 0:
        bits += 1
    words[used] >>= 32 - bits
    while words[used] >= limit:
        used += 1
        words[used] >>= 32 - bits
    return used + 1
