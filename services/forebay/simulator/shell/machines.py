"""The instances of a run: each engine's number in the kernel, where it stands and what it is made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from forebay.core.instance import EngineProfile
from forebay.core.values import InstanceState
from forebay.simulator.config import EngineConfig, Group
from forebay.simulator.kernel.base import Kernel
from forebay.simulator.results import FleetChange


class ProfileOf(Protocol):
    """Finds engine profiles by name."""

    def __call__(
        self, name: str, *, max_seqs: int, max_batch_tokens: int, block_size: int, kv_tokens: int
    ) -> EngineProfile:
        """The profile under an engine's limits; `kv_tokens` 0 takes the profile's own."""
        ...


@dataclass(slots=True)
class Machine:
    """One engine that runs or ran. `serving` ends when it crashes or is stopped: what comes later is turned away."""

    number: int
    instance_id: str
    group: Group
    profile: EngineProfile
    serving: bool = True


class Machines:
    """All engines that ever ran, by their numbers; an instance id names the newest engine of that name."""

    def __init__(self, kernel: Kernel, engine: EngineConfig, profile_of: ProfileOf) -> None:
        self._profile_of = profile_of
        self._kernel = kernel
        self._engine = engine
        self._profiles: dict[tuple[str, int], EngineProfile] = {}
        self._by_id: dict[str, Machine] = {}
        self.all: list[Machine] = []

    def __iter__(self) -> Iterator[Machine]:
        return iter(self.all)

    def get(self, instance_id: str) -> Machine | None:
        """The engine of this name that serves, if any."""
        machine = self._by_id.get(instance_id)
        return machine if machine is not None and machine.serving else None

    def add(self, instance_id: str, group: Group) -> Machine:
        """Starts an empty engine that takes requests from now on."""
        profile = self.profile(group)
        number = self._kernel.add(profile, self._engine.flags(profile), self._engine.batcher)
        machine = Machine(number, instance_id, group, profile)
        self._by_id[instance_id] = machine
        self.all.append(machine)
        return machine

    def end(self, machine: Machine) -> None:
        """The engine takes nothing more; what it held is the caller's to deal with."""
        machine.serving = False

    def profile(self, group: Group) -> EngineProfile:
        """The timing and memory of the group's engines."""
        seats = self.seats(group)
        key = (group.profile, seats)
        if key not in self._profiles:
            self._profiles[key] = self._profile_of(
                group.profile,
                max_seqs=seats,
                max_batch_tokens=self._engine.max_batch_tokens,
                block_size=self._engine.block_size,
                kv_tokens=self._engine.kv_tokens,
            )
        return self._profiles[key]

    def seats(self, group: Group) -> int:
        """Most sequences in a batch of the group's engines."""
        return group.concurrency_max or self._engine.max_seqs


def change_of(instance_id: str, group: Group, profile: EngineProfile, state: InstanceState, at_us: int) -> FleetChange:
    """An instance of the group entered a state; the first part of its profile's name is its GPU."""
    return FleetChange(
        at_us=at_us,
        instance_id=instance_id,
        model=group.model,
        region=group.region,
        gpu=profile.name.partition("/")[0],
        gpu_count=profile.gpu_count,
        state=state.name,
        spot=group.spot,
    )
