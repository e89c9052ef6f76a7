"""Runs jobs on a Ray cluster, and brings what they wrote back to where the sweep was started."""

import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from forebay.core.errors import ConfigError, ForebayError, Unavailable
from forebay.simulator import store
from forebay.simulator.jobs import Done, Job, code_digest, execute, keep, strangeness
from forebay.simulator.runner import ONE_THREAD, POLL_S, Ended, State

LOCAL = "local"
"""The address that starts a cluster of this machine alone, for as long as the sweep lasts."""


class RayBackend:
    """A Ray cluster at an address (`auto`, `host:port`, `ray://…`, or `local` for one of this machine alone).

    Forebay must be installed on its machines, and a trace must be there under the same path. `job_count_max` bounds the
    jobs at once; None leaves it to the cluster.
    """

    def __init__(self, address: str, job_count_max: int | None = None) -> None:
        self._ray = _import()
        self._address = address
        self._job_count_max = job_count_max

    def run(self, jobs: Sequence[tuple[Job, str]], runs: Path, state: State) -> Iterator[Ended | None]:
        """See `Backend`; rows are counted when a job is over. Raises Unavailable where no cluster answers."""
        if not jobs:
            return
        self._connect()
        try:
            yield from self._share(list(jobs), runs, state)
        finally:
            self._ray.shutdown()

    def _connect(self) -> None:
        try:
            self._ray.init(
                address=self._address,
                runtime_env={"env_vars": ONE_THREAD},
                log_to_driver=False,
                logging_level="ERROR",
                **({"include_dashboard": False} if self._address == LOCAL else {}),
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise Unavailable(
                f"no Ray cluster answers at {self._address!r} ({error}); start one with `ray start --head`, "
                "or give --ray local"
            ) from error

    def _share(self, jobs: list[tuple[Job, str]], runs: Path, state: State) -> Iterator[Ended | None]:
        remote = self._ray.remote(max_retries=0)(work_apart)
        running: dict[Any, tuple[Job, str]] = {}
        most = self._job_count_max or len(jobs)
        jobs.reverse()
        try:
            while jobs or running:
                while jobs and len(running) < most:
                    running_job = jobs.pop()
                    running[remote.remote(running_job[0], code_digest())] = running_job
                state.running = {job.key: (0, 0) for job, _ in running.values()}
                ready, _ = self._ray.wait(list(running), num_returns=1, timeout=POLL_S)
                ended = [self._collect(reference, *running.pop(reference), runs) for reference in ready]
                state.running = {job.key: (0, 0) for job, _ in running.values()}
                yield from ended
                if not ended:
                    yield None
        finally:
            for reference in running:
                self._ray.cancel(reference, force=True)

    def _collect(self, reference: Any, job: Job, digest: str, runs: Path) -> Ended:
        try:
            done, files, error = self._ray.get(reference)
        except self._ray.exceptions.RayError as lost:
            return Ended(job, error=f"its Ray worker was lost: {lost}")
        if error:
            return Ended(job, error=error)
        keep(job, digest, done, runs, lambda folder: _write(files, folder))
        return Ended(job, done)


def work_apart(job: Job, code: str) -> tuple[Done | None, dict[str, bytes], str]:
    """Runs a job on a machine that may share no disk with us: what it took, its files, and its error.

    `code` is the digest of our code; a machine with another Forebay runs nothing.
    """
    other = strangeness(code)
    if other:
        return None, {}, other
    start_s = time.process_time()
    try:
        made = execute(job)
        done = Done(made.row_count, time.process_time() - start_s, made.notes)
        with tempfile.TemporaryDirectory() as place:
            store.write(made.result, made.summary, Path(place))
            return done, {file.name: file.read_bytes() for file in Path(place).iterdir()}, ""
    except ForebayError as error:
        return None, {}, error.message
    except Exception:
        return None, {}, traceback.format_exc()


def _write(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _import() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError(
            "--ray needs Ray, which is not here; install it with: pip install 'forebay[sweep]'"
        ) from error
    return ray
