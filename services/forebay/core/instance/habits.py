"""From what an operator sets of an engine to the flags of the model."""

from dataclasses import fields
from typing import Protocol

from forebay.core.instance.profile import EngineProfile
from forebay.core.instance.sequence import EngineFlags
from forebay.core.units import BYTES_PER_GB, PS_PER_US


class Habits(Protocol):
    """Settings in the units of a configuration; those named like a field of EngineFlags are taken as they are."""

    @property
    def preemption(self) -> str:
        """Whether an evicted cache is swapped or computed again."""
        ...

    @property
    def swap_gb_per_s(self) -> float:
        """The link between a GPU and the host's memory; 0: moving a cache takes no time."""
        ...

    @property
    def batch_delay_us(self) -> int:
        """How long a static batch gathers."""
        ...


def flags_of(habits: Habits, profile: EngineProfile | None = None) -> EngineFlags:
    """How an engine of the profile admits and evicts; swapping takes no time where no profile says how long.

    Raises ValueError for settings that EngineFlags refuses, and where caches are swapped and the profile does not say
    how large they are.
    """
    speed = round(habits.swap_gb_per_s * BYTES_PER_GB) if habits.preemption == "swap" else 0
    swap_block_ps = profile.kv_transfer_ps(profile.block_size, speed) if profile and speed else 0
    same = {name: getattr(habits, name) for name in _FLAGS if hasattr(habits, name)}
    return EngineFlags(**same, swap_block_ps=swap_block_ps, batch_delay_ps=habits.batch_delay_us * PS_PER_US)


_FLAGS = [flag.name for flag in fields(EngineFlags)]
