"""The KV memory of an instance, counted in blocks."""


class BlockPool:
    """A count of free blocks that never goes below zero or above its size; ValueError says who broke it."""

    __slots__ = ("_free_count", "block_count")

    def __init__(self, block_count: int) -> None:
        self.block_count = block_count
        self._free_count = block_count

    @property
    def free_count(self) -> int:
        """Blocks that nobody holds."""
        return self._free_count

    def take(self, count: int) -> None:
        """Hand out `count` blocks."""
        if not 0 <= count <= self._free_count:
            raise ValueError(f"cannot take {count} of {self._free_count} free blocks")
        self._free_count -= count

    def give_back(self, count: int) -> None:
        """Put `count` blocks back."""
        if not 0 <= count <= self.block_count - self._free_count:
            raise ValueError(f"cannot return {count} of {self.block_count - self._free_count} used blocks")
        self._free_count += count
