"""The fleet as the scheduler sees it: every instance with the load put on it, as arrays of each model."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from forebay.core.scheduling import ScheduledInstance
from forebay.core.values import Instance, InstanceLoad, InstanceState
from forebay.scheduler.lanes import Lanes
from forebay.scheduler.policy.puller.base import Puller, PullView


class Fleet:
    """Instances by model, with their leases counted whether or not the instance is known now.

    Leases may be older than the fleet (a restart) or outlive their instance (it vanished): their counts wait in
    `_absent` and come back with the instance. `revision` grows with every change of an instance or its load;
    `has_unreachable` says whether an instance is avoided because it did not answer.
    """

    def __init__(self, puller: Puller) -> None:
        self.announced = False
        self.has_unreachable = False
        self.revision = 0
        self.models: dict[str, Lanes] = {}
        self._puller = puller
        self._instances: dict[str, Instance] = {}
        self._absent: dict[str, tuple[int, int]] = {}
        self._loads: dict[str, InstanceLoad] = {}
        self._draining: set[str] = set()

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
        return [model for model in sorted(by_model) if self._replace_model(model, by_model[model])]

    def observe(self, loads: Iterable[InstanceLoad]) -> list[str]:
        """Takes what is seen from outside and gives the models, all of them, since any cap may have moved."""
        self._loads = {load.instance_id: load for load in loads}
        self.has_unreachable = any(not load.reachable for load in self._loads.values())
        for lanes in self.models.values():
            self._refresh(lanes)
        return sorted(self.models)

    def drain(self, instance_id: str) -> None:
        """Places nothing on a known instance any more, for as long as it is part of the fleet."""
        self._draining.add(instance_id)
        self._refresh(self.models[self._instances[instance_id].model])

    def is_draining(self, instance_id: str) -> bool:
        """Whether a drain was asked for."""
        return instance_id in self._draining

    def add(self, instance_id: str, count: int, tokens: int) -> None:
        """Adds leases and their predicted tokens to an instance, or takes them off where negative."""
        self.revision += 1
        instance = self._instances.get(instance_id)
        if instance is not None:
            self.models[instance.model].add(instance_id, count, tokens)
            return
        before_count, before_tokens = self._absent.pop(instance_id, (0, 0))
        if before_count + count:
            self._absent[instance_id] = (before_count + count, before_tokens + tokens)

    def load_of(self, instance_id: str) -> tuple[int, int]:
        """Leases on the instance and their predicted tokens."""
        instance = self._instances.get(instance_id)
        if instance is None:
            return self._absent.get(instance_id, (0, 0))
        return self.models[instance.model].load_of(instance_id)

    def scheduled(self, model: str) -> Iterator[ScheduledInstance]:
        """The instances of one model, or of all for an empty name, by id."""
        chosen = (one for one in self._instances.values() if not model or one.model == model)
        for instance in sorted(chosen, key=lambda one: one.instance_id):
            count, tokens = self.load_of(instance.instance_id)
            cap = self.models[instance.model].cap_of(instance.instance_id)
            yield ScheduledInstance(instance, count, tokens, cap, instance.instance_id in self._draining)

    def _replace_model(self, model: str, instances: list[Instance]) -> bool:
        instances.sort(key=lambda one: one.instance_id)
        old = self.models.get(model)
        if old is not None and old.instances == instances:
            return False
        present = {one.instance_id for one in instances}
        carried = dict(old.loads()) if old is not None else {}
        lanes = Lanes(instances)
        self.models[model] = lanes
        for instance_id, load in carried.items():
            if instance_id not in present and load[0]:
                self._absent[instance_id] = load
        for instance_id in present:
            lanes.add(instance_id, *(carried.get(instance_id) or self._absent.pop(instance_id, (0, 0))))
        self._refresh(lanes)
        self.revision += 1
        return True

    def _refresh(self, lanes: Lanes) -> None:
        blocked = [self._blocked(instance) for instance in lanes.instances]
        caps = [self._cap(lanes, instance) for instance in lanes.instances]
        self.revision += lanes.refresh(blocked, caps)

    def _blocked(self, instance: Instance) -> str:
        """Why nothing may be placed there; empty where something may."""
        if instance.instance_id in self._draining:
            return "draining"
        if instance.state is not InstanceState.READY:
            return instance.state.name.lower()
        load = self._loads.get(instance.instance_id)
        return "unreachable" if load is not None and not load.reachable else ""

    def _cap(self, lanes: Lanes, instance: Instance) -> int:
        load = self._loads.get(instance.instance_id)
        view = PullView(
            instance.instance_id,
            instance.model,
            instance.concurrency_max,
            lanes.load_of(instance.instance_id)[0],
            load.running_count if load else None,
            load.waiting_count if load else None,
            load.kv_utilization if load else None,
        )
        return self._puller.cap(view)


def turn_after(instance_ids: Sequence[str], last_id: str) -> int:
    """Index at which a rotation goes on after `last_id`, which may be gone."""
    return bisect_right(instance_ids, last_id) % max(1, len(instance_ids))
