"""Conservative continuous batching: as many requests as fit at their longest."""

from dataclasses import dataclass

from forebay.scheduler.policy.puller.base import CONCURRENCY_UNKNOWN, PullView


@dataclass(frozen=True, slots=True)
class Ccb:
    """Requests join and leave between tokens, and one enters only where memory suffices whatever the answers become.

    A baseline of Magnus (Cheng et al., arXiv 2406.04785), of which we know the name; the rule is our reading: with
    Theta tokens of cache and Lmax + Gmax tokens of the longest context, floor(Theta / (Lmax + Gmax)) requests, as many
    as in a batch of `vs`, and no more than the engine's own concurrency. Where the instance does not tell, that alone.
    """

    def cap(self, view: PullView) -> int:
        """The same cap at all times, at least 1."""
        seats = view.concurrency_max or CONCURRENCY_UNKNOWN
        return max(1, min(seats, view.context_count_max)) if view.context_count_max else seats
