"""The deferred work that gateways see in their stores and have not sent yet."""

from collections.abc import Callable, Iterator, Sequence

from forebay.core.pressure import WaitingGroup, WaitingJob
from forebay.core.units import US_PER_S
from forebay.core.values import LengthQuantiles, SloClass
from forebay.core.waiting import Work, work_of

KEPT_US = 30 * US_PER_S
"""How long a gateway's word counts: it speaks every few seconds."""

Lengths = Callable[[str, int], LengthQuantiles]
"""How long an answer of a model to a prompt of so many tokens is taken to be."""


class Backlogs:
    """What each gateway told last. Gateways with one store tell of the same jobs: each counts once."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, Sequence[WaitingJob]]] = {}

    def tell(self, gateway_id: str, jobs: Sequence[WaitingJob], now_us: int) -> None:
        """A gateway says what waits; that takes the place of what it said before."""
        self._told = {name: said for name, said in self._told.items() if now_us - said[0] <= KEPT_US}
        self._told[gateway_id] = now_us, jobs

    def groups(self, lengths: Lengths, quantum_us: int, now_us: int) -> tuple[WaitingGroup, ...]:
        """The requests that no gateway has sent, by model, region and deadline; answers as long as `lengths` says."""
        found: dict[tuple[str, str, int], list[WaitingGroup]] = {}
        for job, count in self._jobs(now_us):
            group = _group(job, count, work_of(lengths(job.model, job.prompt_tokens).capped(job.tokens_max)))
            found.setdefault((job.model, job.region, job.deadline_us // quantum_us), []).append(group)
        return tuple(_together(found[key]) for key in sorted(found))

    def _jobs(self, now_us: int) -> Iterator[tuple[WaitingJob, int]]:
        """Each job with its requests that are nowhere else, by name."""
        told: dict[str, list[WaitingJob]] = {}
        for at_us, jobs in self._told.values():
            for job in jobs if now_us - at_us <= KEPT_US else ():
                told.setdefault(job.job_id, []).append(job)
        for _, same in sorted(told.items()):
            # Answers only get more, so the least is the newest.
            count = min(job.remaining_count for job in same) - sum(job.in_flight_count for job in same)
            if count > 0:
                yield same[0], count


def _group(job: WaitingJob, count: int, work: Work) -> WaitingGroup:
    return WaitingGroup(
        job.model,
        job.region,
        SloClass.DEFERRED,
        job.deadline_us,
        job.created_us,
        count,
        count * job.prompt_tokens,
        count * work.mean_tokens,
        count * work.variance,
        is_stored=True,
    )


def _together(groups: Sequence[WaitingGroup]) -> WaitingGroup:
    first = groups[0]
    return WaitingGroup(
        first.model,
        first.region,
        first.slo_class,
        min(one.due_us for one in groups),
        min(one.oldest_us for one in groups),
        sum(one.request_count for one in groups),
        sum(one.prompt_tokens for one in groups),
        sum(one.mean_tokens for one in groups),
        sum(one.variance for one in groups),
        is_stored=True,
    )
