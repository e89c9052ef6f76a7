"""What llm-d's headers mean to us: the class and the tenant of a request, where our own headers do not name them."""

from collections.abc import Mapping

from forebay.core.units import US_PER_MS, US_PER_S
from forebay.gateway.config import SLO_CLASSES, Config
from forebay.gateway.intake import SLO_CLASS
from forebay.gateway.tenants import TENANT

FAIRNESS_ID, OBJECTIVE = "x-llm-d-inference-fairness-id", "x-llm-d-inference-objective"
SLO_TTFT_MS = "x-llm-d-slo-ttft-ms"
_FAST, _NORMAL, _ = SLO_CLASSES


def labelled(headers: Mapping[str, str], tenant: str, config: Config) -> dict[str, str]:
    """The headers with our names for what llm-d's say; a tenant that is known by its key replaces what was claimed.

    The class is that of the objective, if the configuration names it or it bears a class's name; else the slowest one
    that promises its first token within the SLO. A bound on the time between tokens has no counterpart.
    """
    slo_class = headers.get(SLO_CLASS, "") or _by_objective(headers, config) or _by_ttft(headers, config)
    tenant = tenant or headers.get(TENANT, "") or headers.get(FAIRNESS_ID, "")
    return {**headers, SLO_CLASS: slo_class, TENANT: tenant}


def _by_objective(headers: Mapping[str, str], config: Config) -> str:
    name = headers.get(OBJECTIVE, "")
    return str(config.picker.objectives.get(name, name if name in SLO_CLASSES else ""))


def _by_ttft(headers: Mapping[str, str], config: Config) -> str:
    given = headers.get(SLO_TTFT_MS, "")
    if not given.replace(".", "", 1).isdecimal():
        return ""
    is_within = float(given) * US_PER_MS >= config.promises.ttft_interactive_normal_s * US_PER_S
    return _NORMAL if is_within else _FAST
