"""Rescheduler: which running requests move to another instance."""

from forebay.scheduler.policy.rescheduler.base import Rescheduler
from forebay.scheduler.policy.rescheduler.llumnix import Llumnix
from forebay.scheduler.policy.rescheduler.none import NoMoves

RESCHEDULERS: dict[str, type[Rescheduler]] = {
    "llumnix": Llumnix,
    "none": NoMoves,
}
