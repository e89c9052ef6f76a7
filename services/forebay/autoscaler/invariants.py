"""What holds whatever a policy wants and whatever fails, each with a name: tests ask these of every action."""

from collections.abc import Iterable, Mapping, Sequence

from forebay.autoscaler.config import Config


def budget_never_exceeded(config: Config, pools: Iterable[str]) -> bool:
    """`pools` names the pool of each instance that was asked for and is not known to be gone.

    Starting and draining ones count, and those of which nobody knows whether they were started: neither the budget of
    instances nor any stock of GPUs is exceeded, not for a moment.
    """
    there = list(pools)
    taken: dict[tuple[str, str], int] = {}
    for model in config.models:
        gpu, gpu_count = model.hardware
        place = (model.region, gpu)
        taken[place] = taken.get(place, 0) + gpu_count * there.count(model.pool_name)
    stocks_hold = all(taken.get((stock.region, stock.gpu), 0) <= stock.gpu_count for stock in config.stocks)
    return len(there) <= config.instances_max and stocks_hold


def within_bounds(instances_max: int, total: int) -> bool:
    """No start takes a pool above its most, those that drain counted."""
    return total <= instances_max


def steps_limited(config: Config, asked_us: Sequence[int], now_us: int) -> bool:
    """`asked_us` are the times at which instances of one pool were started (or retired) by what a policy wants.

    No span as long as a tick has more of them than a step may have.
    """
    young = [at_us for at_us in asked_us if now_us - at_us < round(config.tick_s * 1e6)]
    return len(young) <= config.step_instances_max


def dwell_kept(grown_us: int | None, dwell_us: int, now_us: int, is_forced: bool) -> bool:
    """A pool that grew shrinks no sooner than `dwell_us` later, but where the operator's bounds force it."""
    return is_forced or grown_us is None or now_us - grown_us >= dwell_us


def survivors_carry(full: float, ready_count: int, leaving_count: int, share_max: float) -> bool:
    """Instances that are full by `full` on average can lose so many: the others stay at or below `share_max`.

    Checked on what the survivors would have, N/(N - k) of today's load, and never on today's load.
    """
    left = ready_count - leaving_count
    return full == 0 or (left > 0 and full * ready_count / left <= share_max + 1e-9)


def never_kills_in_flight(lease_count: int, empty_us: int | None, draining_us: int, quiet_us: int, now_us: int) -> bool:
    """What could have requests is stopped after it drained and was told to be empty for `quiet_us` in one row."""
    return lease_count == 0 and empty_us is not None and empty_us >= draining_us and now_us - empty_us >= quiet_us


def never_stuck(owed_us: Mapping[str, int], patience_us: int, now_us: int) -> bool:
    """`owed_us` are the times of the calls that the actuator owes an answer: none is waited for longer than that.

    Then it was given up or asked again, and the operator was told.
    """
    return all(now_us - asked_us <= patience_us for asked_us in owed_us.values())


def demand_is_served(held_count: int, instances_max: int, active: int, is_limited: bool) -> bool:
    """A model for which requests wait has an instance at least, ready or starting, unless a limit forbids it."""
    return held_count == 0 or instances_max == 0 or active > 0 or is_limited
