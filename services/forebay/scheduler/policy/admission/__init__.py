"""Admission: may a request enter now, later or never."""

from forebay.scheduler.policy.admission.base import Admission
from forebay.scheduler.policy.admission.open import Open
from forebay.scheduler.policy.admission.scorpio import Scorpio
from forebay.scheduler.policy.admission.slo_feasible import SloFeasible
from forebay.scheduler.policy.admission.tenant_quota import TenantQuota
from forebay.scheduler.policy.admission.token_budget import TokenBudget

ADMISSIONS: dict[str, type[Admission]] = {
    "open": Open,
    "scorpio": Scorpio,
    "slo_feasible": SloFeasible,
    "tenant_quota": TenantQuota,
    "token_budget": TokenBudget,
}
