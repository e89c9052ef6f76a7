"""What traffic is expected: distributions known by four quantiles, added up, turned into instances, and priced."""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forebay.autoscaler.policy.autoscaler.base import Capability, Quantiles

_Z = tuple(NormalDist().inv_cdf(level) for level in (0.10, 0.50, 0.90, 0.97))
POINTS = 40
_POINT_Z = tuple(NormalDist().inv_cdf((number + 0.5) / POINTS) for number in range(POINTS))
"""Where a distribution is looked at to take a mean over it."""


class Traffic(NamedTuple):
    """Prompt and response tokens a second, each by its quantiles p10, p50, p90 and p97."""

    prompt: "Quantiles" = (0.0, 0.0, 0.0, 0.0)
    response: "Quantiles" = (0.0, 0.0, 0.0, 0.0)


def together(parts: Iterable[Traffic]) -> Traffic:
    """The sum of traffics whose forecasts err independently: medians add up, and so do the squares of the rest."""
    kept = list(parts)
    return Traffic(_sum([one.prompt for one in kept]), _sum([one.response for one in kept]))


def steady(prompt: float, response: float) -> Traffic:
    """Traffic that is known."""
    return Traffic((prompt,) * 4, (response,) * 4)


def scaled(traffic: Traffic, factor: float) -> Traffic:
    """So many times the traffic."""
    prompt, response = (tuple(factor * value for value in one) for one in traffic)
    return Traffic((prompt[0], prompt[1], prompt[2], prompt[3]), (response[0], response[1], response[2], response[3]))


def instances_for(traffic: Traffic, able: "Capability") -> "Quantiles":
    """How many instances' worth of work that is, by quantile: max(P/mu_p, D/mu_d, (P+D)/mu_t), PreServe's Algorithm 2.

    A rate that is not known (0) does not bind.
    """

    def work(prompt: float, response: float) -> float:
        pairs = (
            (prompt, able.prompt_tokens_per_s),
            (response, able.response_tokens_per_s),
            (prompt + response, able.tokens_per_s),
        )
        return max((tokens / rate for tokens, rate in pairs if rate > 0), default=0.0)

    p10, p50, p90, p97 = map(work, traffic.prompt, traffic.response)
    return (p10, p50, p90, p97)


def at(values: "Quantiles", z: float) -> float:
    """The value `z` standard deviations from the median: linear in z between the quantiles and beyond, not below 0."""
    last = len(_Z) - 2
    place = next((number for number in range(last) if z <= _Z[number + 1]), last)
    low, high = values[place], values[place + 1]
    return max(0.0, low + (high - low) * (z - _Z[place]) / (_Z[place + 1] - _Z[place]))


def fewest(work: "Quantiles", miss_price: float) -> int:
    """The fewest instances that another one would not pay for.

    With X instances' worth of work to come, one more than n serves E[min(1, max(0, X - n))] of it. That is worth
    `miss_price` times what an instance costs where missing all of it costs that much; the n is told where it is no
    longer worth 1.
    """
    points = [at(work, z) for z in _POINT_Z]
    count = 0
    while miss_price * sum(min(1.0, max(0.0, point - count)) for point in points) / POINTS > 1.0:
        count += 1
    return count


def _sum(parts: "Sequence[Quantiles]") -> "Quantiles":
    median = sum(part[1] for part in parts)
    rest = [math.sqrt(sum((part[place] - part[1]) ** 2 for part in parts)) for place in (0, 2, 3)]
    return (max(0.0, median - rest[0]), median, median + rest[1], median + rest[2])
