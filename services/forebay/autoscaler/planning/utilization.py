"""How full the caches of instances are, as SageServe measures a pool."""

from collections.abc import Iterable

from forebay.core.values import InstanceLoad


def utilization(loads: Iterable[tuple[InstanceLoad | None, int]]) -> float | None:
    """Tokens in the caches over tokens that they have room for, of instances with their caches' size.

    Weights are no part of it ("effective memory", SageServe's summary, section 6). Instances count alike where a size
    is not known (0). None where no server tells.
    """
    known = [
        (load.kv_utilization, float(kv_tokens or 1))
        for load, kv_tokens in loads
        if load is not None and load.kv_utilization is not None
    ]
    room = sum(size for _, size in known)
    return sum(share * size for share, size in known) / room if room else None
