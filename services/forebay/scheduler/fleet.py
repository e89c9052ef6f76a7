"""The fleet as the scheduler sees it: every instance with the load put on it, as arrays of each model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from forebay.core.scheduling import ScheduledInstance
from forebay.core.values import Instance, InstanceLoad, InstanceState, SloClass
from forebay.scheduler.gauges import Gauge, needed_tokens_per_s
from forebay.scheduler.lanes import Lanes
from forebay.scheduler.leases import Lease
from forebay.scheduler.policy.puller.base import Measured, Puller, PullView, step_us


class Fleet:
    """Instances by model, with their leases counted whether or not the instance is known now.

    Leases may be older than the fleet (a restart) or outlive their instance (it vanished): they are counted aside, on
    lanes that belong to no model, and come back with the instance. `leads_us` names the models that are started when
    requests come, with the time that takes. `revision` grows with every change of an instance
    or its load; `has_unreachable` says whether an instance is avoided because it did not answer.
    """

    def __init__(self, puller: Puller) -> None:
        self.announced = False
        self.has_unreachable = False
        self.revision = 0
        self.models: dict[str, Lanes] = {}
        self.leads_us: Mapping[str, int] = {}
        self._puller = puller
        self._instances: dict[str, Instance] = {}
        self._lanes: dict[str, tuple[Lanes, int]] = {}
        self._loads: dict[str, InstanceLoad] = {}
        self._draining: set[str] = set()
        self.is_stepping = step_us(puller) > 0
        self._gauges: dict[str, Gauge] = {}
        self._caps: dict[str, int] = {}

    def get(self, instance_id: str) -> Instance | None:
        """The instance, if it is part of the fleet now."""
        return self._instances.get(instance_id)

    def knows(self, model: str) -> bool:
        """Whether an instance of the model has ever been part of the fleet."""
        return model in self.models

    def replace(self, instances: Sequence[Instance]) -> list[str]:
        """Takes the whole fleet as it is now and gives the models that changed, by name."""
        self.announced = True
        by_model: dict[str, list[Instance]] = {model: [] for model in self.models}
        for instance in instances:
            if instance.state is not InstanceState.STOPPED:
                by_model.setdefault(instance.model, []).append(instance)
        self._instances = {one.instance_id: one for group in by_model.values() for one in group}
        self._draining &= self._instances.keys()
        for known in [known for known in self._gauges | self._caps if known not in self._instances]:
            self._gauges.pop(known, None)
            self._caps.pop(known, None)
        changed = [model for model in sorted(by_model) if self._replace_model(model, by_model[model])]
        for instance_id in [known for known in self._lanes if known not in self._instances]:
            self._set_aside(instance_id)
        return changed

    def observe(self, loads: Iterable[InstanceLoad], now_us: int) -> list[str]:
        """Takes what is seen from outside and gives the models, all of them, since any cap may have moved.

        Leases younger than what was seen of their instance must be told again, by `count_unseen`.
        """
        self._loads = {load.instance_id: load for load in loads}
        self.has_unreachable = any(not load.reachable for load in self._loads.values())
        for lanes in self.models.values():
            lanes.observe(self._loads_of(lanes.ids), now_us)
            self._refresh(lanes)
        return sorted(self.models)

    def seen_us_min(self) -> int | None:
        """When the instance was seen that was seen the longest ago; None where none was."""
        times = [seen_us for lanes in self.models.values() for seen_us in lanes.seen_us if seen_us >= 0]
        return min(times, default=None)

    def count_unseen(self, lease: Lease) -> None:
        """Counts an open lease as put on its instance since that was seen, if it was.

        Where the instance is not part of the fleet nobody looked at it, and what is counted stands.
        """
        instance_id = lease.placement.instance_id
        if instance_id not in self._instances:
            return
        lanes, index = self._lanes[instance_id]
        if 0 <= lanes.seen_us[index] <= lease.opened_us:
            lanes.add_unseen(index, lease)

    def moved(self, lease: Lease, tokens: int, now_us: int) -> None:
        """Takes new tokens of a lease, for a puller that goes by what instances do."""
        if self.is_stepping:
            instance_id = lease.placement.instance_id
            if instance_id not in self._gauges:
                self._gauges[instance_id] = Gauge(lease.opened_us)
            self._gauges[instance_id].moved(lease, tokens, now_us)

    def step(self, itl_slo_us: Callable[[SloClass], int], now_us: int) -> list[str]:
        """Asks the puller anew with what instances did since the last step; gives the models, by name."""
        for lanes in self.models.values():
            measured = {}
            for index, instance_id in enumerate(lanes.ids):
                peak_count, gauge = lanes.take_peak(index), self._gauges.get(instance_id)
                seen = gauge.step(peak_count, itl_slo_us, now_us) if gauge else None
                if seen is not None:
                    needed = needed_tokens_per_s(lanes.leases_of(index), itl_slo_us, now_us)
                    seen = seen._replace(needed_tokens_per_s=needed)
                measured[instance_id] = seen
            self._refresh(lanes, measured)
        return sorted(self.models)

    def drain(self, instance_id: str) -> None:
        """Places nothing on a known instance any more, for as long as it is part of the fleet."""
        self._draining.add(instance_id)
        self._refresh(self.models[self._instances[instance_id].model])

    def lane(self, instance_id: str) -> tuple[Lanes, int]:
        """Where the leases of an instance are counted, known or not; for a change, which `revision` tells."""
        self.revision += 1
        found = self._lanes.get(instance_id)
        if found is None:
            found = self._lanes[instance_id] = _aside(instance_id), 0
        return found

    def load_of(self, instance_id: str) -> tuple[int, int]:
        """Leases on the instance and their predicted tokens."""
        found = self._lanes.get(instance_id)
        return found[0].load_of(found[1]) if found else (0, 0)

    def scheduled(self, model: str) -> Iterator[ScheduledInstance]:
        """The instances of one model, or of all for an empty name, by id."""
        chosen = (one for one in self._instances.values() if not model or one.model == model)
        for instance in sorted(chosen, key=lambda one: one.instance_id):
            lanes, index = self._lanes[instance.instance_id]
            draining = instance.instance_id in self._draining
            yield ScheduledInstance(instance, *lanes.load_of(index), lanes.cap_of(index), draining)

    def _replace_model(self, model: str, instances: list[Instance]) -> bool:
        instances.sort(key=lambda one: one.instance_id)
        old = self.models.get(model)
        if old is not None and old.instances == instances:
            return False
        loads = self._loads_of(one.instance_id for one in instances)
        lanes = self.models[model] = Lanes(instances, loads, old.last_id if old is not None else "")
        for index, instance_id in enumerate(lanes.ids):
            if instance_id in self._lanes:
                lanes.take(index, *self._lanes[instance_id])
            self._lanes[instance_id] = lanes, index
        self._refresh(lanes)
        self.revision += 1
        return True

    def _set_aside(self, instance_id: str) -> None:
        """Keeps the counts of an instance that is not part of the fleet for as long as it has leases."""
        lane = self._lanes.pop(instance_id)
        if lane[0].load_of(lane[1])[0]:
            aside = _aside(instance_id)
            aside.take(0, *lane)
            self._lanes[instance_id] = aside, 0

    def _loads_of(self, instance_ids: Iterable[str]) -> list[InstanceLoad | None]:
        return [self._loads.get(instance_id) for instance_id in instance_ids]

    def _refresh(self, lanes: Lanes, measured: Mapping[str, Measured | None] | None = None) -> None:
        blocked = [self._blocked(instance) for instance in lanes.instances]
        caps = [self._cap(lanes, index, measured) for index in range(len(lanes.ids))]
        self.revision += lanes.refresh(blocked, caps)

    def _blocked(self, instance: Instance) -> str:
        """Why nothing may be placed there; empty where something may."""
        if instance.instance_id in self._draining:
            return "draining"
        if instance.state is not InstanceState.READY:
            return instance.state.name.lower()
        load = self._loads.get(instance.instance_id)
        return "unreachable" if load is not None and not load.reachable else ""

    def _cap(self, lanes: Lanes, index: int, measured: Mapping[str, Measured | None] | None) -> int:
        instance = lanes.instances[index]
        load = self._loads.get(instance.instance_id)
        view = PullView(
            instance.instance_id,
            instance.model,
            instance.concurrency_max,
            lanes.load_of(index)[0],
            load.running_count if load else None,
            load.waiting_count if load else None,
            load.kv_utilization if load else None,
            instance.role,
            context_count_max=_context_count_max(instance),
        )
        if not self.is_stepping:
            return self._puller.cap(view)
        seen = measured.get(instance.instance_id) if measured else None
        before = self._caps.get(instance.instance_id, 0)
        cap = self._puller.cap(view._replace(cap=before, kv_count_max=lanes.kv_count_max(index), measured=seen))
        self._caps[instance.instance_id] = cap
        return cap


def _context_count_max(instance: Instance) -> int:
    """How many of the longest contexts the cache holds, at least 1; 0 where either is not known."""
    if not (instance.kv_tokens_max and instance.context_tokens_max):
        return 0
    return max(1, instance.kv_tokens_max // instance.context_tokens_max)


def _aside(instance_id: str) -> Lanes:
    """Lanes of one instance that is not part of the fleet and takes nothing."""
    lanes = Lanes([Instance(instance_id, "", "", "")], [None])
    lanes.refresh(["unknown"], [0])
    return lanes
