"""What an instance remembers of the prompts that it has read."""

from collections import OrderedDict
from collections.abc import Sequence


class PrefixCache:
    """Blocks of prompt text, those used longest ago forgotten first, `capacity_tokens` at most (None: without end).

    Block ids say whose text they are: equal ids after equal ids mean equal text, so a block is known by its id alone as
    long as it is only asked for after those before it. Of one prompt the last blocks go first, so that what stays is
    still a prefix.
    """

    __slots__ = ("_block_count_max", "_block_tokens", "_known")

    def __init__(self, capacity_tokens: int | None, block_tokens: int = 512) -> None:
        if block_tokens < 1 or (capacity_tokens is not None and capacity_tokens < 0):
            raise ValueError("block_tokens must be at least 1, and capacity_tokens not negative")
        self._block_tokens = block_tokens
        self._block_count_max = None if capacity_tokens is None else capacity_tokens // block_tokens
        self._known: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        """The blocks that are remembered."""
        return len(self._known)

    def hit_tokens(self, blocks: Sequence[int], prompt_tokens: int) -> int:
        """The tokens of the longest known prefix; the last block of a prompt may be partial. Changes nothing."""
        known = self._known
        count = 0
        for block in blocks:
            if block not in known:
                break
            count += 1
        return min(count * self._block_tokens, prompt_tokens)

    def insert(self, blocks: Sequence[int]) -> None:
        """Remembers a prompt as the one used last; of one that is longer than the cache, its beginning."""
        known, most = self._known, self._block_count_max
        for block in reversed(blocks[:most]):
            known[block] = None
            known.move_to_end(block)
        while most is not None and len(known) > most:
            known.popitem(last=False)
