"""The fleet as the scheduler last described it, with what this gateway has put on each instance."""

from collections import Counter
from collections.abc import Collection, Sequence

from forebay.core.errors import ForebayError, ModelUnknown, NoInstanceReady, Unavailable
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceState

_CONCURRENCY_DEFAULT = 64
"""Requests at once of an instance that does not tell, as the contract says."""
RETRY_AFTER_US = 2 * US_PER_S


class Fleet:
    """Chooses the instance with the least outstanding requests; ties go to the smallest instance id."""

    def __init__(self, queue_factor: float, suspect_us: int) -> None:
        self._queue_factor = queue_factor
        self._suspect_us = suspect_us
        self._instances: dict[str, Instance] = {}
        self._models: set[str] = set()
        self._outstanding: Counter[str] = Counter()
        self._avoided_until_us: dict[str, int] = {}
        self.seen = False

    def update(self, instances: Sequence[Instance]) -> None:
        """Takes the whole fleet. An empty one replaces nothing: a scheduler that just started knows no fleet yet."""
        self.seen = True
        if instances:
            self._instances = {one.instance_id: one for one in instances}
            self._models.update(one.model for one in instances)

    def models(self) -> list[str]:
        """Models that the fleet has had, by name."""
        return sorted(self._models)

    def knows(self, model: str) -> bool:
        """Whether the fleet has had the model."""
        return model in self._models

    def ready(self, model: str) -> list[Instance]:
        """Instances of the model that take requests, by id."""
        found = (one for one in self._instances.values() if one.model == model and one.state is InstanceState.READY)
        return sorted(found, key=lambda one: one.instance_id)

    def since_us(self, model: str) -> int:
        """When the oldest instance of the model entered its state; 0 for none."""
        return min((one.state_us for one in self._instances.values() if one.model == model), default=0)

    def choose(self, model: str, excluded: Collection[str], now_us: int) -> Instance | None:
        """The instance to take, or None where each one is full or excluded; one that just failed is the last resort."""
        found = [one for one in self.ready(model) if one.instance_id not in excluded and self._has_room(one)]
        return min(found, key=lambda one: self._rank(one.instance_id, now_us), default=None)

    def absence(self, model: str, excluded: Collection[str]) -> ForebayError | None:
        """Why the model can have no instance, or None when there is one to wait for."""
        if any(one.instance_id not in excluded for one in self.ready(model)):
            return None
        if not self._models:
            return Unavailable(
                "the scheduler does not answer and no instance is known yet; try again, and check that it runs",
                retry_after_us=RETRY_AFTER_US,
            )
        if model not in self._models:
            return self.unknown(model)
        return NoInstanceReady(f"no instance of model {model!r} takes requests now", retry_after_us=RETRY_AFTER_US)

    def unknown(self, model: str) -> ModelUnknown:
        """The error for a model that is not in the fleet; it names those that are."""
        known = ", ".join(self.models()) or "none"
        return ModelUnknown(f"the model {model!r} does not exist; known models: {known}")

    def outstanding(self, instance_id: str) -> int:
        """Requests of this gateway on the instance."""
        return self._outstanding.get(instance_id, 0)

    def take(self, instance_id: str) -> None:
        """Counts a request on the instance."""
        self._outstanding[instance_id] += 1

    def give_back(self, instance_id: str) -> None:
        """A request left the instance."""
        self._outstanding[instance_id] -= 1
        if self._outstanding[instance_id] <= 0:
            del self._outstanding[instance_id]

    def suspect(self, instance_id: str, now_us: int) -> None:
        """The instance failed: avoid it for a while."""
        self._avoided_until_us = {key: at for key, at in self._avoided_until_us.items() if at > now_us}
        self._avoided_until_us[instance_id] = now_us + self._suspect_us

    def suspected(self, now_us: int) -> frozenset[str]:
        """The ids of those that failed a while ago."""
        return frozenset(key for key, at in self._avoided_until_us.items() if at > now_us)

    def _has_room(self, instance: Instance) -> bool:
        concurrency = instance.concurrency_max or _CONCURRENCY_DEFAULT
        return self.outstanding(instance.instance_id) < concurrency * self._queue_factor

    def _rank(self, instance_id: str, now_us: int) -> tuple[bool, int]:
        return self._avoided_until_us.get(instance_id, 0) > now_us, self.outstanding(instance_id)
