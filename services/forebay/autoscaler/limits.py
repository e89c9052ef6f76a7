"""The spans of time that limit a fleet, and who leaves first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forebay.autoscaler.config import Config
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
    actuator_timeout_us: int
    drain_alarm_us: int
    lead_age_us_max: int
    dwell_us: int

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
            actuator_timeout_us=_us(config.actuator_timeout_s),
            drain_alarm_us=_us(config.drain_alarm_s),
            lead_age_us_max=_us(config.lead_age_s_max),
            dwell_us=_us(config.dwell_s),
        )

    def backoff_us(self, failure_count: int) -> int:
        """How long to wait after so many failures in a row: doubled each time, up to the most."""
        return min(self.backoff_us_max, self.backoff_us_min << min(failure_count - 1, 30)) if failure_count else 0


def clamp(wanted: int, bounds: Bounds) -> int:
    """The wish within the bounds."""
    return max(bounds.instances_min, min(wanted, bounds.instances_max))


def victims(lives: Iterable[Life], loads: Mapping[str, InstanceLoad], count: int) -> list[Life]:
    """Who leaves first: those that never took a request, then those that run least, then the youngest."""

    def key(life: Life) -> tuple[bool, int, int, str]:
        load = loads.get(life.instance.instance_id)
        return (life.member.was_ready, running(load), -life.state_us, life.instance.instance_id)

    able = [life for life in lives if life.launched and (life.ready or life.starting)]
    return sorted(able, key=key)[:count]


def running(load: InstanceLoad | None) -> int:
    """The requests that a server has, as far as it tells."""
    return (load.running_count or 0) + (load.waiting_count or 0) if load else 0


def is_busy(load: InstanceLoad | None, since_us: int) -> bool:
    """Whether the server itself was seen running requests after `since_us`."""
    return load is not None and load.reachable and load.seen_us > since_us and running(load) > 0


def _us(seconds: float) -> int:
    return int(seconds * US_PER_S)
