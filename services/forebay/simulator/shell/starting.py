"""How long the phases of a start take, and which starts come to nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from forebay.core.instance import EngineProfile
from forebay.core.units import BYTES_PER_GB, US_PER_S
from forebay.simulator.config import StartConfig

PHASES = ("provisioning", "image", "runtime", "weights", "warm")
LIVE_AFTER = PHASES.index("runtime")
"""The server answers once this phase has ended; the model takes requests once the last one has."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start: how long each of `PHASES` takes, in microseconds, and the phase that fails, if any."""

    phases_us: tuple[int, ...]
    failing: str = ""

    @property
    def live_us(self) -> int:
        """From the first phase until the server answers."""
        return sum(self.phases_us[: LIVE_AFTER + 1])

    @property
    def ready_us(self) -> int:
        """From the first phase until the model takes requests."""
        return sum(self.phases_us)

    @property
    def refused(self) -> bool:
        """Whether there is no machine for it: that is told at once."""
        return self.failing == PHASES[0]

    @property
    def failed_us(self) -> int | None:
        """From the first phase until the failing one has ended; None where none fails."""
        if not self.failing:
            return None
        return list(accumulate(self.phases_us))[PHASES.index(self.failing)]


class Starts:
    """Draws the starts of a run, each from a random stream of its own: start number n is the same for every policy.

    A phase follows a gamma distribution with its mean and the coefficient of variation of `config`. Any phase of a
    start that fails is as likely to fail as another. Weights are read onto all GPUs of the instance at once; at a
    bandwidth of 0 they are there in no time.
    """

    def __init__(self, config: StartConfig, rng: Callable[[str], np.random.Generator]) -> None:
        self._config = config
        self._rng = rng
        self._count = 0

    def next(self, profile: EngineProfile) -> Start:
        """The next start."""
        self._count += 1
        rng = self._rng(f"start-{self._count}")
        fails, phase = rng.random() < self._config.failure_share, PHASES[int(rng.integers(len(PHASES)))]
        means_s = mean_phases_s(self._config, profile)
        phases_us = (round(mean_s * self._factor(rng) * US_PER_S) for mean_s in means_s)
        return Start(tuple(phases_us), phase if fails else "")

    def _factor(self, rng: np.random.Generator) -> float:
        variation = self._config.variation
        if not variation:
            return 1.0
        shape = 1.0 / variation**2
        return float(rng.standard_gamma(shape)) / shape


def mean_phases_s(config: StartConfig, profile: EngineProfile) -> tuple[float, ...]:
    """The mean of each of `PHASES` in seconds."""
    bytes_per_s = config.weights_gb_per_s * BYTES_PER_GB
    weights_s = profile.weight_bytes_per_gpu / bytes_per_s if bytes_per_s else 0.0
    return (config.provisioning_s, config.image_s, config.runtime_s, weights_s, config.warm_s)
