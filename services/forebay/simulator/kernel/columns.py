"""Where each number of the fast kernel lies: flat columns of int64, one record after another.

`head` holds the numbers of the whole kernel, `inst` a record an instance, `seq` a record a request that is here, `rows`
a record a request of the workload, `given` the lengths of all rows where they are known in advance. `table` holds the
profiles, `room` each instance's counts of decodes by block residue and its heap of decodes by their last token, `tree`
the earliest end of work, `done` who finished. An instance or a request is named by the place of its record; -1 is none.
"""

from collections.abc import MutableSequence
from typing import TypeAlias

Ints: TypeAlias = MutableSequence[int]

NONE = -1
NEVER_PS = 2**62
HORIZON_PS = 2**60

# head
NOW = 0
COUNT = 1
LEAVES = 2
FREE_SEQ = 3
"""The first of the records in `seq` that were given back, linked by NEXT."""
FRESH_SEQ = 4
"""The first record in `seq` that was never used."""
SEQ_END = 5
DONE = 6
LONGEST = 7
"""The most iterations of one stretch."""
TURN = 8
"""The instance after the one that the last routed request got."""
HEAD_WIDTH = 9

# inst: limits and flags
PROFILE = 0
BLOCK = 1
BLOCKS = 2
SEATS = 3
BUDGET = 4
WATERMARK = 5
RESERVE_PROMPT = 6
NO_EVICT = 7
CHUNKED = 8
MODEL_MAX = 9
RESIDUES = 10
HEAP = 11
# inst: the work in progress, which began at START and is LENGTH iterations; those of a stretch take
# STEP + SLOPE * context each
START = 12
LENGTH = 13
END = 14
STEP = 15
SLOPE = 16
CHUNK_COUNT = 17
CHUNK_TOKENS = 18
CHUNK_PAIRS = 19
CHUNK_FIRST = 20
# inst: what is here; RUNNING and WAITING are lists (first, last, count)
RUNNING = 21
WAITING = 24
DECODES = 27
CONTEXT = 28
CLOCK = 29
FREE = 30
RESERVED = 31
LEAVING = 32
QUEUED_TOKENS = 33
IN_FLIGHT = 34
WEIGHT_HERE = 35
PROMPTS_HERE = 36
HUNG = 37
GONE = 38
TICKETS = 39
# inst: totals
ITERATIONS = 40
PREEMPTIONS = 41
ARRIVED = 42
FINISHED = 43
CANCELLED = 44
GENERATED = 45
QUEUED_PS = 46
GAPS = 47
"""Its longest iterations, and how many there are."""
GAP_COUNT = 48
SEATS_MOST = 49
"""Those that the engine has, of which SEATS may be given."""
INST_WIDTH = 50
GAPS_PER_SEAT = 2

# a list
FIRST = 0
LAST = 1
LENGTH_OF = 2

# seq
ROW = 0
PROMPT = 1
OUTPUT = 2
HIT = 3
RESERVE = 4
"""Blocks kept for it while it runs, where nobody is ever evicted; else 0."""
WEIGHT = 5
ARRIVED_PS = 6
ANSWERED = 7
"""Tokens of the answer; of a decode, those that it had when it began to decode."""
CACHED = 8
"""Tokens in the cache; of a decode, those less the instance's CLOCK, which does not change."""
CHUNK = 9
STOP = 10
NEXT = 11
PREVIOUS = 12
PHASE = 13
HOME = 14
TICKET = 15
GAP = 16
"""The longest time between two tokens before the present decode."""
LAST_PS = 17
"""When the last token before an eviction appeared."""
SEQ_WIDTH = 18

# phases
QUEUED = 0
PREFILL = 1
DECODE = 2
DROPPED = 4
"""Added to the phase of a request that leaves at the next boundary."""

# rows
FIRST_PS = 0
FINISH_PS = 1
EVICTIONS = 2
SEQ = 3
"""The record in `seq`; of a row that is not here, -1 less the tokens that it had when it left."""
LOST = 4
"""Tokens of its cache that evictions dropped."""
GAP_PS = 5
"""The longest time between two tokens, once the answer is complete."""
ROW_WIDTH = 6

# given
GIVEN_PROMPT = 0
GIVEN_OUTPUT = 1
GIVEN_HIT = 2
GIVEN_WEIGHT = 3
GIVEN_WIDTH = 4

# table: a profile's constants, then F[0..]
PER_DECODE = 0
PER_CONTEXT = 1
PER_PREFILL = 2
PER_HALF_PAIR = 3
PER_PROMPT_TOKEN = 4
PER_MIXED_CONTEXT = 5
PER_MIXED_PAIR = 6
PER_TOKENS = 7

# answers of `arrive` beside 1 (entered)
REFUSED = 0
NO_ROOM = -1
EARLY = -2
SKIPPED = -3
CRASHED = -4
PRESENT = -5
