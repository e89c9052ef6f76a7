"""A whole stack on one machine: its services as processes, from the first start to the last stop."""

import asyncio
import os
import secrets
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lmaas.common.v1.instance_pb2 import INSTANCE_STATE_READY

from forebay import sql
from forebay.cli.fleet import ModelCount
from forebay.cli.processes import RUN_MARK, end, is_free, is_stack, marked
from forebay.cli.state import SERVICES, Addresses, Run, read_run, run_file, write_run
from forebay.cli.supervisor import Say, Service, ServiceSpec
from forebay.cli.view import look
from forebay.core.errors import FailedPrecondition, Unavailable

SERVING_TIMEOUT_S = 90.0
FLEET_TIMEOUT_S = 180.0
STOP_GRACE_S = 20.0
SWEEP_GRACE_S = 5.0
POLL_S = 0.2
SNAPSHOT_INTERVAL_S = 1.0
"""How long it takes until the scheduler knows what metrics sees."""
STOP_ORDER = ("gateway", "autoscaler", "scheduler", "predictor", "metrics")
"""The gateway first, so that no request is cut; the autoscaler next, which ends its instances while others answer."""


class Stack:
    """The services of one state folder. `say` gets one line about everything that a person should know.

    Use as `async with`: entering starts and waits until all serve, leaving stops all that belongs to the run.
    """

    def __init__(self, state_dir: Path, addresses: Addresses, config: Path, say: Say) -> None:
        self._state_dir, self._config, self._say = state_dir, config, say
        log_dir = state_dir / "logs"
        log_dir.mkdir(parents=True, exist_ok=True)
        self.run = Run(
            run_id=secrets.token_hex(8),
            pid=os.getpid(),
            ready=False,
            addresses=addresses,
            database_url=os.environ.get("FOREBAY_DATABASE_URL", f"sqlite:///{state_dir.resolve() / 'forebay.db'}"),
            log_dir=str(log_dir),
        )
        self.services = [Service(self._spec(name), say, self._write) for name in addresses.own]

    def _spec(self, name: str) -> ServiceSpec:
        return ServiceSpec(
            name=name,
            command=(sys.executable, "-m", f"forebay.{name.split('-')[0]}", "--config", str(self._config)),
            environment=self._environment(name),
            health_address=self.run.addresses.grpc[name],
            log=Path(self.run.log_dir) / f"{name}.log",
        )

    def _environment(self, name: str) -> dict[str, str]:
        addresses = self.run.addresses
        peers = {f"FOREBAY_{peer.upper()}": addresses.grpc[peer] for peer in SERVICES if peer != "gateway"}
        return {
            **peers,
            "FOREBAY_SCHEDULER": ",".join(addresses.schedulers.values()),
            "FOREBAY_LISTEN": addresses.grpc[name],
            "FOREBAY_PROMETHEUS": addresses.prometheus[name],
            "FOREBAY_HTTP": addresses.http,
            "FOREBAY_PAGE": addresses.page,
            "FOREBAY_DATABASE_URL": self.run.database_url,
            "PYTHONUNBUFFERED": "1",
            RUN_MARK: self.run.run_id,
        }

    async def __aenter__(self) -> "Stack":
        check_ports(self.run.addresses)
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start(self) -> None:
        await asyncio.to_thread(prepare_database, self.run.database_url)
        for service in self.services:
            service.spec.log.write_bytes(b"")
            await service.start()
        try:
            async with asyncio.TaskGroup() as group:
                for service in self.services:
                    group.create_task(service.wait_serving(SERVING_TIMEOUT_S))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        for service in self.services:
            service.keep()

    def _write(self) -> None:
        """Brings run.json up to date with the process ids."""
        pids = {service.spec.name: service.pid for service in self.services if service.pid is not None}
        self.run = replace(self.run, pids=pids)
        write_run(self._state_dir, self.run)

    async def wait_fleet(self) -> Mapping[str, ModelCount]:
        """Returns the fleet once every model that is to have an instance has one ready.

        Raises Unavailable when that takes too long.
        """
        deadline_s = asyncio.get_running_loop().time() + FLEET_TIMEOUT_S
        missing: list[str] = []
        while asyncio.get_running_loop().time() < deadline_s:
            counts, wanted = await _counts(self.run.addresses)
            missing = [model for model, one in counts.items() if wanted[model] and not one.ready]
            if counts and not missing:
                await asyncio.sleep(SNAPSHOT_INTERVAL_S)
                self.run = replace(self.run, ready=True)
                self._write()
                return counts
            await asyncio.sleep(POLL_S)
        names = ", ".join(missing) or "any model"
        raise Unavailable(
            f"no instance of {names} is ready after {FLEET_TIMEOUT_S:.0f} s; see {self.run.log_dir}/autoscaler.log"
        )

    async def stop(self) -> None:
        """Stops the services in order, then whatever else carries the run's mark, and forgets the run."""
        by_name = {service.spec.name: service for service in self.services}
        for kind in STOP_ORDER:
            names = [name for name in by_name if name.split("-")[0] == kind]
            await asyncio.gather(*(by_name[name].stop(STOP_GRACE_S) for name in names))
        await end(lambda: marked(self.run.run_id), SWEEP_GRACE_S)
        run_file(self._state_dir).unlink(missing_ok=True)


def prepare_database(url: str) -> None:
    """Opens the database once, before any service does; raises ConfigError when it cannot be opened.

    A SQLite file that several processes make at the same instant is locked for some of them: switching a fresh file to
    its write-ahead log does not wait for its turn.
    """
    sql.open_engine(url).dispose()


async def _counts(addresses: Addresses) -> tuple[dict[str, ModelCount], Mapping[str, int]]:
    """The fleet with the instances that all have seen, and how many are wanted, by model.

    The scheduler sends requests to what it and metrics know.
    """
    view = await look(addresses)
    if view.fleet is None:
        return {}, {}
    reachable = {name for name, load in view.observed().items() if load.reachable}
    usable = Counter(
        one.instance.model
        for one in view.scheduled().values()
        if one.instance.state == INSTANCE_STATE_READY and one.instance.instance_id in reachable
    )
    wanted = Counter({one.model: one.instances_wanted for one in view.fleet.models})
    return {
        one.model: ModelCount(min(one.ready_count, usable[one.model]), one.starting_count, one.draining_count)
        for one in view.fleet.models
    }, wanted


def check_ports(addresses: Addresses) -> None:
    """Raises FailedPrecondition naming every port that is taken."""
    wanted = [
        addresses.http,
        *(page[name] for page in (addresses.grpc, addresses.prometheus) for name in addresses.own),
    ]
    wanted += [addresses.page] if addresses.page else []
    taken = sorted(address for address in wanted if not is_free(address))
    if taken:
        raise FailedPrecondition(
            f"something else listens on {', '.join(taken)}; stop it (forebay down, if it is a stack of ours) or choose "
            "other ports with --port-base"
        )


def check_not_running(state_dir: Path) -> None:
    """Raises FailedPrecondition when a stack of this state folder runs, in whole or in part."""
    run = read_run(state_dir)
    if run is None:
        return
    if is_stack(run.pid):
        raise FailedPrecondition(f"a stack already runs from {state_dir} ({run.pid}); stop it with: forebay down")
    if marked(run.run_id):
        raise FailedPrecondition(f"parts of an earlier stack still run from {state_dir}; end them with: forebay down")
