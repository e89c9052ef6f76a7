"""How the engine looks after its predictors: bounds, alarms, and when a shadow takes over."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Care:
    """`alpha` is the share of answers that may exceed their 90 % bound.

    Bounds are shifted by the last `window_count` outcomes (0: never) of a key that has `count_min`. The alarm of a key
    rings when its last `drift_window_count` (0: no alarm) failed in a way that has a chance below `drift_chance`. A
    shadow that proved better on `promote_count_min` outcomes takes over where `promotes` says so.
    """

    alpha: float = 0.1
    window_count: int = 500
    count_min: int = 30
    drift_window_count: int = 100
    drift_chance: float = 1e-4
    promote_count_min: int = 500
    promotes: bool = True
    shadow_count_max: int = 2
