"""What may be asked of the fast kernel, over its flat columns; runs as it is or compiled."""

from forebay.simulator.kernel import columns as at
from forebay.simulator.kernel.columns import Ints
from forebay.simulator.kernel.step import complete, depart, start
from forebay.simulator.kernel.stretch import blocks_needed, blocks_of, boundary_ps, cut, passed
from forebay.simulator.kernel.structures import earliest, free_record, link_last, set_end, take_record, unlink


def turn(head: Ints, inst: Ints, table: Ints, room: Ints, seq: Ints, tree: Ints, rows: Ints, done: Ints) -> None:
    """Passes the earliest end of work."""
    now_ps = tree[1]
    i = earliest(head, tree) * at.INST_WIDTH
    head[at.NOW] = now_ps
    complete(head, inst, room, seq, rows, done, i, now_ps)
    start(head, inst, table, room, seq, tree, rows, i, now_ps)


def advance(
    head: Ints, inst: Ints, table: Ints, room: Ints, seq: Ints, tree: Ints, rows: Ints, done: Ints, until_ps: int
) -> int:
    """Passes boundaries up to `until_ps` or the first instant with finishes, whose rows go to `done`; their number.

    Gives NONE where `until_ps` is past.
    """
    if until_ps < head[at.NOW]:
        return at.NONE
    head[at.DONE] = 0
    limit_ps = min(until_ps, at.NEVER_PS - 1)
    while tree[1] <= limit_ps and (head[at.DONE] == 0 or tree[1] == head[at.NOW]):
        turn(head, inst, table, room, seq, tree, rows, done)
    if head[at.DONE] == 0:
        head[at.NOW] = until_ps
    return head[at.DONE]


def run(
    head: Ints, inst: Ints, table: Ints, room: Ints, seq: Ints, tree: Ints, rows: Ints, done: Ints, until_ps: int
) -> None:
    """Passes all boundaries up to `until_ps`."""
    limit_ps = min(until_ps, at.NEVER_PS - 1)
    while tree[1] <= limit_ps:
        head[at.DONE] = 0
        turn(head, inst, table, room, seq, tree, rows, done)
    head[at.NOW] = until_ps


def drain(head: Ints, inst: Ints, table: Ints, room: Ints, seq: Ints, tree: Ints, rows: Ints, done: Ints) -> None:
    """Passes all boundaries; the clock stops at the last."""
    while tree[1] < at.NEVER_PS:
        head[at.DONE] = 0
        turn(head, inst, table, room, seq, tree, rows, done)


def fits(inst: Ints, i: int, prompt_tokens: int, output_tokens: int, longest_tokens: int) -> bool:
    """Whether such a request could ever run; `InstanceModel.refusal` says why not."""
    tokens = longest_tokens if inst[i + at.NO_EVICT] != 0 else prompt_tokens + output_tokens
    if tokens > inst[i + at.MODEL_MAX] > 0:
        return False
    if tokens > (inst[i + at.BLOCKS] - inst[i + at.WATERMARK]) * inst[i + at.BLOCK]:
        return False
    return inst[i + at.CHUNKED] != 0 or tokens <= inst[i + at.BUDGET]


def objection(head: Ints, inst: Ints, tree: Ints, rows: Ints, i: int, row: int, now_ps: int) -> int:
    """Why nothing may arrive now, or 0."""
    if now_ps < head[at.NOW]:
        return at.EARLY
    if tree[1] <= now_ps:
        return at.SKIPPED
    if inst[i + at.GONE] != 0:
        return at.CRASHED
    return at.PRESENT if rows[row * at.ROW_WIDTH + at.SEQ] >= 0 else 0


