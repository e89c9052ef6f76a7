"""Orderer: which held request is next."""

from forebay.scheduler.policy.orderer.autellix import Autellix
from forebay.scheduler.policy.orderer.base import Orderer
from forebay.scheduler.policy.orderer.dpa import Dpa
from forebay.scheduler.policy.orderer.edf import Edf
from forebay.scheduler.policy.orderer.fcfs import Fcfs
from forebay.scheduler.policy.orderer.forebay import Forebay
from forebay.scheduler.policy.orderer.hrrn import Hrrn
from forebay.scheduler.policy.orderer.ltr import Ltr
from forebay.scheduler.policy.orderer.pf import Pf
from forebay.scheduler.policy.orderer.qlm import Qlm
from forebay.scheduler.policy.orderer.shortest_predicted import ShortestPredicted
from forebay.scheduler.policy.orderer.ssjf import Ssjf
from forebay.scheduler.policy.orderer.tempo import Tempo
from forebay.scheduler.policy.orderer.vtc import Vtc

ORDERERS: dict[str, type[Orderer]] = {
    "autellix": Autellix,
    "dpa": Dpa,
    "edf": Edf,
    "fcfs": Fcfs,
    "forebay": Forebay,
    "hrrn": Hrrn,
    "ltr": Ltr,
    "pf": Pf,
    "qlm": Qlm,
    "shortest_predicted": ShortestPredicted,
    "ssjf": Ssjf,
    "tempo": Tempo,
    "vtc": Vtc,
}
