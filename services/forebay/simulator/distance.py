"""How far a run is from the best possible: its GPU-hours beside the fewest that can be proven to be needed."""

from collections.abc import Mapping
from dataclasses import dataclass

from forebay.simulator.config import World
from forebay.simulator.oracles.bound import is_relaxed, lower_hours, refusal
from forebay.simulator.workload.base import Workload


@dataclass(frozen=True, slots=True)
class Distance:
    """`lower_gpu_hours` are needed at least to keep as many promises as the run kept; it took `ratio` times that.

    The bound (`oracles.bound`) is for the share of each model's requests that met their limits in the run itself, so a
    run cannot look better by giving promises up. `busy_gpu_hours` of it are iterations; the rest is instances that must
    stand or start. Figures are None where nothing is proven: `refusal` says why. There is no ratio to a bound of 0.

    `target_gpu_hours` is the bound for a share `target_share` of each model's requests instead, which is the same for
    all policies. Where `relaxed`, the bound lets the groups of a model share its requests freely.
    """

    lower_gpu_hours: float | None = None
    busy_gpu_hours: float | None = None
    ratio: float | None = None
    refusal: str = ""
    target_share: float | None = None
    target_gpu_hours: float | None = None
    relaxed: bool = False


def distance_of(
    workload: Workload, world: World, kept_shares: Mapping[str, float], gpu_hours: float, target: float | None = None
) -> Distance:
    """The distance of a run that took `gpu_hours` and kept its promises to such a share of each model's requests."""
    reason = refusal(world)
    if reason:
        return Distance(refusal=reason)
    lower = lower_hours(workload, world, kept_shares)
    ratio = gpu_hours / lower.gpu_hours if lower.gpu_hours > 0 else None
    at_target = None if target is None else lower_hours(workload, world, target).gpu_hours
    return Distance(
        lower.gpu_hours,
        lower.busy_gpu_hours,
        ratio,
        target_share=target,
        target_gpu_hours=at_target,
        relaxed=is_relaxed(world),
    )
