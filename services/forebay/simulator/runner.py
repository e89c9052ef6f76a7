"""Runs an experiment's jobs over processes: what was done before is skipped, and one failure stops no other job."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from forebay.simulator.jobs import Done, Job, code_digest, find_done, keep_error
from forebay.simulator.worker import JobFailed, begin, work

ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    )
}
"""What keeps the libraries of a worker to one thread; belongs into the environment before workers start."""
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is over; `error` is empty where it finished, `skipped` says that it was done before."""

    job: Job
    done: Done | None = None
    error: str = ""
    skipped: bool = False


@dataclass(slots=True)
class State:
    """How far a sweep is: jobs that are over, and rows (done, in all) of those that run.

    `run_counts` says of each job how many runs of the simulator it may take.
    """

    job_count: int
    ended: list[Ended] = field(default_factory=list)
    running: dict[str, tuple[int, int]] = field(default_factory=dict)
    run_counts: dict[str, int] = field(default_factory=dict)

    @property
    def rows_done(self) -> int:
        """Requests simulated so far, those of earlier sweeps left out."""
        return sum(one.done.row_count for one in self.fresh if one.done) + sum(
            done for done, _ in self.running.values()
        )

    @property
    def fresh(self) -> list[Ended]:
        """Jobs that ended in this sweep."""
        return [one for one in self.ended if not one.skipped]

    @property
    def rows_total(self) -> int | None:
        """Requests of this sweep, those of jobs to come estimated by the others; None while nothing is known."""
        known = {one.job.key: one.done.row_count for one in self.fresh if one.done}
        known |= {key: total for key, (_, total) in self.running.items() if total}
        if not known:
            return None
        over = {one.job.key for one in self.ended}
        to_come = sum(count for key, count in self.run_counts.items() if key not in over | known.keys())
        return round(sum(known.values()) * (1 + to_come / sum(self.run_counts[key] for key in known)))


class Backend(Protocol):
    """Runs jobs somewhere."""

    def run(self, jobs: Sequence[tuple[Job, str]], runs: Path, state: State) -> Iterator[Ended | None]:
        """Gives each job with its digest when it is over, and None now and then; updates `state.running`."""
        ...


def run_jobs(
    jobs: Sequence[Job], runs: Path, backend: Backend, watch: Callable[[State], None] = lambda _: None
) -> list[Ended]:
    """Runs what was not done before and gives the end of every job, in the order of `jobs`.

    `watch` hears of every change. KeyboardInterrupt leaves what is finished.
    """
    state = State(len(jobs), run_counts={job.key: job.run_count_max for job in jobs})
    # What counts is the code that the workers are about to find, which may be newer than this process.
    code_digest.cache_clear()
    waiting: list[tuple[Job, str]] = []
    for job in jobs:
        digest = job.digest()
        done = find_done(job, digest, runs)
        if done is not None:
            state.ended.append(Ended(job, done, skipped=True))
        else:
            waiting.append((job, digest))
    watch(state)
    for ended in backend.run(waiting, runs, state):
        if ended is not None:
            state.ended.append(ended)
            if ended.error:
                keep_error(ended.job, runs, ended.error)
        watch(state)
    by_key = {one.job.key: one for one in state.ended}
    return [by_key[job.key] for job in jobs]


class LocalBackend:
    """Worker processes on this machine, each a lane of its own: one that dies takes only its own job along.

    A worker whose code has another digest than `code`, by default ours, fails its jobs.
    """

    def __init__(self, lane_count: int, code: str = "") -> None:
        self._context = multiprocessing.get_context("spawn")
        self._lane_count = lane_count
        self._code = code

    def run(self, jobs: Sequence[tuple[Job, str]], runs: Path, state: State) -> Iterator[Ended | None]:
        """See `Backend`."""
        lane_count = min(self._lane_count, len(jobs))
        board = self._context.RawArray("q", 2 * max(1, lane_count))
        code = self._code or code_digest()
        lanes = [_Lane(self._context, board, number, code) for number in range(lane_count)]
        try:
            yield from _share(list(jobs), runs, lanes, state)
        except BaseException:
            for lane in lanes:
                lane.kill()
            raise
        for lane in lanes:
            lane.close()


class _Lane:
    """One worker process with at most one job."""

    def __init__(self, context: Any, board: Any, number: int, code: str) -> None:
        self._context, self._board, self._number, self._code = context, board, number, code
        self._pool = self._open()
        self.job: Job | None = None
        self.future: Future[Done] | None = None

    def start(self, job: Job, digest: str, runs: Path) -> None:
        self._board[2 * self._number] = self._board[2 * self._number + 1] = 0
        self.job = job
        self.future = self._pool.submit(work, job, digest, runs, self._number)

    @property
    def rows(self) -> tuple[int, int]:
        return self._board[2 * self._number], self._board[2 * self._number + 1]

    def collect(self) -> Ended:
        job, future = self.job, self.future
        assert job is not None
        assert future is not None
        self.job = self.future = None
        try:
            return Ended(job, future.result())
        except JobFailed as error:
            return Ended(job, error=str(error))
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = self._open()
            return Ended(job, error="its process died; perhaps the machine had no memory left: run with fewer --jobs")

    def kill(self) -> None:
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        self._pool.shutdown()

    def _open(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=begin, initargs=(self._board, self._code))


def _share(jobs: list[tuple[Job, str]], runs: Path, lanes: Sequence[_Lane], state: State) -> Iterator[Ended | None]:
    """Deals the jobs to the lanes as they become free."""
    jobs.reverse()
    while jobs or any(lane.future for lane in lanes):
        for lane in lanes:
            if lane.future is None and jobs:
                lane.start(*jobs.pop(), runs)
        busy = {lane.future: lane for lane in lanes if lane.future is not None}
        done, _ = wait(busy, timeout=POLL_S, return_when=FIRST_COMPLETED)
        ended = [busy[future].collect() for future in done]
        state.running = {lane.job.key: lane.rows for lane in lanes if lane.job is not None}
        yield from ended
        if not ended:
            yield None
