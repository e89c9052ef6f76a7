"""Grouper: how held requests become static batches, and which batch is next."""

from forebay.scheduler.policy.grouper.base import Grouper
from forebay.scheduler.policy.grouper.magnus import Abp, Glp, Magnus, Vs, Vsq

GROUPERS: dict[str, type[Grouper]] = {
    "abp": Abp,
    "glp": Glp,
    "magnus": Magnus,
    "vs": Vs,
    "vsq": Vsq,
}
