"""Capability profiling (PreServe, Algorithm 1): the most tokens a second that one instance serves within its SLO.

The paper is reported to find, for each type of instance, the highest rates of prompt, response and total tokens without
a violation; by which traffic is not stated. Here each is found by requests that press on it: prompt tokens by those
requests of the traffic that have most prompt tokens for each of their response, response tokens by those that have
fewest, and the total by all of them. With a share of 1 all three are of the same traffic, as the figures of PreServe's
artifact are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from forebay.core.capacity import Engine, Load, Mix, ServiceLevel
from forebay.core.instance import EngineFlags, EngineProfile
from forebay.simulator.knee import Floats, Ints, Knee, Traffic, Trial, find_knee

HEAVY_SHARE = 0.25
KINDS = ("prompt-heavy", "response-heavy", "all")


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """The traffic that an instance is profiled with; without `arrival_s` arrivals are Poisson."""

    prompt_tokens: Ints
    response_tokens: Ints
    arrival_s: Floats | None = None

    def heavy(self, kind: str, share: float) -> "Requests":
        """The share of the requests that has most prompt tokens for each of the response, or fewest; or all."""
        if kind == "all" or share >= 1:
            return self
        ratio = self.prompt_tokens / np.maximum(self.response_tokens, 1)
        order = np.argsort(-ratio if kind == "prompt-heavy" else ratio, kind="stable")
        chosen = np.sort(order[: max(1, round(share * len(order)))])
        arrivals = None if self.arrival_s is None else self.arrival_s[chosen]
        return Requests(self.prompt_tokens[chosen], self.response_tokens[chosen], arrivals)

    def traffic(self, count: int, seeds: Sequence[int]) -> list[Traffic]:
        """What is sent: so many requests for each seed, or the recorded arrivals, which leave nothing to draw."""
        if self.arrival_s is not None:
            return [Traffic.recorded(self.arrival_s, self.prompt_tokens, self.response_tokens)]
        return [Traffic.poisson(self.prompt_tokens, self.response_tokens, count, seed) for seed in seeds]


@dataclass(frozen=True, slots=True)
class Found:
    """One kind of traffic: mean lengths, the rate at which promises break, and what the formula says of it."""

    kind: str
    prompt_mean: float
    response_mean: float
    knee: Knee
    said: Load


@dataclass(frozen=True, slots=True)
class Capability:
    """The rates of one instance in tokens a second, and what they come from."""

    prompt_tokens_per_s: float
    response_tokens_per_s: float
    tokens_per_s: float
    found: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Effort:
    """How thoroughly is looked: requests of a run, seeds, and the share of the traffic that counts as heavy."""

    request_count: int = 5_000
    seeds: tuple[int, ...] = (1, 2, 3)
    heavy_share: float = HEAVY_SHARE


def measure(
    profile: EngineProfile,
    flags: EngineFlags,
    requests: Requests,
    level: ServiceLevel,
    effort: Effort = Effort(),
    heard: Callable[[str, Trial], None] = lambda *_: None,
) -> Capability:
    """Finds all three rates with the simulator, from where the formula says that they are; `heard` hears every run."""
    engine = Engine(profile)
    found = []
    for kind in KINDS[:2] if effort.heavy_share < 1 else ():
        found.append(_find(engine, flags, requests.heavy(kind, effort.heavy_share), level, effort, kind, heard))
    found.append(_find(engine, flags, requests, level, effort, KINDS[2], heard))
    prompt, response, whole = found[0].knee, found[-2 if len(found) > 1 else -1].knee, found[-1].knee
    return Capability(prompt.prompt_tokens_per_s, response.response_tokens_per_s, whole.tokens_per_s, tuple(found))


def _find(
    engine: Engine,
    flags: EngineFlags,
    requests: Requests,
    level: ServiceLevel,
    effort: Effort,
    kind: str,
    heard: Callable[[str, Trial], None],
) -> Found:
    mix = Mix.of_samples(requests.prompt_tokens, requests.response_tokens)
    said = engine.capacity(mix, level)
    traffic = requests.traffic(effort.request_count, effort.seeds)
    start = said.requests_per_s or 0.01
    knee = find_knee(engine.profile, flags, traffic, level, start, lambda trial: heard(kind, trial))
    return Found(kind, mix.prompt_mean, mix.response_mean, knee, said)
