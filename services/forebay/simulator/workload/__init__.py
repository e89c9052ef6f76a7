"""What arrives: the columns of a workload, generators, and what may be done to one before it is run."""

from forebay.simulator.workload.base import Workload, make_workload

__all__ = ["Workload", "make_workload"]
