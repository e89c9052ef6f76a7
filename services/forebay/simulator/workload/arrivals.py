"""Generators of open-loop traffic: who comes when does not depend on answers."""

from dataclasses import dataclass, field

import numpy as np

from forebay.simulator.workload.base import Ints, Workload, make_workload
from forebay.simulator.workload.lengths import Lengths, LognormalLengths
from forebay.simulator.workload.renewal import Floats, renewal_times_us
from forebay.simulator.workload.streams import stream

STEP_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Traffic for one model: `rate_per_s` on average over `duration_s`."""

    rate_per_s: float = 1.0
    duration_s: float = 3_600.0
    model: str = "model"
    lengths: Lengths = field(default_factory=LognormalLengths)

    def __post_init__(self) -> None:
        if not (0 < self.rate_per_s < 1e6 and 0 < self.duration_s < 1e9):
            raise ValueError("rate_per_s must be above 0 and below 1e6, duration_s above 0 and below 1e9")


def fill(arrival_us: Ints, traffic: Traffic, seed: int, note: str) -> Workload:
    """A workload of those arrivals with the traffic's lengths. Raises ValueError where there are no arrivals."""
    if not len(arrival_us):
        raise ValueError(f"{note}: no request came in {traffic.duration_s:g} s; raise rate_per_s or duration_s")
    prompts, outputs = traffic.lengths.draw(len(arrival_us), stream(seed, "lengths"))
    notes = (f"{note}, seed {seed}",)
    return make_workload(arrival_us, prompts, outputs, names={"models": (traffic.model,)}, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(Traffic):
    """Arrivals that know nothing of each other."""

    def generate(self, seed: int = 0) -> Workload:
        """The workload of this seed."""
        arrivals = renewal_times_us(np.array([self.rate_per_s]), self.duration_s, 1.0, stream(seed, "arrivals"))
        return fill(arrivals, self, seed, f"generated: Poisson, {self.rate_per_s:g}/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma(Traffic):
    """Gaps with the coefficient of variation `cv`: above 1 requests come in bursts, below 1 more evenly."""

    cv: float = 2.0

    def __post_init__(self) -> None:
        Traffic.__post_init__(self)
        if not 0 <= self.cv <= 100:
            raise ValueError("cv must be from 0 to 100")

    def generate(self, seed: int = 0) -> Workload:
        """The workload of this seed."""
        arrivals = renewal_times_us(np.array([self.rate_per_s]), self.duration_s, self.cv, stream(seed, "arrivals"))
        return fill(arrivals, self, seed, f"generated: gamma gaps, {self.rate_per_s:g}/s, CV {self.cv:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diurnal(Traffic):
    """A sine of `period_s` around the mean, `amplitude` of it high (0 to 1), lowest at `trough_s`, with noise.

    The noise is log-normal by the minute with standard deviation `noise` of the logarithm and one-minute correlation
    `noise_memory`; its mean is 1. `cv` is that of the gaps once the rate is taken out.
    """

    period_s: float = 86_400.0
    amplitude: float = 0.6
    trough_s: float = 14_400.0
    noise: float = 0.1
    noise_memory: float = 0.9
    cv: float = 1.0

    def __post_init__(self) -> None:
        Traffic.__post_init__(self)
        if not (self.period_s > 0 and 0 <= self.amplitude <= 1 and 0 <= self.noise_memory < 1):
            raise ValueError("period_s must be above 0, amplitude from 0 to 1, noise_memory from 0 to below 1")
        if not (0 <= self.noise <= 3 and 0 <= self.cv <= 100):
            raise ValueError("noise must be from 0 to 3 and cv from 0 to 100")

    def generate(self, seed: int = 0) -> Workload:
        """The workload of this seed."""
        count = int(np.ceil(self.duration_s / STEP_S))
        phase = (np.arange(count) * STEP_S + STEP_S / 2 - self.trough_s) / self.period_s
        rates = self.rate_per_s * (1 - self.amplitude * np.cos(2 * np.pi * phase)) * self._noise(count, seed)
        arrivals = renewal_times_us(rates, STEP_S, self.cv, stream(seed, "arrivals"))
        arrivals = arrivals[: np.searchsorted(arrivals, self.duration_s * 1e6)]
        return fill(arrivals, self, seed, f"generated: daily sine, {self.rate_per_s:g}/s ± {self.amplitude:.0%}")

    def _noise(self, count: int, seed: int) -> Floats:
        shocks = stream(seed, "noise").standard_normal(count) * np.sqrt(1 - self.noise_memory**2)
        shocks[0] /= np.sqrt(1 - self.noise_memory**2)
        levels = np.empty(count)
        level = 0.0
        for place, shock in enumerate(shocks):
            level = self.noise_memory * level + shock
            levels[place] = level
        noise: Floats = np.exp(self.noise * levels - self.noise**2 / 2)
        return noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Spikes(Traffic):
    """`rate_per_s`, but `factor` times that for `spike_s`, first at `first_s` and then every `every_s` (0: once)."""

    factor: float = 5.0
    first_s: float = 600.0
    spike_s: float = 60.0
    every_s: float = 0.0
    cv: float = 1.0

    def __post_init__(self) -> None:
        Traffic.__post_init__(self)
        if not (self.factor >= 0 and self.first_s >= 0 and self.spike_s > 0 and 0 <= self.cv <= 100):
            raise ValueError("factor and first_s must not be negative, spike_s must be above 0, cv from 0 to 100")
        if self.every_s and self.every_s < self.spike_s:
            raise ValueError("every_s must not be shorter than spike_s")

    def generate(self, seed: int = 0) -> Workload:
        """The workload of this seed."""
        step_s = 1.0
        times_s = np.arange(0, self.duration_s, step_s)
        since_s = times_s - self.first_s
        within_s = since_s % self.every_s if self.every_s else since_s
        high = (since_s >= 0) & (within_s < self.spike_s)
        rates = self.rate_per_s * np.where(high, self.factor, 1.0)
        arrivals = renewal_times_us(rates, step_s, self.cv, stream(seed, "arrivals"))
        arrivals = arrivals[: np.searchsorted(arrivals, self.duration_s * 1e6)]
        return fill(arrivals, self, seed, f"generated: {self.rate_per_s:g}/s with spikes of {self.factor:g} times")
