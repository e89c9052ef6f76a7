"""Processes of a stack as the kernel sees them: who is alive, who carries a run's mark, which ports are taken."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

RUN_MARK = "FOREBAY_RUN_ID"
"""Environment variable that marks every process of a run, so that none can stay behind unseen."""
_POLL_S = 0.05


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def is_stack(pid: int) -> bool:
    """Whether this process is one that runs a stack, and not another one that got its number."""
    try:
        return is_alive(pid) and b"forebay" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def marked(run_id: str) -> list[int]:
    """The processes of a run, this one left out, by the mark in their environment. Needs Linux; elsewhere: none."""
    mark = f"{RUN_MARK}={run_id}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in sorted(found) if pid != os.getpid() and is_alive(pid)]


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Sends a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


async def end(pids: Callable[[], list[int]], grace_s: float) -> None:
    """Ends the processes that `pids` finds: SIGTERM, and SIGKILL for those still there after `grace_s`."""
    send(pids(), signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    for _ in iter(lambda: bool(pids()) and time.monotonic() < deadline_s, False):
        await asyncio.sleep(_POLL_S)
    send(pids(), signal.SIGKILL)


def is_free(address: str) -> bool:
    """Whether this process could listen on host:port."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


def answers(address: str, timeout_s: float = 0.5) -> bool:
    """Whether something accepts connections on host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout_s).close()
    except OSError:
        return False
    return True