def arrive(
    head: Ints,
    inst: Ints,
    table: Ints,
    room: Ints,
    seq: Ints,
    tree: Ints,
    rows: Ints,
    i: int,
    row: int,
    prompt_tokens: int,
    output_tokens: int,
    hit_tokens: int,
    output_tokens_max: int,
    weight: int,
    now_ps: int,
) -> int:
    """Queues a request: 1, or 0 where it can never fit, or an objection below 0."""
    code = objection(head, inst, tree, rows, i, row, now_ps)
    if code != 0:
        return code
    longest_tokens = prompt_tokens + max(output_tokens, output_tokens_max)
    if not fits(inst, i, prompt_tokens, output_tokens, longest_tokens):
        return at.REFUSED
    s = take_record(head, seq)
    if s < 0:
        return at.NO_ROOM
    head[at.NOW] = now_ps
    block = inst[i + at.BLOCK]
    seq[s + at.PROMPT] = prompt_tokens
    seq[s + at.OUTPUT] = output_tokens
    seq[s + at.HIT] = min(hit_tokens, prompt_tokens - 1) // block * block
    seq[s + at.RESERVE] = blocks_of(longest_tokens, block) if inst[i + at.NO_EVICT] != 0 else 0
    seq[s + at.WEIGHT] = weight
    seq[s + at.ARRIVED_PS] = now_ps
    house(inst, seq, rows, i, s, row)
    queue(head, inst, table, room, seq, tree, rows, i, s, now_ps)
    return 1


def house(inst: Ints, seq: Ints, rows: Ints, i: int, s: int, row: int) -> None:
    """Gives a row its record and counts it in."""
    seq[s + at.ROW] = row
    seq[s + at.ANSWERED] = seq[s + at.CACHED] = seq[s + at.PHASE] = seq[s + at.GAP] = 0
    seq[s + at.HOME] = i
    place = row * at.ROW_WIDTH
    rows[place + at.FIRST_PS] = rows[place + at.FINISH_PS] = rows[place + at.GAP_PS] = -1
    rows[place + at.EVICTIONS] = rows[place + at.LOST] = 0
    rows[place + at.SEQ] = s
    inst[i + at.ARRIVED] += 1
    inst[i + at.IN_FLIGHT] += 1
    inst[i + at.WEIGHT_HERE] += seq[s + at.WEIGHT]
    inst[i + at.PROMPTS_HERE] += seq[s + at.PROMPT]


def queue(
    head: Ints, inst: Ints, table: Ints, room: Ints, seq: Ints, tree: Ints, rows: Ints, i: int, s: int, now_ps: int
) -> None:
    """A request joins the queue, behind a blocked head without effect before the present work ends."""
    link_last(inst, seq, i + at.WAITING, s)
    inst[i + at.QUEUED_TOKENS] += seq[s + at.PROMPT] - seq[s + at.HIT]
    if inst[i + at.END] == at.NEVER_PS:
        if inst[i + at.HUNG] < 0:
            start(head, inst, table, room, seq, tree, rows, i, now_ps)
    elif inst[i + at.WAITING + at.LENGTH_OF] == 1 and inst[i + at.RUNNING + at.LENGTH_OF] < inst[i + at.SEATS]:
        cut(head, inst, tree, i, now_ps)


def place(
    head: Ints,
    inst: Ints,
    table: Ints,
    room: Ints,
    seq: Ints,
    tree: Ints,
    rows: Ints,
    done: Ints,
    given: Ints,
    i: int,
    row: int,
    now_ps: int,
    until_ps: int,
) -> int:
    """`arrive` of a row whose lengths are given, then `run`."""
    lengths = row * at.GIVEN_WIDTH
    code = arrive(
        head,
        inst,
        table,
        room,
        seq,
        tree,
        rows,
        i,
        row,
        given[lengths + at.GIVEN_PROMPT],
        given[lengths + at.GIVEN_OUTPUT],
        given[lengths + at.GIVEN_HIT],
        0,
        given[lengths + at.GIVEN_WEIGHT],
        now_ps,
    )
    if code >= 0:
        run(head, inst, table, room, seq, tree, rows, done, until_ps)
    return code


def answered(inst: Ints, seq: Ints, s: int, now_ps: int) -> int:
    """Tokens that a request has produced by now."""
    if seq[s + at.PHASE] != at.DECODE:
        return seq[s + at.ANSWERED]
    i = seq[s + at.HOME]
    return seq[s + at.CACHED] + inst[i + at.CLOCK] + passed(inst, i, now_ps) - seq[s + at.PROMPT] + 1


