"""The scheduler's policies: one folder a kind, one file a policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.scheduler.config import Config
from forebay.scheduler.policy.admission import ADMISSIONS
from forebay.scheduler.policy.admission.base import Admission
from forebay.scheduler.policy.orderer import ORDERERS
from forebay.scheduler.policy.orderer.base import Orderer
from forebay.scheduler.policy.puller import PULLERS
from forebay.scheduler.policy.puller.base import Puller
from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.router.base import Router

Kinds: TypeAlias = Mapping[str, Mapping[str, type[Any]]]
KINDS: Kinds = {"admission": ADMISSIONS, "orderer": ORDERERS, "router": ROUTERS, "puller": PULLERS}


@dataclass(frozen=True, slots=True)
class Policies:
    """One policy of each kind, with the names that decisions are recorded under."""

    admission: Admission
    orderer: Orderer
    router: Router
    puller: Puller
    names: Mapping[str, str]


def build(config: Config, kinds: Kinds = KINDS) -> Policies:
    """The policies that the configuration names; raises ConfigError for an unknown name or a bad parameter."""
    return Policies(
        admission=_policy(kinds, "admission", config.admission, config.admission_parameters),
        orderer=_policy(kinds, "orderer", config.orderer, config.orderer_parameters),
        router=_policy(kinds, "router", config.router, config.router_parameters),
        puller=_policy(kinds, "puller", config.puller, config.puller_parameters),
        names={kind: getattr(config, kind) for kind in KINDS},
    )


def _policy(kinds: Kinds, kind: str, name: str, parameters: Mapping[str, object]) -> Any:
    known = kinds[kind]
    if name not in known:
        raise ConfigError(f"unknown {kind} {name!r} in [scheduler]; known: {', '.join(sorted(known))}")
    return from_mapping(known[name], parameters, f"scheduler.{kind}_parameters")
