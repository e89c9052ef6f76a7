"""The scheduler's policies: one folder a kind, one file a policy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.scheduler.config import Config, Shadow
from forebay.scheduler.policy.admission import ADMISSIONS
from forebay.scheduler.policy.admission.base import Admission
from forebay.scheduler.policy.grouper import GROUPERS
from forebay.scheduler.policy.grouper.base import Grouper
from forebay.scheduler.policy.orderer import ORDERERS
from forebay.scheduler.policy.orderer.base import Orderer
from forebay.scheduler.policy.planner import PLANNERS
from forebay.scheduler.policy.planner.base import Planner
from forebay.scheduler.policy.puller import PULLERS
from forebay.scheduler.policy.puller.base import Puller
from forebay.scheduler.policy.rescheduler import RESCHEDULERS
from forebay.scheduler.policy.rescheduler.base import Rescheduler
from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.router.base import Router
from forebay.scheduler.policy.systems import DEFAULT, SYSTEMS, Part, part

Kinds: TypeAlias = Mapping[str, Mapping[str, type[Any]]]
COMPARED = ("admission", "orderer", "router")
"""The kinds of which a shadow can be asked: a cap is not a choice between things that are there."""
KINDS: Kinds = {
    "admission": ADMISSIONS,
    "orderer": ORDERERS,
    "router": ROUTERS,
    "puller": PULLERS,
    "grouper": GROUPERS,
    "planner": PLANNERS,
    "rescheduler": RESCHEDULERS,
}


@dataclass(frozen=True, slots=True)
class Cast:
    """The policies of a shadow by kind, with their names; kinds that it leaves out are not compared."""

    policies: Mapping[str, Any]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Policies:
    """One policy of each kind, with the names that decisions are recorded under, and the casts of shadows by name."""

    admission: Admission
    orderer: Orderer
    router: Router
    puller: Puller
    grouper: Grouper
    planner: Planner
    rescheduler: Rescheduler
    names: Mapping[str, str]
    shadows: Mapping[str, Cast] = field(default_factory=dict)


def build(config: Config, kinds: Kinds = KINDS) -> Policies:
    """The policies that the configuration names; raises ConfigError for an unknown name or a bad parameter."""
    chosen = {kind: choice(config, kind) for kind in KINDS}
    return Policies(
        **{kind: _policy(kinds, kind, part) for kind, part in chosen.items()},
        names={kind: part.name for kind, part in chosen.items()},
        shadows={name: _cast(name, table, kinds) for name, table in config.shadows.items()},
    )


def _cast(name: str, table: Mapping[str, object], kinds: Kinds) -> Cast:
    section = f"scheduler.shadows.{name}"
    if not isinstance(table, Mapping):
        raise ConfigError(f'[{section}] must be a table such as router = "round_robin"')
    shadow = from_mapping(Shadow, table, section)
    config = Config(**{f: getattr(shadow, f) for f in Shadow.__dataclass_fields__})
    told = [kind for kind in COMPARED if shadow.system != DEFAULT or getattr(shadow, kind)]
    if not told:
        raise ConfigError(f"[{section}] names no policy; set a system or one of {', '.join(COMPARED)}")
    chosen = {kind: choice(config, kind) for kind in told}
    policies = {kind: _policy(kinds, kind, part, section) for kind, part in chosen.items()}
    return Cast(policies, {kind: part.name for kind, part in chosen.items()})


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


def _policy(kinds: Kinds, kind: str, chosen: Part, section: str = "scheduler") -> Any:
    known = kinds[kind]
    if chosen.name not in known:
        raise ConfigError(f"unknown {kind} {chosen.name!r} in [{section}]; known: {', '.join(sorted(known))}")
    return from_mapping(known[chosen.name], chosen.parameters, f"{section}.{kind}_parameters")
