"""One pass and one completion of an instance over flat columns.

A decode's context less the instance's clock of decode iterations never changes, nor does the clock's value at its last
token, so a stretch touches no request. Blocks that decodes fill are charged when the work completes, those of prompts
when it starts.

The functions index whatever they are given, lists or arrays, and run as they are or compiled.
"""

from forebay.core.instance.profile import PAIR_SHIFT
from forebay.simulator.kernel import columns as at
from forebay.simulator.kernel.columns import Ints
from forebay.simulator.kernel.gaps import began, longest_since, note_gap
from forebay.simulator.kernel.stretch import (
    affordable,
    blocks_due,
    blocks_needed,
    blocks_of,
    boundary_ps,
    distance_ps,
)
from forebay.simulator.kernel.structures import (
    free_record,
    heap_find,
    heap_remove,
    heap_up,
    link_first,
    link_last,
    set_end,
    unlink,
)

HALF = 1 << (PAIR_SHIFT - 1)


# Who decodes


def begin_decode(inst: Ints, room: Ints, seq: Ints, i: int, s: int) -> None:
    """A prefill becomes a decode."""
    clock, cached = inst[i + at.CLOCK], seq[s + at.CACHED]
    stop = clock + seq[s + at.OUTPUT] - seq[s + at.ANSWERED]
    seq[s + at.PHASE] = at.DECODE
    seq[s + at.CACHED] = cached - clock
    seq[s + at.STOP] = stop
    heap_up(room, inst[i + at.HEAP], inst[i + at.DECODES], stop, s)
    room[inst[i + at.RESIDUES] + (cached - clock) % inst[i + at.BLOCK]] += 1
    inst[i + at.DECODES] += 1
    inst[i + at.CONTEXT] += cached


def end_decode(inst: Ints, room: Ints, seq: Ints, i: int, s: int, k: int) -> int:
    """A decode, at place k of the heap, is one no more; gives its tokens in the cache and writes down its answer."""
    cached = seq[s + at.CACHED] + inst[i + at.CLOCK]
    seq[s + at.GAP] = max(seq[s + at.GAP], longest_since(inst, room, i, began(seq, s)))
    heap_remove(room, inst[i + at.HEAP], inst[i + at.DECODES], k)
    room[inst[i + at.RESIDUES] + seq[s + at.CACHED] % inst[i + at.BLOCK]] -= 1
    inst[i + at.DECODES] -= 1
    inst[i + at.CONTEXT] -= cached
    seq[s + at.ANSWERED] = cached - seq[s + at.PROMPT] + 1
    seq[s + at.CACHED] = cached
    return cached


def leave(head: Ints, inst: Ints, seq: Ints, i: int, s: int, cached: int) -> None:
    """A running request that does not decode gives back its blocks and its record."""
    inst[i + at.FREE] += blocks_of(cached, inst[i + at.BLOCK])
    inst[i + at.RESERVED] -= seq[s + at.RESERVE]
    unlink(inst, seq, i + at.RUNNING, s)
    free_record(head, seq, s)


# The pass: grow, chunk, admit, start


def preempt(inst: Ints, room: Ints, seq: Ints, rows: Ints, i: int, s: int) -> None:
    """The last running request loses its cache and goes to the front of the queue."""
    cached = seq[s + at.CACHED]
    if seq[s + at.PHASE] == at.DECODE:
        cached = end_decode(inst, room, seq, i, s, heap_find(room, inst[i + at.HEAP], s))
        seq[s + at.LAST_PS] = inst[i + at.END]
    inst[i + at.FREE] += blocks_of(cached, inst[i + at.BLOCK])
    inst[i + at.RESERVED] -= seq[s + at.RESERVE]
    unlink(inst, seq, i + at.RUNNING, s)
    link_first(inst, seq, i + at.WAITING, s)
    seq[s + at.PHASE] = at.QUEUED
    seq[s + at.CACHED] = seq[s + at.HIT] = 0
    inst[i + at.QUEUED_TOKENS] += seq[s + at.PROMPT] + seq[s + at.ANSWERED]
    inst[i + at.PREEMPTIONS] += 1
    rows[seq[s + at.ROW] * at.ROW_WIDTH + at.EVICTIONS] += 1
    rows[seq[s + at.ROW] * at.ROW_WIDTH + at.LOST] += cached


