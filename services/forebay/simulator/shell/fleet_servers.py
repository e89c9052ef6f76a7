"""The servers of a run: processes that start phase by phase, serve, and end or are ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from forebay.core.instance import EngineProfile
from forebay.core.values import InstanceState
from forebay.simulator.config import Group
from forebay.simulator.results import KnobTurn
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.donating import Donations
from forebay.simulator.shell.machines import Machine
from forebay.simulator.shell.ports import Serving
from forebay.simulator.shell.starting import Start, Starts


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine plans an iteration with; 0: what it has."""

    max_seqs: int = 0
    max_batch_tokens: int = 0

    def within(self, newer: "Limits") -> "Limits":
        """These, where the newer ones say nothing."""
        return Limits(newer.max_seqs or self.max_seqs, newer.max_batch_tokens or self.max_batch_tokens)

    def of(self, profile: EngineProfile) -> tuple[int, int]:
        """Seats and tokens of an engine that has those of the profile."""
        seats, budget = profile.max_seqs, profile.max_batch_tokens
        return min(self.max_seqs or seats, seats), min(self.max_batch_tokens or budget, budget)


@dataclass(slots=True, eq=False)
class Server:
    """One process with one model. `live`: it runs; `machine`: its engine, from when it is warm; `gone`: why it ended.

    `launched`: the autoscaler started it and may stop it. `slow_factors` are the slow-downs in force, `frequency` is
    that of its GPUs, `limits` are those that its engine plans with. `noted` is the state of its instance that was
    written down last.
    """

    instance_id: str
    group: Group
    profile: EngineProfile
    launched: bool
    live: bool = False
    machine: Machine | None = None
    hang_count: int = 0
    gone: str = ""
    slow_factors: list[float] = field(default_factory=list)
    frequency: float = 1.0
    limits: Limits = Limits()
    noted: InstanceState | None = None

    @property
    def answers(self) -> bool:
        """Whether it answers those who ask how it is."""
        return self.live and not self.gone and not self.hang_count

    @property
    def hangs(self) -> bool:
        """Whether it leaves those who ask without an answer, so that they wait; what is gone refuses them at once."""
        return self.live and not self.gone and self.hang_count > 0

    @property
    def ready(self) -> bool:
        """Whether it says that the model takes requests."""
        return self.answers and self.machine is not None


Watcher = Callable[[Server], None]


