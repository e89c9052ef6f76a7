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
from forebay.scheduler.policy.systems import SYSTEMS, Part, part

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
    chosen = {kind: choice(config, kind) for kind in KINDS}
    return Policies(
        **{kind: _policy(kinds, kind, part) for kind, part in chosen.items()},
        names={kind: part.name for kind, part in chosen.items()},
    )


def choice(config: Config, kind: str) -> Part:
    """The policy of a kind: the one that is named, or that of the system, whose parameters may be set one by one.

    Raises ConfigError for an unknown system.
    """
    if config.system not in SYSTEMS:
        text = f"unknown system {config.system!r} in [scheduler]; known: {', '.join(sorted(SYSTEMS))}"
        raise ConfigError(text, violations={"scheduler.system": text})
    name: str = getattr(config, kind)
    parameters: Mapping[str, object] = getattr(config, f"{kind}_parameters")
    usual = part(config.system, kind)
    if name and name != usual.name:
        return Part(name, parameters)
    return Part(usual.name, {**usual.parameters, **parameters})


def _policy(kinds: Kinds, kind: str, chosen: Part) -> Any:
    known = kinds[kind]
    if chosen.name not in known:
        raise ConfigError(f"unknown {kind} {chosen.name!r} in [scheduler]; known: {', '.join(sorted(known))}")
    return from_mapping(known[chosen.name], chosen.parameters, f"scheduler.{kind}_parameters")
