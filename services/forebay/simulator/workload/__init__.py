"""What arrives: the columns of a workload, generators, and what may be done to one before it is run."""

from forebay.simulator.workload.base import Ragged, Workload, change, make_workload, take

__all__ = ["Ragged", "Workload", "change", "make_workload", "take"]