def make_room(inst: Ints, room: Ints, seq: Ints, rows: Ints, i: int) -> None:
    """Evicts from the tail until every decode that stays can have its next block, in order of admission."""
    handed = 0
    s = inst[i + at.RUNNING]
    while s >= 0:
        if seq[s + at.PHASE] == at.DECODE and (seq[s + at.CACHED] + inst[i + at.CLOCK]) % inst[i + at.BLOCK] == 0:
            while inst[i + at.FREE] == 0 and seq[s + at.PHASE] == at.DECODE:
                preempt(inst, room, seq, rows, i, inst[i + at.RUNNING + at.LAST])
            if seq[s + at.PHASE] != at.DECODE:
                break
            inst[i + at.FREE] -= 1
            handed += 1
        s = seq[s + at.NEXT]
    # They are charged with all others when the work completes.
    inst[i + at.FREE] += handed


def take_chunk(inst: Ints, seq: Ints, i: int, s: int, tokens: int, blocks: int) -> None:
    """A running request computes `tokens` of its prompt in this iteration, in so many more blocks."""
    if inst[i + at.CHUNK_COUNT] == 0:
        inst[i + at.CHUNK_FIRST] = s
    seq[s + at.CHUNK] = tokens
    inst[i + at.CHUNK_COUNT] += 1
    inst[i + at.CHUNK_TOKENS] += tokens
    inst[i + at.CHUNK_PAIRS] += tokens * (2 * seq[s + at.CACHED] + tokens + 1)
    inst[i + at.FREE] -= blocks


def keep_partial(inst: Ints, room: Ints, seq: Ints, rows: Ints, i: int, s: int, due: int) -> None:
    """The partial prefill, last of the running, goes on or is evicted."""
    cached, block = seq[s + at.CACHED], inst[i + at.BLOCK]
    target = seq[s + at.PROMPT] + seq[s + at.ANSWERED]
    tokens = min(target - cached, inst[i + at.BUDGET] - inst[i + at.DECODES])
    blocks = blocks_of(cached + tokens, block) - blocks_of(cached, block)
    if blocks > inst[i + at.FREE] - due:
        preempt(inst, room, seq, rows, i, s)
    else:
        take_chunk(inst, seq, i, s, tokens, blocks)


def admissible(inst: Ints, seq: Ints, i: int, s: int, tokens: int, due: int) -> bool:
    """Whether the head of the queue may enter with so many tokens."""
    if tokens == 0 or inst[i + at.RUNNING + at.LENGTH_OF] >= inst[i + at.SEATS]:
        return False
    target, block = seq[s + at.PROMPT] + seq[s + at.ANSWERED], inst[i + at.BLOCK]
    if inst[i + at.CHUNKED] == 0 and tokens != target - seq[s + at.HIT]:
        return False
    if inst[i + at.NO_EVICT] != 0:
        wanted, offer = seq[s + at.RESERVE], inst[i + at.BLOCKS] - inst[i + at.RESERVED]
    elif inst[i + at.RESERVE_PROMPT] != 0:
        wanted, offer = blocks_of(target, block), inst[i + at.FREE] - due
    else:
        wanted, offer = blocks_of(seq[s + at.HIT] + tokens, block), inst[i + at.FREE] - due
    return wanted + inst[i + at.WATERMARK] <= offer


def admit(inst: Ints, seq: Ints, rows: Ints, i: int, due: int, now_ps: int) -> None:
    """Takes requests from the head of the queue until one does not fit."""
    s = inst[i + at.WAITING]
    while s >= 0:
        hit = seq[s + at.HIT]
        rest = seq[s + at.PROMPT] + seq[s + at.ANSWERED] - hit
        tokens = min(rest, inst[i + at.BUDGET] - inst[i + at.DECODES] - inst[i + at.CHUNK_TOKENS])
        if not admissible(inst, seq, i, s, tokens, due):
            return
        unlink(inst, seq, i + at.WAITING, s)
        link_last(inst, seq, i + at.RUNNING, s)
        inst[i + at.QUEUED_TOKENS] -= rest
        inst[i + at.RESERVED] += seq[s + at.RESERVE]
        if rows[seq[s + at.ROW] * at.ROW_WIDTH + at.EVICTIONS] == 0:
            inst[i + at.QUEUED_PS] += now_ps - seq[s + at.ARRIVED_PS]
        enter(inst, seq, i, s)
        take_chunk(inst, seq, i, s, tokens, blocks_of(hit + tokens, inst[i + at.BLOCK]))
        s = inst[i + at.WAITING]


def enter(inst: Ints, seq: Ints, i: int, s: int) -> None:
    """A request begins its prefill after its hit; tickets number the running in order of admission."""
    seq[s + at.PHASE] = at.PREFILL
    seq[s + at.CACHED] = seq[s + at.HIT]
    seq[s + at.TICKET] = inst[i + at.TICKETS]
    inst[i + at.TICKETS] += 1


