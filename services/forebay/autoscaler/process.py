"""Facts about local processes and ports: who a pid is, whether it lives, which ports are free."""

import os
import signal
import socket
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_STATE, _START_TICKS = 0, 19
PORT_LAST = 65_535


def spawn(command: Sequence[str], environment: Mapping[str, str], output: Path) -> int:
    """Starts a process in a session of its own, so that it outlives this one, and returns its pid.

    Its output goes to the file `output`, which is emptied first. Raises OSError when there is no such program.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawnp(
        command[0],
        list(command),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
    )


def identity(pid: int) -> str:
    """A name for the process that no other process ever has: boot and start time. Empty when it does not live."""
    if not _PROC.exists():
        return _identity_by_ps(pid)
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[_STATE] in ("Z", "X") else f"{boot}:{fields[_START_TICKS]}"


def _identity_by_ps(pid: int) -> str:
    found = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False
    )
    state, _, started = found.stdout.strip().partition(" ")
    return "" if not started or state.startswith("Z") else started.strip()


def exit_code(pid: int) -> int | None:
    """The exit code of a child that ended (negative: the signal); None while it lives or when it is not our child."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended else None


def find_marked(variable: str, value: str) -> int:
    """The pid of the living process whose environment has the variable with that value; 0 when there is none."""
    wanted = f"{variable}={value}".encode()
    for path in _PROC.glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted in path.read_bytes().split(b"\0") and identity(int(path.parent.name)):
                return int(path.parent.name)
    return 0


def free_ports(base: int, count: int, taken: Collection[int]) -> tuple[int, ...]:
    """`count` ports in a row from `base` upwards that nobody listens on; base 0: any free ones.

    Raises OSError when there are none.
    """
    if base == 0:
        return _any_ports(count, taken)
    for first in range(base, PORT_LAST - count, count):
        block = range(first, first + count)
        if not any(port in taken for port in block) and all(_is_free(port) for port in block):
            return tuple(block)
    raise OSError(f"no {count} free ports from {base} upwards")


def _any_ports(count: int, taken: Collection[int]) -> tuple[int, ...]:
    sockets: list[socket.socket] = []
    try:
        ports: list[int] = []
        while len(ports) < count:
            sockets.append(socket.create_server(("127.0.0.1", 0)))
            port = int(sockets[-1].getsockname()[1])
            ports += [port] if port not in taken else []
        return tuple(ports)
    finally:
        for one in sockets:
            one.close()


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            one.bind(("127.0.0.1", port))
            return True
    return False
