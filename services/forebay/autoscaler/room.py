"""The safety kernel: how far a pool may follow a wish at once. It stands between every policy and every actuator."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forebay.autoscaler.life import Life
from forebay.autoscaler.limits import clamp, running
from forebay.core.fleet import Bounds
from forebay.core.values import InstanceLoad

UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True)
class Room:
    """What one pool is and may be: `active` are ready and starting, `total` all that are not stopped.

    `floor` is the fewest while requests wait for the model. `start_max` and `drain_max` are what is left of the step of
    this tick, `spare` how many may leave before the others have more than they can carry, and `dwelling` says that the
    pool grew so lately that a wish for less does not count yet. `waiting`: the next start waits after failures.
    """

    active: int
    total: int
    bounds: Bounds
    budget_left: int
    slots_left: int
    stock_left: int
    start_max: int
    drain_max: int
    step_max: int
    waiting: bool
    floor: int = 0
    spare: int = UNLIMITED
    dwelling: bool = False


@dataclass(frozen=True, slots=True)
class Resize:
    """How many instances to start or drain now (one of them is zero), and the limit that bound it."""

    start_count: int = 0
    drain_count: int = 0
    bound_by: str = ""


def resize(wanted: int, room: Room) -> Resize:
    """How far the pool may go towards the wish at once; it never has more than bounds and budget, not for a moment."""
    target = clamp(max(wanted, room.floor), room.bounds)
    outside = _outside(wanted, target, room)
    if target <= room.active:
        return _shrink(target, outside, room)
    short = target - room.active
    ceilings = (
        (0 if room.waiting else short, "the next start waits after failures"),
        (room.bounds.instances_max - room.total, f"at most {room.bounds.instances_max} with those that drain"),
        (room.budget_left, "the budget of the fleet is used up"),
        (room.slots_left, "no server has room for one more"),
        (room.stock_left, "no GPU of its kind is left in its region"),
        (room.start_max, f"a step starts at most {room.step_max}"),
    )
    count, text = min(ceilings, key=lambda ceiling: ceiling[0])
    return Resize(start_count=max(0, min(short, count)), bound_by=text if count < short else outside)


def spare(lives: Iterable[Life], loads: Mapping[str, InstanceLoad], since_us: int, share_max: float) -> int:
    """How many of the ready instances may leave while the others carry what all of the pool have now.

    With N ready instances, full by a share f on average (of their seats or of their KV cache, the fuller one), the
    N - k that stay are full by f·N/(N - k), which may be `share_max` at most. What drains counts as load, since those
    that stay get what it would have got, and not as room. Those that were not seen after `since_us` count like the mean
    of the others; where none was seen, or nobody tells what it can hold, nothing is known against it. 0 for
    `share_max`: not asked.
    """
    pool = list(lives)
    seen = [(life, loads.get(life.instance.instance_id)) for life in pool]
    fresh = [(life, load) for life, load in seen if load is not None and load.reachable and load.seen_us > since_us]
    full, ready_count = max(_seats(fresh), _cache(fresh)), sum(life.ready for life in pool)
    if share_max <= 0 or full <= 0:
        return UNLIMITED
    # A hair of tolerance keeps an exact fit from failing by rounding.
    return max(0, ready_count - math.ceil(full * ready_count / share_max - 1e-9))


def _shrink(target: int, outside: str, room: Room) -> Resize:
    surplus = room.active - target
    # What is above the bounds of the operator leaves whatever the load is and however lately the pool grew.
    forced = max(0, room.active - room.bounds.instances_max)
    ceilings = (
        (room.drain_max, f"a step drains at most {room.step_max}"),
        (max(forced, 0 if room.dwelling else surplus), "it grew too lately to shrink"),
        (max(forced, room.spare), "the others could not carry the load"),
    )
    count, text = min(ceilings, key=lambda ceiling: ceiling[0])
    drained = max(0, min(surplus, count))
    return Resize(drain_count=drained, bound_by=text if drained < surplus else outside)


def _outside(wanted: int, target: int, room: Room) -> str:
    if target > max(wanted, room.floor):
        return f"at least {room.bounds.instances_min} by the bounds"
    if target > wanted:
        return "requests wait for the model"
    return f"at most {room.bounds.instances_max} by the bounds" if target < wanted else ""


def _seats(seen: list[tuple[Life, InstanceLoad]]) -> float:
    limited = [(life, load) for life, load in seen if life.instance.concurrency_max]
    seats = sum(life.instance.concurrency_max for life, _ in limited if life.ready)
    return sum(running(load) for _, load in limited) / seats if seats else 0.0


def _cache(seen: list[tuple[Life, InstanceLoad]]) -> float:
    told = [(life, load.kv_utilization) for life, load in seen if load.kv_utilization is not None]
    ready_count = sum(life.ready for life, _ in told)
    return sum(share for _, share in told) / ready_count if ready_count else 0.0