def mixed_ps(inst: Ints, table: Ints, i: int) -> int:
    """How long one iteration with prefill takes."""
    profile, decodes, tokens = inst[i + at.PROFILE], inst[i + at.DECODES], inst[i + at.CHUNK_TOKENS]
    fixed = table[profile + at.PER_HALF_PAIR] * inst[i + at.CHUNK_PAIRS]
    fixed += table[profile + at.PER_PROMPT_TOKEN] * tokens
    prefill_ps = table[profile + at.PER_PREFILL] + ((fixed + HALF) >> PAIR_SHIFT)
    per_context = table[profile + at.PER_CONTEXT] + table[profile + at.PER_MIXED_CONTEXT]
    per_decode = table[profile + at.PER_DECODE] + table[profile + at.PER_MIXED_PAIR] * tokens
    decode_ps = per_decode * decodes + per_context * inst[i + at.CONTEXT]
    return table[profile + at.PER_TOKENS + decodes + tokens] + decode_ps + prefill_ps


def begin_stretch(head: Ints, inst: Ints, table: Ints, room: Ints, i: int, evicted: bool) -> int:
    """Sets out on as many decode iterations as nothing can disturb; gives their time."""
    profile, decodes, context = inst[i + at.PROFILE], inst[i + at.DECODES], inst[i + at.CONTEXT]
    step = table[profile + at.PER_TOKENS + decodes] + table[profile + at.PER_DECODE] * decodes
    slope = table[profile + at.PER_CONTEXT]
    n = min(room[inst[i + at.HEAP]] - inst[i + at.CLOCK], head[at.LONGEST], affordable(inst, room, i))
    if evicted:
        n = 1
    if n > 1024:
        # Slow engines with long answers: stay inside 64 bits.
        n = max(1, min(n, at.HORIZON_PS // (step + slope * (context + decodes * n))))
    inst[i + at.LENGTH] = n
    inst[i + at.STEP] = step
    inst[i + at.SLOPE] = slope
    return distance_ps(step, slope, decodes, context, n)


def start(
    head: Ints, inst: Ints, table: Ints, room: Ints, seq: Ints, tree: Ints, rows: Ints, i: int, now_ps: int
) -> None:
    """Plans the next work and sets out on it; idle if there is none."""
    preemptions = inst[i + at.PREEMPTIONS]
    inst[i + at.CHUNK_COUNT] = inst[i + at.CHUNK_TOKENS] = inst[i + at.CHUNK_PAIRS] = 0
    due = blocks_due(inst, room, i)
    if due > inst[i + at.FREE]:
        make_room(inst, room, seq, rows, i)
        due = blocks_due(inst, room, i)
    last = inst[i + at.RUNNING + at.LAST]
    if last >= 0 and seq[last + at.PHASE] == at.PREFILL:
        keep_partial(inst, room, seq, rows, i, last, due)
    evicted = inst[i + at.PREEMPTIONS] != preemptions
    if not evicted and inst[i + at.WAITING] >= 0:
        admit(inst, seq, rows, i, due, now_ps)
    set_out(head, inst, table, room, tree, i, evicted, now_ps)


def set_out(head: Ints, inst: Ints, table: Ints, room: Ints, tree: Ints, i: int, evicted: bool, now_ps: int) -> None:
    """Starts the planned work."""
    inst[i + at.START] = now_ps
    end_ps = at.NEVER_PS
    if inst[i + at.CHUNK_COUNT] > 0:
        inst[i + at.LENGTH] = 1
        end_ps = now_ps + mixed_ps(inst, table, i)
    elif inst[i + at.DECODES] > 0:
        end_ps = now_ps + begin_stretch(head, inst, table, room, i, evicted)
    inst[i + at.END] = end_ps
    set_end(head, tree, i // at.INST_WIDTH, end_ps)


# The completion


def drop_leaving(head: Ints, inst: Ints, room: Ints, seq: Ints, i: int) -> None:
    """Those that were cancelled in the iteration that ends leave without its token."""
    s = inst[i + at.RUNNING]
    while s >= 0:
        after = seq[s + at.NEXT]
        if seq[s + at.PHASE] >= at.DROPPED:
            if s == inst[i + at.CHUNK_FIRST]:
                inst[i + at.CHUNK_FIRST] = after
            if seq[s + at.PHASE] == at.DROPPED + at.DECODE:
                inst[i + at.GENERATED] -= 1
                cached = end_decode(inst, room, seq, i, s, heap_find(room, inst[i + at.HEAP], s))
            else:
                inst[i + at.CHUNK_COUNT] -= 1
                cached = seq[s + at.CACHED] + seq[s + at.CHUNK]
            leave(head, inst, seq, i, s, cached)
        s = after
    inst[i + at.LEAVING] = 0


def depart(inst: Ints, seq: Ints, i: int, s: int) -> None:
    """A request is not in flight any more."""
    inst[i + at.IN_FLIGHT] -= 1
    inst[i + at.WEIGHT_HERE] -= seq[s + at.WEIGHT]
    inst[i + at.PROMPTS_HERE] -= seq[s + at.PROMPT]


def finish(head: Ints, inst: Ints, seq: Ints, rows: Ints, done: Ints, i: int, s: int, now_ps: int) -> None:
    """A request has its whole answer."""
    row = seq[s + at.ROW]
    rows[row * at.ROW_WIDTH + at.FINISH_PS] = now_ps
    rows[row * at.ROW_WIDTH + at.GAP_PS] = seq[s + at.GAP]
    rows[row * at.ROW_WIDTH + at.SEQ] = -1 - seq[s + at.OUTPUT]
    done[head[at.DONE]] = row
    head[at.DONE] += 1
    inst[i + at.FINISHED] += 1
    depart(inst, seq, i, s)
    leave(head, inst, seq, i, s, seq[s + at.CACHED])


def finish_decodes(head: Ints, inst: Ints, room: Ints, seq: Ints, rows: Ints, done: Ints, i: int, now_ps: int) -> None:
    """Decodes that have their last token leave, in order of admission."""
    heap, clock, begin, end = inst[i + at.HEAP], inst[i + at.CLOCK], head[at.DONE], head[at.DONE]
    while inst[i + at.DECODES] > 0 and room[heap] == clock:
        s = room[heap + 1]
        end_decode(inst, room, seq, i, s, 0)
        k = end
        while k > begin and seq[done[k - 1] + at.TICKET] > seq[s + at.TICKET]:
            done[k] = done[k - 1]
            k -= 1
        done[k] = s
        end += 1
    for k in range(begin, end):
        finish(head, inst, seq, rows, done, i, done[k], now_ps)


def finish_prefills(head: Ints, inst: Ints, room: Ints, seq: Ints, rows: Ints, done: Ints, i: int, now_ps: int) -> None:
    """Prompts that are computed give their next token; a partial one stays what it is."""
    s = inst[i + at.CHUNK_FIRST]
    for _ in range(inst[i + at.CHUNK_COUNT]):
        after = seq[s + at.NEXT]
        seq[s + at.CACHED] += seq[s + at.CHUNK]
        if seq[s + at.CACHED] == seq[s + at.PROMPT] + seq[s + at.ANSWERED]:
            seq[s + at.ANSWERED] += 1
            inst[i + at.GENERATED] += 1
            if seq[s + at.ANSWERED] == 1:
                rows[seq[s + at.ROW] * at.ROW_WIDTH + at.FIRST_PS] = now_ps
            else:
                seq[s + at.GAP] = max(seq[s + at.GAP], now_ps - seq[s + at.LAST_PS])
            if seq[s + at.ANSWERED] == seq[s + at.OUTPUT]:
                finish(head, inst, seq, rows, done, i, s, now_ps)
            else:
                begin_decode(inst, room, seq, i, s)
        s = after


def complete(head: Ints, inst: Ints, room: Ints, seq: Ints, rows: Ints, done: Ints, i: int, now_ps: int) -> None:
    """The work in progress ends now."""
    n, decodes = inst[i + at.LENGTH], inst[i + at.DECODES]
    if decodes > 0:
        # The longest of a stretch is its last.
        note_gap(inst, room, seq, i, inst[i + at.CLOCK] + n, now_ps - boundary_ps(inst, i, n - 1))
    inst[i + at.FREE] -= blocks_needed(inst, room, i, n)
    inst[i + at.CLOCK] += n
    inst[i + at.CONTEXT] += n * decodes
    inst[i + at.GENERATED] += n * decodes
    inst[i + at.ITERATIONS] += n
    if inst[i + at.LEAVING] > 0:
        drop_leaving(head, inst, room, seq, i)
    finish_decodes(head, inst, room, seq, rows, done, i, now_ps)
    if inst[i + at.CHUNK_COUNT] > 0:
        finish_prefills(head, inst, room, seq, rows, done, i, now_ps)