class Servers:
    """Starts and ends servers in virtual time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kernel = context.kernel
        self._starts = Starts(context.world.start, context.rng, context.world.spot)
        self._donations = Donations(context)
        self._servers: dict[str, Server] = {}
        self._frequencies: dict[str, float] = {}
        self._limits: dict[str, Limits] = {}

    def begin(self, gateway: Serving, watcher: Watcher, welcome: Watcher) -> None:
        """Who is told of requests that are lost, of servers that change, and of those that are new."""
        self._gateway = gateway
        self._watcher = watcher
        self._welcome = welcome

    def get(self, instance_id: str) -> Server | None:
        """The newest server of an instance, also when it is gone; None for an instance that never was."""
        return self._servers.get(instance_id)

    def serving(self, model: str = "") -> list[Server]:
        """The servers that have an engine, of one model or of all, by instance id."""
        found = (server for _, server in sorted(self._servers.items()) if server.machine and not server.gone)
        return [server for server in found if model in ("", server.group.model)]

    def adopt(self, instance_id: str, group: Group, launched: bool) -> Server:
        """A server that takes requests already."""
        server = self._add(instance_id, group, launched)
        server.live = True
        server.machine = self._context.machines.add(instance_id, group)
        return server

    def start(self, instance_id: str, group: Group) -> Server | None:
        """Begins a start; None where there is no machine for it. The server is seen from now on."""
        profile = self._context.machines.profile(group)
        start = self._donated(group, profile) or self._starts.next(profile, group.spot)
        if start.refused:
            return None
        server = self._add(instance_id, group, True)
        self._donations.make_room(group, self._gpu_count(group))
        self._after(start.live_us, partial(self._up, server))
        self._after(start.ready_us, partial(self._warm, server))
        if start.failed_us is not None:
            # Entered last: a phase that takes no time and fails has come and gone.
            self._after(start.failed_us, partial(self.crash, server, f"phase {start.failing} of its start failed"))
        return server

    def stop(self, instance_id: str) -> None:
        """Ends a server on purpose."""
        server = self._servers.get(instance_id)
        if server is not None and not server.gone:
            self._end(server, "it was stopped")
            drained = server.launched and server.noted is InstanceState.DRAINING and server.machine is not None
            if drained and self._donations.give(instance_id, server.group):
                server.noted = InstanceState.STOPPED

    def crash(self, server: Server, why: str) -> None:
        """A server ends by itself; what it held is lost."""
        if not server.gone:
            self._end(server, why)
            self._watcher(server)

    def hang(self, server: Server) -> None:
        """The server stops in the middle of everything until `resume` is called as often."""
        if server.gone or server.machine is None:
            return
        server.hang_count += 1
        if server.hang_count == 1:
            self._kernel.hang(server.machine.number, self._context.now_ps)
            self._watcher(server)

    def resume(self, server: Server) -> None:
        """Takes back one `hang`."""
        if server.gone or server.machine is None:
            return
        server.hang_count -= 1
        if not server.hang_count:
            self._kernel.resume(server.machine.number, self._context.now_ps)
            self._watcher(server)

    def slow(self, server: Server, factor: float) -> None:
        """Iterations take `factor` times as long, on top of other slow-downs, until `quicken` is called with it."""
        server.slow_factors.append(factor)
        self._retime(server)

    def quicken(self, server: Server, factor: float) -> None:
        """Takes back one `slow`."""
        server.slow_factors.remove(factor)
        self._retime(server)

    def tune(self, server: Server, frequency: float) -> None:
        """The server's GPUs run at this share of their full clock from the next iteration on."""
        server.frequency = frequency
        self._context.turns.append(KnobTurn(self._context.now_us, server.instance_id, frequency))
        self._retime(server)

    def tune_all(self, model: str, frequency: float) -> None:
        """Tunes all servers of a model, or of all models for an empty name, and those that begin to serve later."""
        if model:
            self._frequencies[model] = frequency
        else:
            self._frequencies = dict.fromkeys((group.model for group in self._context.world.groups), frequency)
        for server in self.serving(model):
            self.tune(server, frequency)

    def limit(self, server: Server, limits: Limits) -> None:
        """The server's engine plans with these limits from the next iteration on, as far as it has as much."""
        server.limits = server.limits.within(limits)
        if server.machine is not None and not server.gone:
            seats, budget = server.limits.of(server.profile)
            self._kernel.limit(server.machine.number, seats, budget, self._context.now_ps)

    def limit_all(self, model: str, limits: Limits) -> None:
        """Limits all servers of a model, or of all models for an empty name, and those that begin to serve later."""
        for name in (group.model for group in self._context.world.groups if model in ("", group.model)):
            self._limits[name] = self._limits.get(name, Limits()).within(limits)
        for server in self.serving(model):
            self.limit(server, limits)

    def _donated(self, group: Group, profile: EngineProfile) -> Start | None:
        """A start on GPUs that are lent out, if there are any to be had."""
        config, donations = self._context.world.donation, self._donations
        ways = (("reclaims", donations.same, config.reclaim_s), ("redeploys", donations.other, config.redeploy_s))
        for what, find, mean_s in ways:
            found = None if group.spot else find(group)
            if found is not None and self._starts.accepted(config.refusal_share, what):
                donations.take(found)
                self._context.counters[f"donation_{what}"] += 1
                return self._starts.again(profile, mean_s, config.variation)
        return None

    def _gpu_count(self, group: Group) -> int:
        """GPUs of the group's kind in its region that serve or start."""
        gpu = self._context.machines.profile(group).name.partition("/")[0]
        return sum(
            server.profile.gpu_count
            for server in self._servers.values()
            if not server.gone and (server.group.region, server.profile.name.partition("/")[0]) == (group.region, gpu)
        )

    def _add(self, instance_id: str, group: Group, launched: bool) -> Server:
        server = Server(instance_id, group, self._context.machines.profile(group), launched)
        self._servers[instance_id] = server
        self._welcome(server)
        return server

    def _after(self, delay_us: int, call: Callable[[], None]) -> None:
        # What takes no time is done at once, so that a cold start of nothing is none.
        if delay_us:
            self._context.after_us(delay_us, call)
        else:
            call()

    def _up(self, server: Server) -> None:
        if not server.gone:
            server.live = True
            self._watcher(server)

    def _warm(self, server: Server) -> None:
        if not server.gone:
            server.machine = self._context.machines.add(server.instance_id, server.group)
            frequency = self._frequencies.get(server.group.model, server.frequency)
            if frequency != server.frequency:
                self.tune(server, frequency)
            if server.group.model in self._limits:
                self.limit(server, self._limits[server.group.model])
            self._watcher(server)

    def _end(self, server: Server, why: str) -> None:
        server.gone = why
        if server.machine is None:
            return
        self._context.machines.end(server.machine)
        lost: Sequence[int] = self._kernel.crash(server.machine.number, self._context.now_ps)
        if lost:
            self._gateway.lost(lost, why)

    def _retime(self, server: Server) -> None:
        if server.gone or server.machine is None:
            return
        profile = server.profile
        for factor in (*server.slow_factors, 1 / server.frequency):
            profile = profile.slowed(factor) if factor != 1 else profile
        self._kernel.retime(server.machine.number, profile, self._context.now_ps)
