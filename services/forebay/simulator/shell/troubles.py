"""What happens to instances in a run: crashes, hangs, slow-downs and knobs by the clock, and the end of spot stays."""

from collections.abc import Callable
from functools import partial

from forebay.core.units import S_PER_HOUR, US_PER_S
from forebay.simulator.config import Fault, Knob
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.fleet_servers import Limits, Server, Servers


class Faults:
    """Brings the world's faults about, each at its time, to whoever has the named place then.

    Places count the instances of the model that have an engine at that time, by id; a place that nobody has is
    counted as missed. Slow-downs multiply, and what hangs twice goes on when both are over.
    """

    def __init__(self, context: Context, servers: Servers) -> None:
        self._context = context
        self._servers = servers

    def begin(self) -> None:
        """The run starts."""
        for fault in self._context.world.faults:
            self._context.at_us(round(fault.at_s * US_PER_S), partial(self._strike, fault))

    def _strike(self, fault: Fault) -> None:
        serving = self._servers.serving(fault.model)
        if not 0 <= fault.place < len(serving):
            self._context.counters["faults_missed"] += 1
            return
        server = serving[fault.place]
        self._context.counters[f"faults_{fault.kind}"] += 1
        if fault.kind == "crash":
            self._servers.crash(server, "it crashed")
        elif fault.kind == "hang":
            self._servers.hang(server)
            self._after(fault, partial(self._servers.resume, server))
        else:
            self._servers.slow(server, fault.factor)
            self._after(fault, partial(self._servers.quicken, server, fault.factor))

    def _after(self, fault: Fault, call: Callable[[], None]) -> None:
        self._context.after_us(round(fault.duration_s * US_PER_S), call)


class Knobs:
    """Turns the world's knobs, each at its time."""

    def __init__(self, context: Context, servers: Servers) -> None:
        self._context = context
        self._servers = servers

    def begin(self) -> None:
        """The run starts."""
        for knob in self._context.world.knobs:
            self._context.at_us(round(knob.at_s * US_PER_S), partial(self._turn, knob))

    def _turn(self, knob: Knob) -> None:
        serving = self._servers.serving(knob.model)
        if knob.place >= len(serving):
            self._context.counters["knobs_missed"] += 1
            return
        limits = Limits(knob.max_seqs, knob.max_batch_tokens)
        if knob.frequency and knob.place < 0:
            self._servers.tune_all(knob.model, knob.frequency)
        elif knob.frequency:
            self._servers.tune(serving[knob.place], knob.frequency)
        if limits != Limits() and knob.place < 0:
            self._servers.limit_all(knob.model, limits)
        elif limits != Limits():
            self._servers.limit(serving[knob.place], limits)


class Spots:
    """Takes instances of spot groups away, each after an exponential time from when its start began.

    A notice comes first, and the instance asks the autoscaler to let it drain; when the notice is over, it ends with
    all that it still holds. `leave` tells the autoscaler.
    """

    def __init__(self, context: Context, servers: Servers, leave: Callable[[str], None]) -> None:
        self._context = context
        self._servers = servers
        self._leave = leave
        self._config = context.world.spot

    def follow(self, server: Server) -> None:
        """A server is there from now on."""
        if not server.group.spot or not self._config.reclaims_per_hour:
            return
        rng = self._context.rng(f"spot-{server.instance_id}")
        stay_s = float(rng.exponential(S_PER_HOUR / self._config.reclaims_per_hour))
        self._context.after_us(round(stay_s * US_PER_S), partial(self._give_notice, server))

    def _give_notice(self, server: Server) -> None:
        if server.gone:
            return
        self._context.counters["spot_notices"] += 1
        self._context.after_us(round(self._config.notice_s * US_PER_S), partial(self._reclaim, server))
        self._leave(server.instance_id)

    def _reclaim(self, server: Server) -> None:
        if not server.gone:
            self._context.counters["spot_reclaims"] += 1
            self._servers.crash(server, "its spot instance was taken away")
