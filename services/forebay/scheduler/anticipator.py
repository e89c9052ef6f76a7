"""The load anticipator: how many tokens each instance's cache is expected to hold, iteration by iteration."""

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from forebay.core.anticipation import LengthRule, Tokens
from forebay.core.prediction import mean_of, remaining_median, remaining_tokens
from forebay.core.values import LengthQuantiles
from forebay.scheduler.leases import Lease

REACH = 200
"""Iterations ahead that are kept ready; a question that looks further makes it longer."""
LEAD = 64
"""Iterations by which a clock may go on before what is kept ready is drawn anew without any other reason."""
WINDOWS = 4
"""Iterations in memory over those kept ready; an instance is laid out anew each time its clock has used up the rest."""
PREFILL_TOKENS_PER_ITERATION = 2_048
"""Prompt tokens that an engine is taken to read in one iteration (vLLM's default token budget)."""


class Row:
    """One lease: it holds its prompt and one token more each iteration, from `start` until before `end`.

    Iterations are counted by its instance's clock. `total_tokens` is how long its answer is taken to be, and `due` the
    iteration at which an answer that still runs is taken to be longer.
    """

    __slots__ = ("asked", "due", "end", "has_begun", "lease", "prompt_tokens", "start", "total_tokens")

    def __init__(self, lease: Lease, asked: int) -> None:
        self.lease = lease
        self.asked = asked
        self.prompt_tokens = lease.request.prompt_tokens
        self.has_begun = False
        self.start = self.end = self.due = self.total_tokens = 0


class Track:
    """The rows of one instance and its clock, which counts iterations.

    `origin` is where its window begins; questions may be asked until the clock is `ready_until`.
    """

    __slots__ = ("clock", "dues", "origin", "pending_tokens", "ready_until", "rows")

    def __init__(self) -> None:
        self.clock = self.origin = self.pending_tokens = self.ready_until = 0
        self.rows: dict[str, Row] = {}
        self.dues: list[tuple[int, int, Row]] = []


