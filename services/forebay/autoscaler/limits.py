"""The safety kernel: how far bounds, budget and steps let a fleet follow a wish, and who leaves first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forebay.autoscaler.config import Config, ModelConfig, ServerConfig
from forebay.autoscaler.life import Life
from forebay.core.fleet import Bounds
from forebay.core.units import US_PER_S
from forebay.core.values import InstanceLoad


@dataclass(frozen=True, slots=True)
class Spans:
    """The configured spans of time in microseconds."""

    snapshot_age_us_max: int
    start_timeout_us: int
    backoff_us_min: int
    backoff_us_max: int
    settled_us: int
    drain_quiet_us: int
    lost_timeout_us: int
    tick_us: int

    @classmethod
    def of(cls, config: Config) -> "Spans":
        """The spans of a configuration."""
        return cls(
            snapshot_age_us_max=_us(config.snapshot_age_s_max),
            start_timeout_us=_us(config.start_timeout_s),
            backoff_us_min=_us(config.backoff_s_min),
            backoff_us_max=_us(config.backoff_s_max),
            settled_us=_us(config.settled_s),
            drain_quiet_us=_us(config.drain_quiet_s),
            lost_timeout_us=_us(config.lost_timeout_s),
            tick_us=_us(config.tick_s),
        )

    def backoff_us(self, failure_count: int) -> int:
        """How long to wait after so many failures in a row: doubled each time, up to the most."""
        return min(self.backoff_us_max, self.backoff_us_min << min(failure_count - 1, 30)) if failure_count else 0


@dataclass(frozen=True, slots=True)
class Room:
    """What one model's fleet is and may be: `active` are ready and starting, `total` all that are not stopped."""

    active: int
    total: int
    bounds: Bounds
    budget_left: int
    slots_left: int
    stock_left: int
    step_max: int
    waiting: bool


@dataclass(frozen=True, slots=True)
class Resize:
    """How many instances to start or drain now (one of them is zero), and the limit that bound it."""

    start_count: int = 0
    drain_count: int = 0
    bound_by: str = ""


def clamp(wanted: int, bounds: Bounds) -> int:
    """The wish within the bounds."""
    return max(bounds.instances_min, min(wanted, bounds.instances_max))


def resize(wanted: int, room: Room) -> Resize:
    """How far the fleet may go towards the wish at once; it never has more than bounds and budget, not for a moment."""
    target = clamp(wanted, room.bounds)
    outside = _outside(wanted, target, room.bounds)
    if target <= room.active:
        count = min(room.active - target, room.step_max)
        step = f"a step drains at most {room.step_max}" if count < room.active - target else ""
        return Resize(drain_count=count, bound_by=outside or step)
    short = target - room.active
    ceilings = (
        (0 if room.waiting else short, "the next start waits after failures"),
        (room.bounds.instances_max - room.total, f"at most {room.bounds.instances_max} with those that drain"),
        (room.budget_left, "the budget of the fleet is used up"),
        (room.slots_left, "no server has room for one more"),
        (room.stock_left, "no GPU of its kind is left in its region"),
        (room.step_max, f"a step starts at most {room.step_max}"),
    )
    count, text = min(ceilings, key=lambda ceiling: ceiling[0])
    return Resize(start_count=max(0, min(short, count)), bound_by=text if count < short else outside)


def _outside(wanted: int, target: int, bounds: Bounds) -> str:
    if target > wanted:
        return f"at least {bounds.instances_min} by the bounds"
    return f"at most {bounds.instances_max} by the bounds" if target < wanted else ""


def victims(lives: Iterable[Life], loads: Mapping[str, InstanceLoad], count: int) -> list[Life]:
    """Who leaves first: those that never took a request, then those that run least, then the youngest."""

    def key(life: Life) -> tuple[bool, int, int, str]:
        load = loads.get(life.instance.instance_id)
        return (life.member.was_ready, _running(load), -life.state_us, life.instance.instance_id)

    able = [life for life in lives if life.launched and (life.ready or life.starting)]
    return sorted(able, key=key)[:count]


def _running(load: InstanceLoad | None) -> int:
    return (load.running_count or 0) + (load.waiting_count or 0) if load else 0


def is_busy(load: InstanceLoad | None, since_us: int) -> bool:
    """Whether the server itself was seen running requests after `since_us`."""
    return load is not None and load.reachable and load.seen_us > since_us and _running(load) > 0


def free_servers(model: ModelConfig, servers: Iterable[ServerConfig], lives: Iterable[Life]) -> list[ServerConfig]:
    """The servers that the model may be loaded on and is not on yet, those with the most room first."""
    used: dict[str, list[str]] = {}
    for life in lives:
        used.setdefault(life.instance.server_id, []).append(life.instance.model)

    def room(server: ServerConfig) -> int:
        return server.models_max - len(used.get(server.server_id, ()))

    allowed = (server for server in servers if server.server_id in model.servers)
    able = [server for server in allowed if room(server) > 0 and model.name not in used.get(server.server_id, ())]
    return sorted(able, key=lambda server: (-room(server), server.server_id))


def _us(seconds: float) -> int:
    return int(seconds * US_PER_S)