def cancel(head: Ints, inst: Ints, seq: Ints, tree: Ints, rows: Ints, s: int, now_ps: int) -> None:
    """Drops a request that is here; one that runs keeps its memory until the boundary."""
    i = seq[s + at.HOME]
    head[at.NOW] = now_ps
    rows[seq[s + at.ROW] * at.ROW_WIDTH + at.SEQ] = -1 - answered(inst, seq, s, now_ps)
    inst[i + at.CANCELLED] += 1
    depart(inst, seq, i, s)
    if seq[s + at.PHASE] == at.QUEUED:
        unlink(inst, seq, i + at.WAITING, s)
        inst[i + at.QUEUED_TOKENS] -= seq[s + at.PROMPT] + seq[s + at.ANSWERED] - seq[s + at.HIT]
        free_record(head, seq, s)
    else:
        seq[s + at.PHASE] += at.DROPPED
        inst[i + at.LEAVING] += 1
    cut(head, inst, tree, i, now_ps)


def hang(head: Ints, inst: Ints, tree: Ints, i: int, now_ps: int) -> None:
    """The instance stops."""
    head[at.NOW] = now_ps
    if inst[i + at.HUNG] < 0:
        cut(head, inst, tree, i, now_ps)
        inst[i + at.HUNG] = now_ps
        set_end(head, tree, i // at.INST_WIDTH, at.NEVER_PS)


def resume(
    head: Ints, inst: Ints, table: Ints, room: Ints, seq: Ints, tree: Ints, rows: Ints, i: int, now_ps: int
) -> None:
    """The instance goes on; its work ends later by the time that was lost."""
    head[at.NOW] = now_ps
    hung_ps = inst[i + at.HUNG]
    if hung_ps < 0:
        return
    inst[i + at.HUNG] = at.NONE
    if inst[i + at.END] == at.NEVER_PS:
        start(head, inst, table, room, seq, tree, rows, i, now_ps)
    else:
        inst[i + at.END] += now_ps - hung_ps
        set_end(head, tree, i // at.INST_WIDTH, inst[i + at.END])


def retime(head: Ints, inst: Ints, tree: Ints, i: int, profile: int, now_ps: int) -> None:
    """The next iteration takes another profile's time."""
    head[at.NOW] = now_ps
    cut(head, inst, tree, i, now_ps)
    inst[i + at.PROFILE] = profile


def limit(head: Ints, inst: Ints, tree: Ints, i: int, seats: int, budget: int, now_ps: int) -> None:
    """The next iteration is planned with so many seats and tokens."""
    head[at.NOW] = now_ps
    cut(head, inst, tree, i, now_ps)
    inst[i + at.SEATS] = seats
    inst[i + at.BUDGET] = budget


def look(inst: Ints, room: Ints, seq: Ints, i: int, now_ps: int) -> tuple[int, ...]:
    """The numbers of `EngineView`, in its order, as of now; -1 for no boundary."""
    works = inst[i + at.END] != at.NEVER_PS
    j = passed(inst, i, now_ps) if works else 0
    taken = blocks_needed(inst, room, i, j + 1) if works else 0
    next_ps = boundary_ps(inst, i, j + 1) if works and inst[i + at.HUNG] < 0 else at.NONE
    prefill_count, prefill_cached, prefill_tokens = look_back(inst, seq, i)
    return (
        inst[i + at.RUNNING + at.LENGTH_OF],
        inst[i + at.WAITING + at.LENGTH_OF],
        prefill_count,
        inst[i + at.CONTEXT] + j * inst[i + at.DECODES] + prefill_cached,
        inst[i + at.QUEUED_TOKENS] + prefill_tokens,
        inst[i + at.BLOCKS],
        inst[i + at.FREE] - taken,
        inst[i + at.BLOCK],
        inst[i + at.SEATS],
        inst[i + at.ITERATIONS] + (j + 1 if works else 0),
        inst[i + at.PREEMPTIONS],
        inst[i + at.ARRIVED],
        inst[i + at.FINISHED],
        inst[i + at.CANCELLED],
        inst[i + at.GENERATED] + j * inst[i + at.DECODES],
        inst[i + at.QUEUED_PS],
        next_ps,
    )


def look_back(inst: Ints, seq: Ints, i: int) -> tuple[int, int, int]:
    """Of the prefills, which run last: their count, their tokens in the cache, and those still to come."""
    count = cached = tokens = 0
    s = inst[i + at.RUNNING + at.LAST]
    while s >= 0 and seq[s + at.PHASE] & at.PREFILL:
        count += 1
        cached += seq[s + at.CACHED]
        tokens += seq[s + at.PROMPT] + seq[s + at.ANSWERED] - seq[s + at.CACHED]
        s = seq[s + at.PREVIOUS]
    return count, cached, tokens
