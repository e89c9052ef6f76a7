"""The integers that say how long one iteration of one engine takes, in picoseconds.

In a batch with B decoding sequences whose caches hold K tokens in all, and prefill chunks of c tokens
computed after k cached ones, P being the sum of c and T = P + B, one iteration takes

    dt = F[T] + CB*B + BETA*K + (P > 0 ? PRE0 + GAMMA * sum(c*(k + (c+1)/2 + delta)) + MK*K + MP*B*P : 0)

Roofline with a smooth corner for the linear layers, affine attention terms. MK and MP are what decodes pay for
sharing an iteration with prefills: a kernel for rows of different lengths reads the cache once for every query head,
not once for all that share a key, and starts tiles for prompt rows that a decode does not have. GAMMA and
GAMMA*delta are fixed-point integers (2**-10 ps), so that a run has no float at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from forebay.core.units import PS_PER_S

PAIR_SHIFT = 10
STRETCH_ITERATIONS_MAX = 65_536

_HALF = 1 << (PAIR_SHIFT - 1)


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """`tokens` prompt tokens computed in one iteration, after `cached_tokens` that are in the cache."""

    tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """Timing and memory of one (GPU, model, tensor parallelism), checked when made.

    `iteration_ps[T]` is F[T] for T = 0..max_batch_tokens new tokens; `decode_ps` is CB, per decoding
    sequence; `context_token_ps` is BETA, per token read from the cache by decodes; `prefill_ps` is PRE0, once
    in an iteration with prefill; `half_pair_fixed` is GAMMA/2 and `prefill_token_fixed` GAMMA*delta, both in
    2**-10 ps; `mixed_context_token_ps` is MK, per token read from the cache in an iteration with prefill, and
    `mixed_pair_ps` MP, per decoding sequence and prompt token in it (0 where nobody measured them);
    `frontend_ps` is what server and client add once to a request outside the iterations. `status` is "checked",
    "kernel-level" or "uncalibrated": never show a figure of the last kind without the word.

    Raises ValueError naming the field that cannot be right.
    """

    name: str
    status: str
    iteration_ps: tuple[int, ...]
    decode_ps: int
    context_token_ps: int
    prefill_ps: int
    half_pair_fixed: int
    prefill_token_fixed: int
    kv_tokens: int
    max_seqs: int = 256
    block_size: int = 16
    frontend_ps: int = 0
    weight_bytes_per_gpu: int = 0
    gpu_count: int = 1
    mixed_context_token_ps: int = 0
    mixed_pair_ps: int = 0
    kv_bytes_per_token_per_gpu: int = 0

    def __post_init__(self) -> None:
        for field in (
            "decode_ps",
            "context_token_ps",
            "prefill_ps",
            "half_pair_fixed",
            "prefill_token_fixed",
            "mixed_context_token_ps",
            "mixed_pair_ps",
        ):
            self._need(getattr(self, field) >= 0, field, "must not be negative")
        self._need(self.frontend_ps >= 0, "frontend_ps", "must not be negative")
        self._need(self.block_size >= 1, "block_size", "must be at least 1")
        self._need(self.max_seqs >= 1, "max_seqs", "must be at least 1")
        self._need(self.block_count >= 1, "kv_tokens", "must hold at least one block")
        self._check_table()

    def _check_table(self) -> None:
        table = self.iteration_ps
        self._need(len(table) > 1 and table[0] == 0, "iteration_ps", "must start with 0 for no tokens")
        rising = all(a <= b for a, b in pairwise(table))
        self._need(rising and table[1] > 0, "iteration_ps", "must be positive and must not fall")
        self._need(
            self.max_batch_tokens > self.max_seqs,
            "max_seqs",
            "must be below the token budget of an iteration",
        )
        longest = self.context_token_ps * self.max_seqs * STRETCH_ITERATIONS_MAX**2 // 2
        self._need(longest < 2**63, "context_token_ps", "overflows 64 bits over the longest stretch")

    def _need(self, condition: bool, field: str, complaint: str) -> None:
        if not condition:
            raise ValueError(f"profile {self.name!r}: {field} {complaint}")

    @property
    def max_batch_tokens(self) -> int:
        """The most new tokens that one iteration computes: the engine's token budget."""
        return len(self.iteration_ps) - 1

    @property
    def block_count(self) -> int:
        """KV blocks in the pool."""
        return self.kv_tokens // self.block_size

    def blocks(self, tokens: int) -> int:
        """Blocks that hold `tokens` tokens."""
        return -(-tokens // self.block_size)

    def duration_ps(self, decode_count: int, context_tokens: int, chunks: Iterable[PrefillChunk] = ()) -> int:
        """Length of one iteration; `context_tokens` is what the decodes' caches hold before it."""
        prompt_tokens = 0
        double_pairs = 0
        for chunk in chunks:
            prompt_tokens += chunk.tokens
            double_pairs += chunk.tokens * (2 * chunk.cached_tokens + chunk.tokens + 1)
        base = self.iteration_ps[decode_count + prompt_tokens]
        decode = self.decode_ps * decode_count + self.context_token_ps * context_tokens
        if prompt_tokens:
            decode += self.mixed_context_token_ps * context_tokens + self.mixed_pair_ps * decode_count * prompt_tokens
        return base + decode + self._prefill_ps(prompt_tokens, double_pairs)

    def _prefill_ps(self, prompt_tokens: int, double_pairs: int) -> int:
        if prompt_tokens == 0:
            return 0
        fixed = self.half_pair_fixed * double_pairs + self.prefill_token_fixed * prompt_tokens
        return self.prefill_ps + ((fixed + _HALF) >> PAIR_SHIFT)

    def kv_transfer_ps(self, tokens: int, bytes_per_s: int) -> int:
        """How long keys and values of `tokens` take over a link of that speed at each GPU, rounded up.

        Raises ValueError where the profile does not say how large they are.
        """
        self._need(self.kv_bytes_per_token_per_gpu > 0, "kv_bytes_per_token_per_gpu", "must be known to move a cache")
        return -(-tokens * self.kv_bytes_per_token_per_gpu * PS_PER_S // bytes_per_s)

    def slowed(self, factor: float) -> "EngineProfile":
        """The same engine with every duration multiplied by `factor` > 0."""
        if factor <= 0:
            raise ValueError(f"slow-down factor must be positive, got {factor}")
        ratio = Fraction(factor).limit_denominator(1000)
        return replace(
            self,
            iteration_ps=tuple(round(ps * ratio) for ps in self.iteration_ps),
            decode_ps=round(self.decode_ps * ratio),
            context_token_ps=round(self.context_token_ps * ratio),
            prefill_ps=round(self.prefill_ps * ratio),
            half_pair_fixed=round(self.half_pair_fixed * ratio),
            prefill_token_fixed=round(self.prefill_token_fixed * ratio),
            mixed_context_token_ps=round(self.mixed_context_token_ps * ratio),
            mixed_pair_ps=round(self.mixed_pair_ps * ratio),
        )
