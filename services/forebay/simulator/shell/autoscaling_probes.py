"""Asks servers how they are as often as the live prober does, but for questions whose answers change nothing."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from forebay.autoscaler.config import Config
from forebay.autoscaler.life import STARTING
from forebay.core.units import US_PER_S
from forebay.core.values import InstanceState
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.fleet_rhythm import on_grid_us
from forebay.simulator.shell.fleet_servers import Server


class Asked(Protocol):
    """The autoscaler's shell as the prober knows it."""

    def state_of(self, instance_id: str) -> InstanceState | None:
        """Where the instance stands; None once it is gone."""
        ...

    def probed(self, instance_id: str, live: bool, ready: bool) -> None:
        """The server was asked."""
        ...


@dataclass(slots=True, eq=False)
class _Watch:
    server: Server
    last_us: int
    wait_us: int
    is_entered: bool = False


class Prober:
    """One question a server and interval, those that start more often; the first one comes at once, after what goes on.

    A server that hangs is given up after `probe_timeout_s`, and what it would say then counts.
    An answer that leaves the engine exactly as it is (a ready server that is ready, say) is not asked for again until
    the server changes; then the questions go on at the times that they would have had.
    """

    def __init__(self, context: Context, config: Config, asked: Asked) -> None:
        self._context = context
        self._asked = asked
        self._wait_us = round(config.probe_s * US_PER_S)
        self._wait_starting_us = round(config.probe_starting_s * US_PER_S)
        self._timeout_us = round(config.probe_timeout_s * US_PER_S)
        self._watches: dict[str, _Watch] = {}

    def follow(self, server: Server) -> None:
        """Asks this server from now on."""
        watch = _Watch(server, self._context.now_us, self._wait_us)
        self._watches[server.instance_id] = watch
        self._enter(watch, watch.last_us)

    def changed(self, server: Server) -> None:
        """The server answers otherwise than before."""
        watch = self._watches.get(server.instance_id)
        if watch is not None and not watch.is_entered:
            now_us = self._context.now_us
            self._enter(watch, max(on_grid_us(watch.last_us, watch.wait_us, now_us), watch.last_us + watch.wait_us))

    def _enter(self, watch: _Watch, at_us: int) -> None:
        watch.is_entered = True
        self._context.at_us(at_us, partial(self._probe, watch))

    def _probe(self, watch: _Watch) -> None:
        watch.is_entered = False
        key, server = watch.server.instance_id, watch.server
        before = self._asked.state_of(key)
        if before is None:
            self._watches.pop(key, None)
            return
        watch.last_us = self._context.now_us
        watch.wait_us = self._wait_starting_us if before in STARTING else self._wait_us
        if server.hangs:
            watch.is_entered = True
            self._context.after_us(self._timeout_us, partial(self._heard, watch))
        else:
            self._heard(watch)

    def _heard(self, watch: _Watch) -> None:
        watch.is_entered = False
        key, server = watch.server.instance_id, watch.server
        self._asked.probed(key, server.answers, server.ready)
        state = self._asked.state_of(key)
        if state is None:
            self._watches.pop(key, None)
        elif not watch.is_entered and not is_settled(state, server):
            self._enter(watch, watch.last_us + watch.wait_us)


def is_settled(state: InstanceState, server: Server) -> bool:
    """Whether the same answer once more, now that it was given, would change nothing in the engine."""
    if state is InstanceState.DRAINING:
        return server.launched or server.answers
    if not server.answers:
        return state in (InstanceState.PROVISIONING, InstanceState.LOST)
    return state is (InstanceState.READY if server.ready else InstanceState.LOADING)
