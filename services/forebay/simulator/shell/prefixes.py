"""What every instance remembers of prompts, and how much of each new prompt lies there already."""

from forebay.simulator.shell.context import Context
from forebay.simulator.workload.prefix import PrefixCache


class Prefixes:
    """A prefix cache an instance, where the world has any.

    A prompt's hit is settled when it reaches the instance; what it adds is known there once its first token appears.
    That is noted when somebody asks next, in the order in which the first tokens appeared.
    """

    def __init__(self, context: Context) -> None:
        workload = context.workload
        self._kernel = context.kernel
        self._capacity_tokens = context.world.engine.prefix_cache_tokens
        self._is_on = self._capacity_tokens > 0 and len(workload.blocks) > 0
        self._starts: list[int] = workload.block_start.tolist() if self._is_on else []
        self._workload = workload
        self._caches: dict[int, PrefixCache] = {}
        self._reading: dict[int, dict[int, list[int]]] = {}
        self._instance_of: dict[int, int] = {}

    def reached(self, row: int, instance: int) -> int:
        """The row reached the instance: tokens of its prompt that lie in the cache there."""
        if not self._is_on:
            return 0
        blocks: list[int] = self._workload.blocks[self._starts[row] : self._starts[row + 1]].tolist()
        if not blocks:
            return 0
        cache = self._settled(instance)
        self._reading[instance][row] = blocks
        self._instance_of[row] = instance
        return cache.hit_tokens(blocks, int(self._workload.prompt_tokens[row]))

    def left(self, row: int) -> None:
        """The row was taken off its instance before it ended; call it before it reaches another one."""
        instance = self._instance_of.get(row)
        if instance is not None:
            self._settled(instance)
            self._reading[instance].pop(row, None)

    def _settled(self, instance: int) -> PrefixCache:
        """The instance's cache with all that it has read by now."""
        if instance not in self._caches:
            self._caches[instance] = PrefixCache(self._capacity_tokens, self._workload.block_tokens)
            self._reading[instance] = {}
        cache, reading = self._caches[instance], self._reading[instance]
        read = [(first_ps, row) for row in reading if (first_ps := self._kernel.first_ps(row)) >= 0]
        for _, row in sorted(read, key=lambda one: one[0]):
            cache.insert(reading.pop(row))
        return cache
