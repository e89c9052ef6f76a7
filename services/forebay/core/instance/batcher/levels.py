"""Queues of falling priority, each twice as wide as the one above."""


def level_of(amount: int, first: int, count: int) -> int:
    """The highest queue whose bound holds `amount`: `first`, twice that, and so on; the last has no bound."""
    return min(count - 1, (max(0, amount - 1) // first).bit_length())


def lifted(level: int, waited_ps: int, promote_ps: int) -> int:
    """One queue up for every `promote_ps` that a request waited in all; what it rose it does not fall again."""
    return max(0, level - waited_ps // promote_ps)
