"""Puller: how many requests may be in flight on an instance."""

from forebay.scheduler.policy.puller.base import Puller
from forebay.scheduler.policy.puller.ccb import Ccb
from forebay.scheduler.policy.puller.chiron import Chiron
from forebay.scheduler.policy.puller.fixed_cap import FixedCap
from forebay.scheduler.policy.puller.saber import Saber
from forebay.scheduler.policy.puller.unlimited import Unlimited

PULLERS: dict[str, type[Puller]] = {
    "ccb": Ccb,
    "chiron": Chiron,
    "fixed_cap": FixedCap,
    "saber": Saber,
    "unlimited": Unlimited,
}
