"""Orderer: which held request is next."""

from forebay.scheduler.policy.orderer.base import Orderer
from forebay.scheduler.policy.orderer.fcfs import Fcfs
from forebay.scheduler.policy.orderer.shortest_predicted import ShortestPredicted

ORDERERS: dict[str, type[Orderer]] = {
    "fcfs": Fcfs,
    "shortest_predicted": ShortestPredicted,
}
