"""An engine that is as good as the best of several in everything: no split of requests over them takes less time."""

from collections.abc import Sequence

from forebay.core.instance import EngineProfile

LINEAR = (
    "decode_ps",
    "context_token_ps",
    "prefill_ps",
    "half_pair_fixed",
    "prefill_token_fixed",
    "mixed_context_token_ps",
    "mixed_pair_ps",
)


def cheapest(profiles: Sequence[EngineProfile], weights: Sequence[int]) -> EngineProfile:
    """The shortest time of every part of an iteration, each engine's times its weight, and the widest limits.

    The fluid bound f of it is at most w_k f_k of each engine k with its weight w_k. As f is subadditive, for requests d
    that are split into parts d_k in any way f(d) <= sum f(d_k) <= sum w_k f_k(d_k): with the GPUs of an instance as
    weights it bounds the GPU-seconds of a fleet of different instances from below: a relaxation where they differ.
    """
    weighted = [one.slowed(weight) if weight != 1 else one for one, weight in zip(profiles, weights, strict=True)]
    if len(set(weighted)) == 1:
        return weighted[0]
    size = max(len(one.iteration_ps) for one in weighted)
    table = [min(one.iteration_ps[at] for one in weighted if at < len(one.iteration_ps)) for at in range(size)]
    # A wider budget of a slower engine must not make the table fall behind the narrower one's.
    for at in range(size - 2, 0, -1):
        table[at] = min(table[at], table[at + 1])
    parts = {name: min(getattr(one, name) for one in weighted) for name in LINEAR}
    return EngineProfile(
        name=" or ".join(dict.fromkeys(one.name for one in profiles)),
        status=profiles[0].status,
        iteration_ps=tuple(table),
        kv_tokens=max(one.block_count * one.block_size for one in weighted),
        max_seqs=max(one.max_seqs for one in weighted),
        block_size=1,
        gpu_count=1,
        **parts,
    )
