"""How far a run is from the best possible: its GPU-hours beside the fewest that can be proven to be needed."""

from collections.abc import Mapping
from dataclasses import dataclass

from forebay.simulator.config import World
from forebay.simulator.oracles.bound import lower_hours, refusal
from forebay.simulator.workload.base import Workload


@dataclass(frozen=True, slots=True)
class Distance:
    """`lower_gpu_hours` are needed at least to keep as many promises as the run kept; it took `ratio` times that.

    The bound (`oracles.bound`) is for the share of each model's requests that met their limits in the run itself, so a
    run cannot look better by giving promises up. `busy_gpu_hours` of it are iterations; the rest is instances that must
    stand or start. Figures are None where nothing is proven: `refusal` says why. There is no ratio to a bound of 0.
    """

    lower_gpu_hours: float | None = None
    busy_gpu_hours: float | None = None
    ratio: float | None = None
    refusal: str = ""


def distance_of(workload: Workload, world: World, kept_shares: Mapping[str, float], gpu_hours: float) -> Distance:
    """The distance of a run that took `gpu_hours` and kept its promises to such a share of each model's requests."""
    reason = refusal(world)
    if reason:
        return Distance(refusal=reason)
    lower = lower_hours(workload, world, kept_shares)
    ratio = gpu_hours / lower.gpu_hours if lower.gpu_hours > 0 else None
    return Distance(lower.gpu_hours, lower.busy_gpu_hours, ratio)
