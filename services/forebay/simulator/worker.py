"""What a worker process of a local sweep does: one job after another, each written to its folder."""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from ctypes import Array, c_longlong
from pathlib import Path

from forebay.core.errors import ForebayError
from forebay.simulator import store
from forebay.simulator.jobs import Done, Job, execute, keep, strangeness


class JobFailed(Exception):
    """A job's error as text: what it raised may not fit through a pipe."""


_BOARD: "list[Array[c_longlong]]" = []
_STRANGE: list[str] = []
"""Why this process must run nothing."""


def begin(board: "Array[c_longlong]", code: str) -> None:
    """Prepares the process: Ctrl-C is its parent's to handle, and it ends where its parent is gone.

    `code` is the digest of the parent's code: a process with another one does no work, since its results would be kept
    as those of the parent's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _BOARD[:] = [board]
    _STRANGE[:] = [other for other in [strangeness(code)] if other]
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def work(job: Job, digest: str, runs: Path, lane: int) -> Done:
    """Runs a job and keeps it; raises JobFailed with the whole story."""
    if _STRANGE:
        raise JobFailed(_STRANGE[0])
    start_s = time.process_time()

    def watch(done: int, total: int) -> None:
        _BOARD[0][2 * lane], _BOARD[0][2 * lane + 1] = done, total

    try:
        made = execute(job, watch)
        done = Done(made.row_count, time.process_time() - start_s, made.notes)
        keep(job, digest, done, runs, lambda folder: store.write(made.result, made.summary, folder))
        return done
    except ForebayError as error:
        raise JobFailed(error.message) from None
    except Exception:
        raise JobFailed(traceback.format_exc()) from None


def _end_with(parent: "multiprocessing.process.BaseProcess") -> None:
    parent.join()
    os._exit(1)
