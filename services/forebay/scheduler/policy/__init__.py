"""The scheduler's policies: one folder a kind, one file a policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.scheduler.policy.admission import ADMISSIONS
from forebay.scheduler.policy.admission.base import Admission
from forebay.scheduler.policy.orderer import ORDERERS
from forebay.scheduler.policy.orderer.base import Orderer
from forebay.scheduler.policy.puller import PULLERS
from forebay.scheduler.policy.puller.base import Puller
from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.router.base import Router

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy's name and parameters, as the configuration gives them."""

    name: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Policies:
    """One policy of each kind, with the names that decisions are recorded under."""

    admission: Admission
    orderer: Orderer
    router: Router
    puller: Puller
    names: Mapping[str, str]


def build(admission: Choice, orderer: Choice, router: Choice, puller: Choice) -> Policies:
    """The policies of these names; raises ConfigError for an unknown name or a bad parameter."""
    chosen = {"admission": admission, "orderer": orderer, "router": router, "puller": puller}
    return Policies(
        admission=_policy(ADMISSIONS, "admission", admission),
        orderer=_policy(ORDERERS, "orderer", orderer),
        router=_policy(ROUTERS, "router", router),
        puller=_policy(PULLERS, "puller", puller),
        names={kind: choice.name for kind, choice in chosen.items()},
    )


def _policy(known: Mapping[str, type[P]], kind: str, choice: Choice) -> P:
    if choice.name not in known:
        raise ConfigError(f"unknown {kind} {choice.name!r} in [scheduler]; known: {', '.join(sorted(known))}")
    return from_mapping(known[choice.name], choice.parameters, f"scheduler.{kind}_parameters")
