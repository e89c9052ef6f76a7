"""The process that fits forecasters, tasks in, answers out: `python -m forebay.predictor.traffic.refit MODULE…`.

It ends with its parent.
"""

import os
import queue
import sys
import threading
import time
import warnings

NICE = 10
"""Whoever answers requests goes first."""


def main() -> None:
    """Fits until nobody asks any more; what libraries print goes to standard error."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.nice(NICE)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    # Only now, with the threads of numeric libraries bounded.
    from forebay.predictor.traffic.refit.tasks import answer, frames_of

    frames: queue.Queue[tuple[bytes, bytes]] = queue.Queue()

    def listen() -> None:
        """Ends the process, in the middle of a fit if need be, once the parent has gone or sends nonsense."""
        try:
            for frame in frames_of(sys.stdin.buffer):
                frames.put(frame)
        finally:
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        answers.write(answer(*frames.get(), sys.argv[1:], time.monotonic))
        answers.flush()


if __name__ == "__main__":
    main()
