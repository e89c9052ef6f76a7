"""How tenants fare beside each other in one run."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.simulator.results import RunResult

Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TenantSummary:
    """The tenants that sent requests; all but the count is None where there is but one.

    `worst_attainment` is that of the tenant whose requests met their SLO least often. `light_attainment` is over the
    requests of tenants that ask for no more prompt and answer tokens than an equal share of all. `jain` is Jain's index
    ((sum x)**2 / (n * sum x**2); 1: all alike, 1/n: one has all) of the share of its tokens that each tenant got in
    time: those of requests that met their SLO over those that it asked for.
    """

    tenant_count: int = 0
    worst_attainment: float | None = None
    light_attainment: float | None = None
    jain: float | None = None


def summarize_tenants(result: RunResult, met: Mask) -> TenantSummary:
    """The figures of all tenants; `met` says which requests met their SLO."""
    rows, size = result.requests, len(result.tenants)
    count = np.bincount(rows.tenant, minlength=size)
    sent = count > 0
    if sent.sum() < 2:
        return TenantSummary(int(sent.sum()))
    tokens = (rows.prompt_tokens + rows.output_tokens).astype(np.float64)
    asked = np.bincount(rows.tenant, tokens, size)[sent]
    given = np.bincount(rows.tenant, np.where(met, tokens, 0.0), size)[sent]
    attained = np.bincount(rows.tenant, met, size)[sent]
    is_light = asked <= asked.sum() / sent.sum()
    return TenantSummary(
        tenant_count=int(sent.sum()),
        worst_attainment=float((attained / count[sent]).min()),
        light_attainment=float(attained[is_light].sum() / count[sent][is_light].sum()) if is_light.any() else None,
        jain=jain(given / asked),
    )


def jain(shares: Floats) -> float:
    """Jain's index of what each got; 1 where nobody got anything, since all are alike."""
    squares = float((shares**2).sum())
    return float(shares.sum()) ** 2 / (len(shares) * squares) if squares else 1.0
