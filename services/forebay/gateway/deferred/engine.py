"""Decides which requests to claim, run, try again and give up, so that each one is answered once and in time."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from forebay.core.errors import (
    Aborted,
    DeadlineExceeded,
    ForebayError,
    ModelUnknown,
    ResourceExhausted,
    Unavailable,
)
from forebay.core.pressure import WaitingJob
from forebay.core.units import US_PER_S
from forebay.core.values import WakeAt
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.pacing import Demand, Pace
from forebay.gateway.deferred.values import (
    Action,
    Claim,
    End,
    Forecast,
    GiveUp,
    Job,
    JobStatus,
    Key,
    Line,
    Poll,
    Record,
    Renew,
    Run,
    Stop,
    ToStore,
    Work,
)
from forebay.gateway.deferred.windows import Windows

_NO_ROOM = (ResourceExhausted, Unavailable, ModelUnknown)
"""Errors that say nothing about the request: it is tried until its deadline."""
_BROKEN = (Aborted, DeadlineExceeded)
"""Errors of an attempt that may go well elsewhere."""
_RECORD_COUNT_MAX = 200
_NEVER_US = 2**62
_TOLD_COUNT_MAX = 1_000
"""Jobs that a scheduler is told of; the contract allows no more."""


class Phase(Enum):
    """What a claimed request waits for."""

    RUNNING = "its answer"
    PAUSED = "the time to try again"
    WRITING = "the store to take its line"


@dataclass(slots=True)
class _Flight:
    job: Job
    work: Work
    started_us: int
    phase: Phase = Phase.RUNNING
    attempt_count: int = 0
    """Attempts that broke."""
    pause_count: int = 0
    due_us: int = 0


class Engine:
    """One gateway's part in the work that all share; what is done stands in the store alone.

    The shell carries actions out in their order and tells what came of those that go to the store, or `on_store_failed`
    where it does not answer. A request that is claimed is recorded, or its claim runs out: then another gateway takes
    it. Whichever line the store takes first stands.
    """

    def __init__(self, config: DeferredConfig) -> None:
        self._config = config
        self._jobs: dict[str, Job] = {}
        self._flights: dict[Key, _Flight] = {}
        # Requests asked for and not yet given, by job.
        self._claiming: Counter[str] = Counter()
        # Jobs that had no free request left when asked, or are being asked; until the next look at the store.
        self._dry: set[str] = set()
        self._unwritten: dict[Key, Line] = {}
        self._is_writing = False
        self._ending: set[str] = set()
        self._windows = Windows(config)
        self._is_polling = False
        self._poll_us = 0
        self._renew_us = 0
        self._write_us = 0

    @property
    def flight_count(self) -> int:
        """Requests that this gateway holds."""
        return len(self._flights)

    @property
    def unwritten_count(self) -> int:
        """Lines that the store does not have yet."""
        return len(self._unwritten)

    @property
    def jobs(self) -> Sequence[Job]:
        """The open jobs as last seen."""
        return tuple(self._jobs.values())

    def waiting(self, region: str) -> tuple[WaitingJob, ...]:
        """The open jobs that a scheduler should know of, those first that are due first, from a gateway in `region`."""
        sent = Counter(flight.job.job_id for flight in self._flights.values() if flight.phase is not Phase.PAUSED)
        left = [job for job in self._jobs.values() if job.status is JobStatus.IN_PROGRESS and job.remaining_count > 0]
        soonest = sorted(left, key=lambda job: (job.deadline_us, job.job_id))[:_TOLD_COUNT_MAX]
        return tuple(_waiting(job, region, sent[job.job_id]) for job in soonest)

    def pace(self, model: str, now_us: int) -> Pace:
        """The pace of a model's work now, all gateways together."""
        return self._windows.pace(model, self._running(model), now_us)

    def window(self, model: str, now_us: int) -> int:
        """How many of a model's requests this gateway keeps in flight now, see `Windows`."""
        return self._windows.window(model, self._running(model), now_us)

    def on_jobs(self, jobs: Sequence[Job], owner_count: int, now_us: int) -> list[Action]:
        """The store's open jobs by deadline, and how many gateways hold claims."""
        self._is_polling = False
        self._poll_us = now_us + int(self._config.poll_s * US_PER_S)
        self._jobs = {job.job_id: job for job in jobs}
        self._windows.peer_count = max(1, owner_count)
        self._dry.clear()
        actions = self._stop([key for key, flight in self._flights.items() if not self._is_wanted(flight)])
        return [*actions, *self._ends(now_us), *self._fill(now_us), self._wake_at(now_us)]

    def on_submitted(self, now_us: int) -> list[Action]:
        """Something changed in the store: look at once."""
        self._poll_us = now_us
        return self.on_wake(now_us)

    def on_claimed(self, claim: Claim, works: Sequence[Work], now_us: int) -> list[Action]:
        """The store gave these requests; fewer than asked for means that the job has no more."""
        self._unclaim(claim)
        if len(works) < claim.count:
            self._dry.add(claim.job_id)
        job = self._jobs.get(claim.job_id)
        if job is None or job.status is not JobStatus.IN_PROGRESS:
            return []
        if not self._flights:
            self._renew_us = now_us + self._config.claim_us // 3
        actions: list[Action] = []
        for work in works:
            # A claim of ours that ran out while the store was away comes back to us; what runs for it goes on.
            if work.key not in self._flights:
                self._flights[work.key] = _Flight(job, work, now_us)
                actions.append(self._begin(job, work))
        return [*actions, *self._fill(now_us), self._wake_at(now_us)]

    def on_answered(self, line: Line, tokens: float, now_us: int) -> list[Action]:
        """A request has its line, an answer or a final error; of an answer, the tokens of work that it took."""
        flight = self._flights.get(line.key)
        if flight is None or flight.phase is not Phase.RUNNING:
            return []
        if tokens:
            self._windows.learn(flight.job.model, (now_us - flight.started_us) / US_PER_S, tokens)
        flight.phase = Phase.WRITING
        self._unwritten[line.key] = line
        return self._write(now_us)

    def on_failed(self, key: Key, error: ForebayError, now_us: int) -> list[Action]:
        """An attempt failed: the request is tried again, or given up where that cannot help."""
        flight = self._flights.get(key)
        if flight is None or flight.phase is not Phase.RUNNING:
            return []
        if not isinstance(error, _NO_ROOM):
            flight.attempt_count += 1
            if not isinstance(error, _BROKEN) or flight.attempt_count >= self._config.attempts_max:
                return [GiveUp(flight.work, error)]
        flight.phase = Phase.PAUSED
        flight.due_us = now_us + self._pause_us(flight, error)
        flight.pause_count += 1
        return [self._wake_at(now_us)]

    def on_recorded(self, lines: Sequence[Line], now_us: int) -> list[Action]:
        """The store has these lines, or had others for the requests before."""
        self._is_writing = False
        for line in lines:
            self._unwritten.pop(line.key, None)
            self._flights.pop(line.key, None)
        left = {flight.job.job_id for flight in self._flights.values()}
        if any(line.job_id not in left for line in lines):
            self._poll_us = now_us
        return [*self._write(now_us), *self._fill(now_us), *self._polls(now_us), self._wake_at(now_us)]

    def on_renewed(self, keys: Sequence[Key], held: Collection[Key], now_us: int) -> list[Action]:
        """Of the claims on `keys` these are still ours; the others ended or went to another gateway."""
        lost = [key for key in keys if key not in held and key in self._flights]
        return self._stop([key for key in lost if self._flights[key].phase is not Phase.WRITING])

    def on_ended(self, job_id: str, now_us: int) -> list[Action]:
        """The job has ended, or will be seen again at the next look."""
        self._ending.discard(job_id)
        self._poll_us = now_us
        return [self._wake_at(now_us)]

    def on_store_failed(self, action: ToStore, now_us: int) -> list[Action]:
        """The store did not answer; whether it did what was asked is not known."""
        pause_us = int(self._config.retry_s * US_PER_S)
        match action:
            case Poll():
                self._is_polling, self._poll_us = False, now_us + pause_us
            case Claim(job_id):
                self._unclaim(action)
                self._dry.add(job_id)
            case Record():
                self._is_writing, self._write_us = False, now_us + pause_us
            case Renew():
                self._renew_us = now_us + pause_us
            case End(job_id):
                self._ending.discard(job_id)
        return [self._wake_at(now_us)]

    def on_forecast(self, model: str, demand: Demand | None, now_us: int) -> list[Action]:
        """What the predictor expects of the model, or that it does not know; an older forecast then serves on."""
        if demand is not None:
            self._windows.demand[model] = demand
        return self._fill(now_us)

    def on_link(self, is_linked: bool, now_us: int) -> list[Action]:
        """Whether the scheduler is there."""
        self._windows.is_linked = is_linked
        return self._fill(now_us)

    def on_wake(self, now_us: int) -> list[Action]:
        """Time passed."""
        late = [key for key, flight in self._flights.items() if self._is_late(flight, now_us)]
        actions = [*self._stop(late), *self._ends(now_us), *self._resume(now_us), *self._renewals(now_us)]
        actions += [*self._write(now_us), *self._forecasts(now_us), *self._polls(now_us), *self._fill(now_us)]
        return [*actions, self._wake_at(now_us)]

    def _running(self, model: str) -> list[Job]:
        """The model's jobs that have requests left, by deadline."""
        found = (job for job in self._jobs.values() if job.model == model and job.status is JobStatus.IN_PROGRESS)
        return [job for job in found if job.remaining_count > 0]

    def _is_late(self, flight: _Flight, now_us: int) -> bool:
        return flight.phase is not Phase.WRITING and flight.job.deadline_us <= now_us

    def _is_wanted(self, flight: _Flight) -> bool:
        """Whether the request is still to be answered; a line that is there is written whatever became of the job."""
        job = self._jobs.get(flight.job.job_id)
        return flight.phase is Phase.WRITING or (job is not None and job.status is JobStatus.IN_PROGRESS)

    def _begin(self, job: Job, work: Work) -> Action:
        if work.claim_count <= self._config.claims_max:
            return Run(job, work)
        return GiveUp(work, Aborted(f"{work.claim_count - 1} gateways ended while they held this request"))

    def _stop(self, keys: Sequence[Key]) -> list[Action]:
        """Forgets these requests; what is written already is."""
        for key in keys:
            del self._flights[key]
            self._unwritten.pop(key, None)
        return [Stop(tuple(keys))] if keys else []

    def _ends(self, now_us: int) -> list[Action]:
        due = [job.job_id for job in self._jobs.values() if _is_over(job, now_us) and job.job_id not in self._ending]
        self._ending.update(due)
        return [End(job_id) for job_id in due]

    def _fill(self, now_us: int) -> list[Action]:
        """Claims for every model what its window has room for, the earliest deadline first."""
        held = Counter(flight.job.job_id for flight in self._flights.values())
        used = Counter(flight.job.model for flight in self._flights.values())
        actions: list[Action] = []
        for model in dict.fromkeys(job.model for job in self._jobs.values()):
            jobs = self._running(model)
            free = self.window(model, now_us) - used[model] - sum(self._claiming[job.job_id] for job in jobs)
            for job in jobs:
                count = min(free, job.remaining_count - held[job.job_id])
                if count > 0 and job.job_id not in self._dry and job.deadline_us > now_us:
                    # One question a job at a time: its answer asks the next.
                    self._dry.add(job.job_id)
                    self._claiming[job.job_id] += count
                    free -= count
                    actions.append(Claim(job.job_id, count, now_us + self._config.claim_us))
        return actions

    def _unclaim(self, claim: Claim) -> None:
        self._claiming[claim.job_id] -= claim.count
        if not self._claiming[claim.job_id]:
            del self._claiming[claim.job_id]
        self._dry.discard(claim.job_id)

    def _pause_us(self, flight: _Flight, error: ForebayError) -> int:
        longest_us = int(self._config.retry_s_max * US_PER_S)
        own_us = min(longest_us, int(self._config.retry_s * US_PER_S) << min(flight.pause_count, 20))
        return error.retry_after_us or own_us

    def _resume(self, now_us: int) -> Iterator[Action]:
        for flight in self._flights.values():
            if flight.phase is Phase.PAUSED and flight.due_us <= now_us:
                flight.phase, flight.started_us = Phase.RUNNING, now_us
                yield Run(flight.job, flight.work)

    def _renewals(self, now_us: int) -> list[Action]:
        if now_us < self._renew_us or not self._flights:
            return []
        self._renew_us = now_us + self._config.claim_us // 3
        return [Renew(tuple(self._flights), now_us + self._config.claim_us)]

    def _write(self, now_us: int) -> list[Action]:
        if self._is_writing or not self._unwritten or now_us < self._write_us:
            return []
        self._is_writing = True
        return [Record(tuple(self._unwritten.values())[:_RECORD_COUNT_MAX])]

    def _polls(self, now_us: int) -> list[Action]:
        if self._is_polling or now_us < self._poll_us:
            return []
        self._is_polling = True
        return [Poll()]

    def _forecasts(self, now_us: int) -> list[Forecast]:
        models = dict.fromkeys(job.model for job in self._jobs.values())
        asked = (self._windows.forecast(model, self._running(model), now_us) for model in models)
        return [one for one in asked if one is not None]

    def _wake_at(self, now_us: int) -> WakeAt:
        times = [_NEVER_US if self._is_polling else self._poll_us]
        times += [flight.due_us for flight in self._flights.values() if flight.phase is Phase.PAUSED]
        times += [job.deadline_us for job in self._jobs.values() if job.job_id not in self._ending]
        times += [self._renew_us] if self._flights else []
        times += [self._write_us] if self._unwritten and not self._is_writing else []
        return WakeAt(max(min(times), now_us + 1_000))


def _is_over(job: Job, now_us: int) -> bool:
    return job.status is not JobStatus.IN_PROGRESS or job.remaining_count <= 0 or job.deadline_us <= now_us


def _waiting(job: Job, region: str, sent_count: int) -> WaitingJob:
    return WaitingJob(
        job.job_id,
        job.model,
        region,
        job.deadline_us,
        job.created_us,
        job.remaining_count,
        sent_count,
        max(1, job.prompt_tokens // max(1, job.total_count)),
        job.tokens_max // max(1, job.total_count),
    )
