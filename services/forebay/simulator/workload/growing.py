"""Prompts that begin with what was said before, as lists of prefix blocks."""

from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True, slots=True)
class Text:
    """Text that prompts begin with: its length, and the ids of the blocks that it fills to the end."""

    tokens: int = 0
    blocks: tuple[int, ...] = ()


class Writer:
    """Writes texts in blocks of `block_tokens`; blocks have one id exactly where their texts are one."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._ids = count()

    def extend(self, text: Text, tokens: int) -> Text:
        """The text with so much new behind it."""
        total = text.tokens + tokens
        fresh = total // self._block_tokens - len(text.blocks)
        return Text(total, text.blocks + tuple(next(self._ids) for _ in range(fresh)))

    def prompt_blocks(self, text: Text) -> tuple[int, ...]:
        """The blocks of the text as a prompt: where its last one is partial, it is like no other."""
        return text.blocks if text.tokens % self._block_tokens == 0 else (*text.blocks, next(self._ids))
