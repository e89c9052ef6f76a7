"""Starts instances as local processes that outlive the autoscaler, and knows them again after a restart."""

import asyncio
import json
import os
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from forebay.autoscaler import process
from forebay.autoscaler.actuator import Survey, pool_of
from forebay.autoscaler.container import PORTS, filled
from forebay.core.errors import FailedPrecondition, Unavailable
from forebay.core.fleet import instance_of
from forebay.core.values import Instance

MARK = "FOREBAY_SERVER"
KILL_WAIT_S = 10.0
POLL_S = 0.05
LOG_COUNT_MAX = 50


@dataclass(frozen=True, slots=True)
class Record:
    """One process: the instance, its ports, and who it is. A pid of 0 means that it was about to be spawned."""

    instance: Instance
    ports: tuple[int, ...]
    pid: int = 0
    identity: str = ""


class ProcessActuator:
    """Starts one process an instance from a command line by pool; {model}, {grpc_port} and so on are filled in.

    A record and a log a process lie in `state_dir`. A process is known by its pid and start time, so a stranger who
    got the same pid is never signalled. The pools of `openai` speak OpenAI's protocol on their HTTP port. Stopping is
    SIGTERM, then SIGKILL to the whole session after `grace_s`.
    """

    def __init__(
        self,
        commands: Mapping[str, tuple[str, ...]],
        state_dir: Path,
        port_base: int,
        environment: Mapping[str, str],
        grace_s: float,
        openai: Collection[str] = (),
    ) -> None:
        self._commands = commands
        self._dir = state_dir.absolute()
        self._port_base = port_base
        self._environment = environment
        self._grace_s = grace_s
        self._openai = openai
        self._spawning = asyncio.Lock()

    async def start(self, instance: Instance) -> Instance | None:
        """Spawns the process. Raises FailedPrecondition when that is not possible."""
        async with self._spawning:
            known = self._read(self._path(instance))
            if known is not None and self._lives(known) and known.instance.instance_id == instance.instance_id:
                return known.instance
            try:
                return await asyncio.to_thread(self._spawn, instance)
            except OSError as error:
                self._path(instance).unlink(missing_ok=True)
                text = f"cannot start a process for {instance.instance_id}: {error}"
                raise FailedPrecondition(text) from error

    async def retire(self, instance: Instance) -> bool:
        """Always."""
        return True

    async def stop(self, instance: Instance) -> bool:
        """Ends the process and forgets it. Raises Unavailable when it survives SIGKILL."""
        known = self._read(self._path(instance))
        record = self._found(known) if known else None
        if record is not None and self._lives(record):
            self._signal(record, signal.SIGTERM)
            if not await self._ended(record, self._grace_s):
                self._signal(record, signal.SIGKILL)
                if not await self._ended(record, KILL_WAIT_S):
                    raise Unavailable(f"process {record.pid} of {instance.instance_id} does not end")
        self._path(instance).unlink(missing_ok=True)
        self._log(instance).unlink(missing_ok=True)
        return True

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """Reads all records; those of dead processes that nobody expects are removed."""
        async with self._spawning:
            return await asyncio.to_thread(self._survey, expected)

    async def close(self) -> None:
        """Nothing is held."""

    def _survey(self, expected: Collection[Instance]) -> Survey:
        found = [self._found(record) for record in self._records()]
        records = {record.instance.instance_id: record for record in found}
        alive = {key: record.instance for key, record in records.items() if self._lives(record)}
        gone: dict[str, str] = {}
        for instance in expected:
            if instance.instance_id not in alive:
                gone[instance.instance_id] = self._cause(instance, records.get(instance.instance_id))
        for key, record in records.items():
            if key not in alive:
                self._path(record.instance).unlink(missing_ok=True)
        return Survey(alive, gone)

    def _cause(self, instance: Instance, record: Record | None) -> str:
        if record is None:
            return "there is no record of its process"
        code = process.exit_code(record.pid) if record.pid else None
        how = "" if code is None else f" with status {code}" if code >= 0 else f" by signal {-code}"
        return f"its process ended{how}; its log is {self._log(instance)}"

    def _spawn(self, instance: Instance) -> Instance:
        self._dir.mkdir(parents=True, exist_ok=True)
        self._prune()
        command = self._commands.get(pool_of(instance))
        if command is None:
            raise OSError(f"no command line for {pool_of(instance)}")
        taken = {port for record in self._records() for port in record.ports}
        ports = process.free_ports(self._port_base, len(PORTS), taken)
        placed = replace(
            instance,
            grpc_address=f"127.0.0.1:{ports[0]}",
            metrics_url=f"http://127.0.0.1:{ports[2]}/metrics",
            openai_address=f"127.0.0.1:{ports[1]}" if pool_of(instance) in self._openai else "",
        )
        # The intention is on disk before the process is there: if we die in between, its mark finds it again.
        record = Record(placed, ports)
        self._write(record)
        values = {"model": instance.model, **dict(zip(PORTS, map(str, ports), strict=True))}
        environment = {**self._environment, MARK: self._mark(instance)}
        pid = process.spawn([filled(word, values) for word in command], environment, self._log(instance))
        self._write(replace(record, pid=pid, identity=process.identity(pid)))
        return placed

    def _lives(self, record: Record) -> bool:
        return bool(record.pid) and bool(record.identity) and process.identity(record.pid) == record.identity

    def _signal(self, record: Record, number: int) -> None:
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(record.pid, number)
            else:
                os.kill(record.pid, number)

    async def _ended(self, record: Record, timeout_s: float) -> bool:
        for _ in range(int(timeout_s / POLL_S) + 1):
            process.exit_code(record.pid)
            if not self._lives(record):
                return True
            await asyncio.sleep(POLL_S)
        return False

    def _records(self) -> list[Record]:
        found = (self._read(path) for path in sorted(self._dir.glob("*.json")))
        return [record for record in found if record is not None]

    def _read(self, path: Path) -> Record | None:
        try:
            values = json.loads(path.read_text())
            return Record(instance_of(values["instance"]), tuple(values["ports"]), values["pid"], values["identity"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _found(self, record: Record) -> Record:
        """For a record without a pid, left by an autoscaler that died while it spawned, its process is looked for."""
        if record.pid:
            return record
        pid = process.find_marked(MARK, self._mark(record.instance))
        if not pid:
            return record
        found = replace(record, pid=pid, identity=process.identity(pid))
        self._write(found)
        return found

    def _write(self, record: Record) -> None:
        path = self._path(record.instance)
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(record), indent=1))
        os.replace(scratch, path)

    def _prune(self) -> None:
        logs = sorted(self._dir.glob("*.log"), key=lambda path: path.stat().st_mtime)
        living = {record.instance.server_id for record in self._records() if self._lives(record)}
        for path in logs[:-LOG_COUNT_MAX]:
            if path.stem not in living:
                path.unlink(missing_ok=True)

    def _path(self, instance: Instance) -> Path:
        return self._dir / f"{instance.server_id}.json"

    def _log(self, instance: Instance) -> Path:
        return self._dir / f"{instance.server_id}.log"

    def _mark(self, instance: Instance) -> str:
        return str(self._dir / instance.server_id)
