"""How much fits into an iteration that may last only so long."""

from forebay.core.instance.profile import EngineProfile, PrefillChunk


class Pace:
    """The length of an iteration while it is put together; `limit_ps` 0: it may last as long as it does.

    The inverse of the profile: what `tokens_within` gives is exact, so the iteration keeps the limit unless the decodes
    that have to be in it exceed it alone.
    """

    __slots__ = ("_chunks", "_context_tokens", "_decode_count", "_limit_ps", "_profile")

    def __init__(self, profile: EngineProfile, limit_ps: int = 0) -> None:
        self._profile = profile
        self._limit_ps = limit_ps
        self._decode_count = self._context_tokens = 0
        self._chunks: list[PrefillChunk] = []

    def has_room(self, cached_tokens: int) -> bool:
        """Whether one more decode, with so much in its cache, keeps the limit."""
        count, context = self._decode_count + 1, self._context_tokens + cached_tokens
        return not self._limit_ps or self._profile.duration_ps(count, context, self._chunks) <= self._limit_ps

    def decode(self, cached_tokens: int) -> None:
        """A decode is in."""
        self._decode_count += 1
        self._context_tokens += cached_tokens

    def tokens_within(self, cached_tokens: int, most: int) -> int:
        """The longest next chunk, after so much in its cache, with which the limit is kept; at most `most`, which
        the budget has to leave."""
        if not self._limit_ps or self._keeps(cached_tokens, most):
            return most
        fits, fails = 0, most
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self._keeps(cached_tokens, middle):
                fits = middle
            else:
                fails = middle
        return fits

    def compute(self, tokens: int, cached_tokens: int) -> None:
        """A chunk is in."""
        self._chunks.append(PrefillChunk(tokens, cached_tokens))

    def _keeps(self, cached_tokens: int, tokens: int) -> bool:
        chunks = [*self._chunks, PrefillChunk(tokens, cached_tokens)]
        return self._profile.duration_ps(self._decode_count, self._context_tokens, chunks) <= self._limit_ps
