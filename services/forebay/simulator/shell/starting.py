"""How long the phases of a start take, and which starts come to nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from forebay.core.instance import EngineProfile
from forebay.core.units import BYTES_PER_GB, US_PER_S
from forebay.simulator.config import SpotConfig, StartConfig

PHASES = ("provisioning", "image", "runtime", "weights", "warm")
LIVE_AFTER = PHASES.index("runtime")
"""The server answers once this phase has ended; the model takes requests once the last one has."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start: how long each of `PHASES` takes, in microseconds, and the phase that fails, if any.

    `wait_us` pass before the first phase begins.
    """

    phases_us: tuple[int, ...]
    failing: str = ""
    wait_us: int = 0

    @property
    def live_us(self) -> int:
        """From the wish until the server answers."""
        return self.wait_us + sum(self.phases_us[: LIVE_AFTER + 1])

    @property
    def ready_us(self) -> int:
        """From the wish until the model takes requests."""
        return self.wait_us + sum(self.phases_us)

    @property
    def refused(self) -> bool:
        """Whether there is no machine for it: that is told at once."""
        return self.failing == PHASES[0]

    @property
    def failed_us(self) -> int | None:
        """From the wish until the failing phase has ended; None where none fails."""
        if not self.failing:
            return None
        return self.wait_us + list(accumulate(self.phases_us))[PHASES.index(self.failing)]


class Starts:
    """Draws the starts of a run, each from a random stream of its own: start number n is the same for every policy.

    A phase follows a gamma distribution with its mean and the coefficient of variation of `config`. Any phase of a
    start that fails is as likely to fail as another. Weights are read onto all GPUs of the instance at once; at a
    bandwidth of 0 they are there in no time. Starts on spot machines may be refused or late beside that.
    """

    def __init__(
        self, config: StartConfig, rng: Callable[[str], np.random.Generator], spot: SpotConfig | None = None
    ) -> None:
        self._config = config
        self._spot = spot or SpotConfig()
        self._rng = rng
        self._count = 0

    def next(self, profile: EngineProfile, on_spot: bool = False) -> Start:
        """The next start."""
        self._count += 1
        start = self._cold(profile)
        return self._on_spot(start) if on_spot else start

    def accepted(self, refusal_share: float, what: str) -> bool:
        """Whether the start that comes next may have `what`; a share of them may not."""
        return float(self._rng(f"start-{self._count + 1}-{what}").random()) >= refusal_share

    def again(self, profile: EngineProfile, mean_s: float, variation: float) -> Start:
        """The next start where the machine is there already: it takes `mean_s` on average, and may fail like any."""
        self._count += 1
        took_s = mean_s * _factor(self._rng(f"start-{self._count}-again"), variation)
        failing = self._cold(profile).failing
        return Start((round(took_s * US_PER_S), 0, 0, 0, 0), failing and PHASES[-1])

    def _cold(self, profile: EngineProfile) -> Start:
        rng = self._rng(f"start-{self._count}")
        fails, phase = rng.random() < self._config.failure_share, PHASES[int(rng.integers(len(PHASES)))]
        means_s = mean_phases_s(self._config, profile)
        phases_us = (round(mean_s * _factor(rng, self._config.variation) * US_PER_S) for mean_s in means_s)
        return Start(tuple(phases_us), phase if fails else "")

    def _on_spot(self, start: Start) -> Start:
        """The same start on a machine that the provider lends."""
        rng = self._rng(f"start-{self._count}-spot")
        refused, wait_s = rng.random() < self._spot.refusal_share, self._spot.delay_s * rng.standard_exponential()
        return replace(start, failing=PHASES[0] if refused else start.failing, wait_us=round(wait_s * US_PER_S))


def _factor(rng: np.random.Generator, variation: float) -> float:
    """Of mean 1, gamma distributed with this coefficient of variation."""
    if not variation:
        return 1.0
    shape = 1.0 / variation**2
    return float(rng.standard_gamma(shape)) / shape


def mean_phases_s(config: StartConfig, profile: EngineProfile) -> tuple[float, ...]:
    """The mean of each of `PHASES` in seconds."""
    bytes_per_s = config.weights_gb_per_s * BYTES_PER_GB
    weights_s = profile.weight_bytes_per_gpu / bytes_per_s if bytes_per_s else 0.0
    return (config.provisioning_s, config.image_s, config.runtime_s, weights_s, config.warm_s)
