"""What is expected to come, as the shells find it out and the engine takes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from forebay.autoscaler.demands import Key
from forebay.autoscaler.policy.autoscaler.base import ForecastWindow
from forebay.core.units import US_PER_S

Windows: TypeAlias = tuple[ForecastWindow, ...]

WINDOW_US = 60 * US_PER_S
"""The window of a policy that names none."""
TURNS_A_WINDOW = 10
"""A demand is forecast anew so often while one window passes: there are many of them, and little changes in between."""


@dataclass(frozen=True, slots=True)
class Forecasts:
    """The forecasts of models, of all regions and classes together, and those of each demand; none where nobody knows.

    Windows begin with the one after that which runs now.
    """

    models: Mapping[str, Windows] = field(default_factory=dict)
    demands: Mapping[Key, Windows] = field(default_factory=dict)


def turn_of(now_us: int, window_us: int) -> int:
    """When it is another one, demands are forecast anew; the same for whoever asks at the same time."""
    return now_us * TURNS_A_WINDOW // window_us
