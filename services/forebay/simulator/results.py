"""What one run gives: a row a request, a row a change of the fleet, and what was counted on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]

STATUSES = ("finished", "rejected", "failed", "unfinished")
"""What became of a request; the column `status` indexes it."""

UNKNOWN = -1
"""Where a time or a count does not exist, such as the first token of a rejected request."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestColumns:
    """One entry a request, in the order of the workload's rows; times in microseconds from the start of the run.

    `arrival_us` is when the client sent it (for a closed loop: what the loop made of it), `first_us` and `finish_us`
    when the first and last token reached the client. `held_us` was spent in the scheduler's queue. `instance` indexes
    `RunResult.instances`. `predicted_p50` and `predicted_p90` are what the scheduler acted on. `lost_tokens` is what
    evictions dropped from caches, to be computed again, `gap_us` the longest time between two tokens of the answer.
    """

    arrival_us: Ints
    first_us: Ints
    finish_us: Ints
    held_us: Ints
    status: Ints
    slo_class: Ints
    model: Ints
    tenant: Ints
    region: Ints
    program: Ints
    instance: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    hit_tokens: Ints
    predicted_p50: Ints
    predicted_p90: Ints
    preemption_count: Ints
    lost_tokens: Ints
    gap_us: Ints
    attempt_count: Ints
    deadline_us: Ints


@dataclass(frozen=True, slots=True)
class FleetChange:
    """An instance entered a state (`core.values.InstanceState` name, or SPOT while it is lent out)."""

    at_us: int
    instance_id: str
    model: str
    region: str
    gpu: str
    gpu_count: int
    state: str
    spot: bool = False
    """Whether its provider may take it back."""


class KnobTurn(NamedTuple):
    """The GPUs of an instance run at this share of their full clock from then on."""

    at_us: int
    instance_id: str
    frequency: float


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """Everything that one run leaves: enough for every table and plot, and no text of any prompt."""

    name: str
    seed: int
    load: float
    end_us: int
    requests: RequestColumns
    models: tuple[str, ...]
    tenants: tuple[str, ...]
    regions: tuple[str, ...]
    instances: tuple[str, ...]
    changes: tuple[FleetChange, ...]
    counters: Mapping[str, float] = field(default_factory=dict)
    rejections: Mapping[str, int] = field(default_factory=dict)
    turns: tuple[KnobTurn, ...] = ()