class Anticipator:
    """PreServe's anticipator (section 4.3.1) in exact form, for all instances of a model by index.

    An instance's clock goes on with the furthest of its requests, by what is reported of them. A request counts from
    when it is sent: its first token is expected when the prompts before it and its own have been read, and while it
    does not come, as much later again as has been waited for it. An answer that outlives what it was taken for goes on
    as `rule` says, and one that ends is taken off at once. Nothing is approximated: what is expected at an iteration
    is the sum over the rows, and a row that was reported a moment ago stands where the report says.

    A row costs two slices when it changes and time that passes costs nothing. A question costs a look at two numbers
    an instance: the most that is held up to an iteration, and the most where one more token is held each iteration.
    Both stay right when the clock goes on, since between two ends nothing shrinks. What is new is counted when a
    report comes, so that a request's own placement does not wait for that, and at the latest when somebody asks.
    """

    def __init__(self, leases: Sequence[Mapping[str, Lease]], rule: LengthRule, reach: int = REACH) -> None:
        self._rule = rule
        self._tracks = [Track() for _ in leases]
        self._footprint = np.zeros(len(leases), dtype=np.int64)
        self._offset = np.zeros(len(leases), dtype=np.int64)
        self._sequence = 0
        self._stale: set[int] = set(range(len(leases)))
        self._lay_out(reach)
        self._opened = [
            (index, lease, lease.generated_tokens) for index, opened in enumerate(leases) for lease in opened.values()
        ]

    # Changes

    def open(self, index: int, lease: Lease) -> None:
        """A lease was opened on an instance."""
        self._opened.append((index, lease, lease.generated_tokens))

    def progress(self, index: int, lease: Lease) -> None:
        """A lease says how far it is."""
        self._catch_up()
        track = self._tracks[index]
        row, generated = track.rows[lease.placement.lease_id], lease.generated_tokens
        changed = not row.has_begun
        if changed:
            self._begin(track, index, row, generated)
        elif row.start + generated > track.clock:
            changed = self._advance(track, index, row.start + generated)
        if row.start + generated != track.clock:
            self._put(track, index, row, -1)
            row.start = track.clock - generated
            self._stretch(track, index, row)
            changed = True
        if changed or track.clock > track.ready_until:
            self._stale.add(index)
        if self._stale:
            self._derive()

    def end(self, index: int, lease: Lease) -> None:
        """A lease ended."""
        self._catch_up()
        track = self._tracks[index]
        row = track.rows.pop(lease.placement.lease_id)
        self._put(track, index, row, -1)
        self._footprint[index] -= row.prompt_tokens + row.total_tokens
        row.due = -1
        if not row.has_begun:
            track.pending_tokens -= row.prompt_tokens
        self._stale.add(index)
        self._derive()

    def adopt(self, index: int, other: "Anticipator", other_index: int) -> None:
        """Takes over an instance on which nothing is, with its clock and rows; the other must not be used for it."""
        other._catch_up()
        self._tracks[index] = track = other._tracks[other_index]
        self._footprint[index] = other._footprint[other_index]
        self._sequence = max(self._sequence, other._sequence)
        if self._reach != other._reach:
            self._rebase(track, index)
            return
        self._held[index] = other._held[other_index]
        self._move_to(index, track.clock - track.origin)
        self._stale.add(index)

    # Questions

    def peak(self, horizon: int) -> Tokens:
        """The most tokens that each instance is expected to hold within so many iterations."""
        self._prepare(horizon)
        peaks: Tokens = self._most.take(self._here + (horizon - 1))
        return peaks

    def peak_with(self, prompt_tokens: int, answer_tokens: int, horizon: int) -> Tokens:
        """The same with one more request that begins now, whichever instance gets it."""
        self._prepare(horizon)
        counted = min(answer_tokens, horizon)
        if counted < 1:
            return self.peak(horizon)
        peaks: Tokens = self._most_rising.take(self._here + (counted - 1)) - (self._offset - prompt_tokens)
        if counted < horizon:
            np.maximum(peaks, self._most.take(self._here + (horizon - 1)), out=peaks)
        return peaks

    def over_count(self, limits: npt.NDArray[np.float64], horizon: int) -> Tokens:
        """In how many of the next iterations each instance is expected to hold more than its limit."""
        self._prepare(horizon)
        held = self._held.reshape(-1).take(self._here[:, None] + np.arange(horizon))
        counts: Tokens = (held > limits[:, None]).sum(axis=1)
        return counts

    def held(self, step: int, count: int) -> Tokens:
        """What each instance is expected to hold now, after `step` iterations, after twice as many: `count` columns.

        It is added up from the rows: whoever looks far ahead makes nothing larger that is kept ready for others.
        """
        self._catch_up()
        rows = [
            (index, row.start - track.clock, row.end - track.clock, row.prompt_tokens)
            for index, track in enumerate(self._tracks)
            for row in track.rows.values()
        ]
        base, slope = (np.zeros((len(self._tracks), count + 1), dtype=np.int64) for _ in range(2))
        if rows:
            indexes, starts, ends, prompts = np.array(rows, dtype=np.int64).T
            # The first columns at which a row is there, and at which it is gone.
            first = np.clip(-(-starts // step), 0, count)
            last = np.clip(-(-ends // step), first, count)
            for sign, column in ((1, first), (-1, last)):
                np.add.at(base, (indexes, column), sign * (prompts - starts))
                np.add.at(slope, (indexes, column), sign)
        tokens: Tokens = base.cumsum(axis=1) + slope.cumsum(axis=1) * (np.arange(count + 1) * step)
        return tokens[:, :count]

    @property
    def footprint_tokens(self) -> Tokens:
        """Of each instance, the prompts and whole expected answers of all its requests."""
        self._catch_up()
        return self._footprint.copy()

    # Rows

    def _catch_up(self) -> None:
        """Counts the leases that were opened since."""
        if self._opened:
            for index, lease, generated in self._opened:
                self._enter(self._tracks[index], index, lease, generated)
                self._stale.add(index)
            self._opened.clear()

    def _enter(self, track: Track, index: int, lease: Lease, generated: int) -> None:
        row = track.rows[lease.placement.lease_id] = Row(lease, track.clock)
        track.pending_tokens += row.prompt_tokens
        row.total_tokens = first_total(self._rule, lease, generated)
        self._footprint[index] += row.prompt_tokens + row.total_tokens
        if generated:
            self._begin(track, index, row, generated)
            return
        row.start = track.clock - -track.pending_tokens // PREFILL_TOKENS_PER_ITERATION
        self._settle(track, index, row)

    def _begin(self, track: Track, index: int, row: Row, generated: int) -> None:
        """The first report of a request: from now on it goes with the clock."""
        if row.end:
            self._put(track, index, row, -1)
        row.has_begun = True
        track.pending_tokens -= row.prompt_tokens
        row.start = track.clock - generated
        self._stretch(track, index, row)

    def _advance(self, track: Track, index: int, clock: int) -> bool:
        """Moves the clock on; says whether a row changed by that."""
        track.clock = clock
        self._move_to(index, clock - track.origin)
        if clock - track.origin + self._reach + LEAD > self._width:
            self._rebase(track, index)
        changed = False
        while track.dues and track.dues[0][0] <= clock:
            due, _, row = heapq.heappop(track.dues)
            if row.due == due:
                self._put(track, index, row, -1)
                self._stretch(track, index, row)
                changed = True
        return changed

    def _stretch(self, track: Track, index: int, row: Row) -> None:
        """Puts a row, taken off before, where it belongs by now."""
        if row.has_begun:
            generated = track.clock - row.start
            if generated >= row.total_tokens + self._rule.grace_tokens:
                longer = longer_total(self._rule, row.lease, row.total_tokens, generated)
                self._footprint[index] += longer - row.total_tokens
                row.total_tokens = longer
        elif row.start <= track.clock:
            row.start = track.clock + max(1, track.clock - row.asked)
        self._settle(track, index, row)

    def _settle(self, track: Track, index: int, row: Row) -> None:
        row.end = row.start + row.total_tokens
        row.due = self._due(row, track.clock) if row.has_begun else row.start
        self._sequence += 1
        heapq.heappush(track.dues, (row.due, self._sequence, row))
        self._put(track, index, row, 1)

    def _due(self, row: Row, clock: int) -> int:
        # At its end an answer is looked at in any case: what is held shrinks there.
        return row.end if row.end > clock else row.end + self._rule.grace_tokens

    # Windows

    def _put(self, track: Track, index: int, row: Row, sign: int) -> None:
        """Adds a row to its instance's window, or takes it off."""
        first = (row.start if row.start > track.clock else track.clock) - track.origin
        last = min(row.end - track.origin, self._width)
        if first < last:
            held = row.prompt_tokens - row.start + track.origin
            ramp = self._ramp[first:last] + held
            window = self._held[index, first:last]
            if sign > 0:
                window += ramp
            else:
                window -= ramp

    def _derive(self) -> None:
        """Draws the prefix maxima of all that changed anew, from their clocks on."""
        for index in self._stale:
            track = self._tracks[index]
            track.ready_until = track.clock + LEAD
            first = track.clock - track.origin
            last = first + self._reach + LEAD
            held = self._held[index, first:last]
            np.maximum.accumulate(held, out=self._most_rows[index, first:last])
            np.maximum.accumulate(held + self._ramp[first:last], out=self._rising_rows[index, first:last])
        self._stale.clear()

    def _move_to(self, index: int, offset: int) -> None:
        self._offset[index] = offset
        self._here[index] = index * self._width + offset

    def _rebase(self, track: Track, index: int) -> None:
        """Lays an instance out anew from its clock on."""
        track.origin = track.clock
        self._move_to(index, 0)
        self._held[index] = 0
        for row in track.rows.values():
            self._put(track, index, row, 1)
        track.dues = [entry for entry in track.dues if entry[2].due == entry[0]]
        heapq.heapify(track.dues)
        self._stale.add(index)

    def _prepare(self, horizon: int) -> None:
        self._catch_up()
        if horizon > self._reach:
            self._lay_out(horizon)
            for index, track in enumerate(self._tracks):
                self._rebase(track, index)
        if self._stale:
            self._derive()

    def _lay_out(self, reach: int) -> None:
        self._reach, self._width = reach, reach * WINDOWS + LEAD
        self._ramp = np.arange(self._width)
        shape = (len(self._tracks), self._width)
        self._held, self._most_rows, self._rising_rows = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        self._rising_rows += self._ramp
        self._most, self._most_rising = self._most_rows.reshape(-1), self._rising_rows.reshape(-1)
        self._here = np.arange(len(self._tracks)) * self._width


class Anticipators:
    """The anticipators of one model, one for each rule that somebody asks for and none before."""

    def __init__(self, leases: Sequence[Mapping[str, Lease]]) -> None:
        self._leases = leases
        self._by_rule: dict[LengthRule, Anticipator] = {}

    def by(self, rule: LengthRule) -> Anticipator:
        """The anticipator that takes answers for as long as the rule says."""
        found = self._by_rule.get(rule)
        if found is None:
            found = self._by_rule[rule] = Anticipator(self._leases, rule)
        return found

    def take(self, index: int, other: "Anticipators", other_index: int) -> None:
        """Takes over an instance from elsewhere; what it has comes among our leases after that."""
        for rule, theirs in other._by_rule.items():
            self.by(rule).adopt(index, theirs, other_index)
        for rule in self._by_rule.keys() - other._by_rule.keys():
            for lease in other._leases[other_index].values():
                self._by_rule[rule].open(index, lease)

    def open(self, index: int, lease: Lease) -> None:
        """A lease was opened."""
        for one in self._by_rule.values():
            one.open(index, lease)

    def progress(self, index: int, lease: Lease) -> None:
        """A lease says how far it is."""
        for one in self._by_rule.values():
            one.progress(index, lease)

    def end(self, index: int, lease: Lease) -> None:
        """A lease ended."""
        for one in self._by_rule.values():
            one.end(index, lease)


def first_total(rule: LengthRule, lease: Lease, generated: int) -> int:
    """How long the answer of a lease is taken to be that has so many tokens."""
    predicted = lease.placement.predicted
    if rule.is_conditional:
        return _conditional(rule, predicted, generated, lease.tokens_max)
    total = max(1, predicted.p50)
    while generated >= total + rule.grace_tokens:
        total = longer_total(rule, lease, total, generated)
    return total


def longer_total(rule: LengthRule, lease: Lease, total_tokens: int, generated: int) -> int:
    """How long an answer is taken to be that has outlived what it was taken for."""
    predicted = lease.placement.predicted
    if rule.is_conditional:
        return _conditional(rule, predicted, generated, lease.tokens_max)
    step = max(1, round(rule.extend_share * predicted.p50) + rule.extend_tokens)
    return total_tokens + step * (1 + max(0, generated - rule.grace_tokens - total_tokens) // step)


def _conditional(rule: LengthRule, predicted: LengthQuantiles, generated: int, tokens_max: int) -> int:
    values = (predicted.p10, predicted.p50, predicted.p90, predicted.p97)
    if rule.is_median:
        total = generated + round(remaining_median(values, generated)) if generated else max(1, predicted.p50)
    else:
        total = generated + round(remaining_tokens(values, generated) if generated else mean_of(values))
    return max(min(total, tokens_max), generated + 1) if tokens_max else max(total, generated + 1)
