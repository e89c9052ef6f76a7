"""Whole systems by one name: which policy of each kind they are made of."""

from collections.abc import Mapping
from typing import NamedTuple


class Part(NamedTuple):
    """One policy of a system, with the parameters that differ from its own defaults."""

    name: str
    parameters: Mapping[str, object] = {}


DEFAULT = "default"

SYSTEMS: dict[str, Mapping[str, Part]] = {
    DEFAULT: {
        "admission": Part("open"),
        "orderer": Part("fcfs"),
        "router": Part("least_predicted_tokens"),
        "puller": Part("fixed_cap"),
        "grouper": Part("magnus"),
        "planner": Part("none"),
        "rescheduler": Part("none"),
    },
    "ccb": {"puller": Part("ccb")},
    "chiron": {"orderer": Part("edf"), "router": Part("chiron"), "puller": Part("chiron")},
    "forebay": {"orderer": Part("forebay"), "router": Part("forebay")},
    "llumnix": {"router": Part("llumnix"), "puller": Part("unlimited")},
    "magnus": {"orderer": Part("fcfs"), "grouper": Part("magnus")},
    "maps": {"router": Part("maps"), "puller": Part("unlimited")},
    "preserve_artifact": {"router": Part("preserve_artifact"), "puller": Part("unlimited")},
    "preserve_paper": {"router": Part("preserve_paper"), "puller": Part("unlimited")},
    "qlm": {
        "orderer": Part("qlm"),
        "router": Part("qlm"),
        "puller": Part("fixed_cap", {"count": 10}),
        "planner": Part("qlm"),
    },
    "saber": {"orderer": Part("fcfs"), "puller": Part("saber")},
    "sageserve_dpa": {"orderer": Part("dpa"), "router": Part("sageserve")},
    "sageserve_edf": {"orderer": Part("edf"), "router": Part("sageserve")},
    "sageserve_fcfs": {"orderer": Part("fcfs"), "router": Part("sageserve")},
    "sageserve_pf": {"orderer": Part("pf"), "router": Part("sageserve")},
    "scorpio": {"admission": Part("scorpio"), "orderer": Part("edf")},
    "slo_feasible": {"admission": Part("slo_feasible"), "orderer": Part("edf")},
}
"""What `system = "name"` in [scheduler] stands for, by kind; what a system leaves out is that of the default."""


def part(system: str, kind: str) -> Part:
    """The system's policy of a kind; raises KeyError for an unknown system."""
    return SYSTEMS[system].get(kind) or SYSTEMS[DEFAULT][kind]
