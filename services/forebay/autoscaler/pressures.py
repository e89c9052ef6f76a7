"""Unites what the replicas of the scheduler say of the load that is on its way."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from forebay.autoscaler.config import Config
from forebay.autoscaler.demands import Key
from forebay.autoscaler.policy.autoscaler.base import Needs
from forebay.core.pressure import Demand, InstancePressure, Pressure


def is_asked(needs: Needs, config: Config) -> bool:
    """Whether anybody wants to hear from the scheduler; where nobody does it is not asked, which costs it nothing.

    The policy may, and where a model has several pools only the scheduler knows what each has to carry.
    """
    names = [model.name for model in config.models]
    return needs.pressure or needs.by_demand or len(set(names)) < len(names)


@dataclass(slots=True)
class _Replica:
    """The newest word of one replica, and all that arrived at it, also before it began anew."""

    said: Pressure | None = None
    heard_us: int = 0
    last: dict[Key, Demand] = field(default_factory=dict)
    before: dict[Key, Demand] = field(default_factory=dict)

    def hear(self, said: Pressure, now_us: int) -> None:
        self.said, self.heard_us = said, now_us
        now = {_key(demand): demand for demand in said.demands}
        for key, last in self.last.items():
            if key not in now or now[key].request_count < last.request_count:
                self.before[key] = _plus(self.before.get(key), last)
        self.last = now

    def totals(self) -> Iterable[Demand]:
        keys = [*self.last, *(key for key in self.before if key not in self.last)]
        return [_sum([one[key] for one in (self.last, self.before) if key in one]) for key in keys]


class Pressures:
    """A model belongs to one replica at a time, so replicas tell of different things but for when one comes or goes.

    A replica that is silent is taken by its last word for `age_us_max`; what has arrived there counts for ever, since
    totals only grow.
    """

    def __init__(self, age_us_max: int) -> None:
        self._by_name: dict[str, _Replica] = {}
        self._age_us_max = age_us_max

    def hear(self, name: str, said: Pressure, now_us: int) -> None:
        """A replica spoke."""
        self._by_name.setdefault(name, _Replica()).hear(said, now_us)

    def united(self, now_us: int) -> Pressure | None:
        """What all say together; None where none has spoken lately."""
        replicas = [one for _, one in sorted(self._by_name.items())]
        fresh = [one.said for one in replicas if one.said and now_us - one.heard_us <= self._age_us_max]
        if not fresh:
            return None
        demands = sorted((demand for one in replicas for demand in one.totals()), key=_key)
        return Pressure(
            max(said.at_us for said in fresh),
            min(said.horizon_iterations for said in fresh),
            _instances(fresh),
            tuple(_sum(list(group)) for _, group in groupby(demands, _key)),
            tuple(group for said in fresh for group in said.waiting),
        )


def _key(demand: Demand) -> Key:
    return (demand.model, demand.region, demand.slo_class)


def _plus(one: Demand | None, other: Demand) -> Demand:
    return other if one is None else _sum([one, other])


def _sum(demands: Sequence[Demand]) -> Demand:
    return replace(
        demands[0],
        request_count=sum(one.request_count for one in demands),
        prompt_tokens=sum(one.prompt_tokens for one in demands),
        response_tokens=sum(one.response_tokens for one in demands),
    )


def _instances(said: Iterable[Pressure]) -> tuple[InstancePressure, ...]:
    found: dict[str, list[InstancePressure]] = {}
    for one in said:
        for instance in one.instances:
            found.setdefault(instance.instance_id, []).append(instance)
    return tuple(rows[0] if len(rows) == 1 else _together(rows) for rows in found.values())


def _together(rows: Sequence[InstancePressure]) -> InstancePressure:
    """What replicas put on one instance adds up; limit and overload are those of the one that has the most there.

    Peaks that do not come at the same iteration are less together than their sum, which errs on the safe side.
    """
    most = max(rows, key=lambda one: one.interactive_count + one.deferred_count)
    return replace(
        most,
        interactive_count=sum(one.interactive_count for one in rows),
        deferred_count=sum(one.deferred_count for one in rows),
        peak_share=sum(one.peak_share for one in rows),
        prefill_tokens=sum(one.prefill_tokens for one in rows),
        remaining_tokens=sum(one.remaining_tokens for one in rows),
    )
