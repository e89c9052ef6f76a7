"""The highest rate at which one instance keeps its promises, found with the simulator (PreServe, Algorithm 1)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.capacity import ServiceLevel
from forebay.core.instance import EngineFlags, EngineProfile
from forebay.core.units import PS_PER_S
from forebay.simulator.kernel.fast import FastKernel

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

WARM_UP_SHARE = 0.1
"""Of the requests, that come before any is looked at: an instance begins empty."""
STEPS = 9
"""Halvings of the distance between a rate that holds and one that does not."""
PRECISION = 1.01
RATE_MAX = 1e6
SPAN_S_MAX = 30 * 86_400
"""No run is longer: slower rates count as none."""


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Requests in the order of their arrival: `gap` is the time since the one before, in units of the mean gap."""

    prompt_tokens: Ints
    response_tokens: Ints
    gap: Floats

    @staticmethod
    def poisson(prompts: Ints, responses: Ints, count: int, seed: int) -> "Traffic":
        """So many requests drawn from these pairs with replacement, at independent gaps."""
        draws = np.random.default_rng(seed)
        picked = draws.integers(0, len(prompts), count)
        return Traffic(prompts[picked], responses[picked], draws.exponential(1.0, count))

    @staticmethod
    def recorded(arrival_s: Floats, prompts: Ints, responses: Ints) -> "Traffic":
        """The requests of a trace with its own gaps. Raises ValueError where all come at once."""
        gaps = np.diff(arrival_s, prepend=arrival_s[0])
        if not gaps.sum() > 0:
            raise ValueError("the requests of a trace must not all come at once")
        return Traffic(prompts, responses, gaps * len(gaps) / gaps.sum())


@dataclass(frozen=True, slots=True)
class Trial:
    """One instance at one rate, after its warm-up; times in seconds, of requests that finished."""

    requests_per_s: float
    attainment: float
    ttft_mean_s: float
    itl_mean_s: float
    batch_mean: float


@dataclass(frozen=True, slots=True)
class Knee:
    """The highest rate that held, in requests and tokens a second; all 0 where none did. `trials` are what was run."""

    requests_per_s: float
    prompt_tokens_per_s: float
    response_tokens_per_s: float
    trials: tuple[Trial, ...] = ()

    @property
    def tokens_per_s(self) -> float:
        """Prompt and response together."""
        return self.prompt_tokens_per_s + self.response_tokens_per_s


def find_knee(
    profile: EngineProfile,
    flags: EngineFlags,
    traffic: Sequence[Traffic],
    level: ServiceLevel,
    start_per_s: float = 1.0,
    heard: Callable[[Trial], None] = lambda _: None,
) -> Knee:
    """Bisects the rate at which a share `level.share` of the requests of all `traffic` together keeps its promises.

    Whoever never finishes misses. `heard` hears every trial. Raises ValueError where nothing is promised.
    """
    if not (level.ttft_s or level.itl_s or level.e2e_s):
        raise ValueError("without a promise there is no rate at which it breaks")
    trials: list[Trial] = []

    def holds(rate: float) -> bool:
        trials.append(mean_trial([try_rate(profile, flags, one, level, rate) for one in traffic]))
        heard(trials[-1])
        return trials[-1].attainment >= level.share

    least = max(len(one.gap) for one in traffic) / SPAN_S_MAX
    rate = _bisect(holds, max(start_per_s, 2 * least), least)
    prompts = np.concatenate([one.prompt_tokens for one in traffic])
    responses = np.concatenate([one.response_tokens for one in traffic])
    return Knee(rate, rate * float(prompts.mean()), rate * float(responses.mean()), tuple(trials))


def try_rate(
    profile: EngineProfile, flags: EngineFlags, traffic: Traffic, level: ServiceLevel, requests_per_s: float
) -> Trial:
    """One instance serves the traffic at a mean rate."""
    count = len(traffic.prompt_tokens)
    arrivals_ps = np.rint(np.cumsum(traffic.gap) * (PS_PER_S / requests_per_s)).astype(np.int64)
    kernel = FastKernel(count)
    kernel.add(profile, flags)
    kernel.load(traffic.prompt_tokens, traffic.response_tokens)
    kernel.sweep(arrivals_ps, "round_robin")
    first_ps, finish_ps, *_ = kernel.times()
    warm = slice(min(count - 1, int(WARM_UP_SHARE * count)), None)
    gaps = np.maximum(traffic.response_tokens - 1, 1)[warm]
    ended = finish_ps[warm] >= 0
    ttft_s = (first_ps - arrivals_ps)[warm] / PS_PER_S + profile.frontend_ps / PS_PER_S
    decode_s = (finish_ps - first_ps)[warm] / PS_PER_S
    itl_s = decode_s / gaps
    kept = ended & (ttft_s <= (level.ttft_s or math.inf)) & (itl_s <= (level.itl_s or math.inf))
    kept &= ttft_s + decode_s <= (level.e2e_s or math.inf)
    span_s = max(float(arrivals_ps[-1] - arrivals_ps[warm][0]) / PS_PER_S, 1e-9)
    answered = ended & (traffic.response_tokens[warm] > 1)
    return Trial(
        requests_per_s,
        float(kept.mean()),
        float(ttft_s[ended].mean()) if ended.any() else 0.0,
        float(decode_s[answered].sum() / gaps[answered].sum()) if answered.any() else 0.0,
        float(decode_s[ended].sum() / span_s),
    )


def mean_trial(trials: Sequence[Trial]) -> Trial:
    """Several trials at the same rate as one."""
    count = len(trials)
    return Trial(
        trials[0].requests_per_s,
        sum(one.attainment for one in trials) / count,
        sum(one.ttft_mean_s for one in trials) / count,
        sum(one.itl_mean_s for one in trials) / count,
        sum(one.batch_mean for one in trials) / count,
    )


def _bisect(holds: Callable[[float], bool], start: float, least: float) -> float:
    """The highest rate that holds, by factors of two and then by halving the logarithm; 0 where none above `least`."""
    low, high = _bracket(holds, start, least)
    for _ in range(STEPS):
        if not low or high / low < PRECISION:
            break
        middle = math.sqrt(low * high)
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _bracket(holds: Callable[[float], bool], start: float, least: float) -> tuple[float, float]:
    """A rate that holds, 0 where none does, and twice that, which does not."""
    if holds(start):
        low = start
        while low < RATE_MAX and holds(2 * low):
            low *= 2
        return low, 2 * low
    low = start / 2
    while low >= least and not holds(low):
        low /= 2
    return (low, 2 * low) if low >= least else (0.0, 0.0)
