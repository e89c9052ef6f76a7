"""What the engine asks its shell to do."""

from dataclasses import dataclass

from forebay.core.scheduling import Placement, Rejected, Retry
from forebay.core.values import InferenceRequest, LengthQuantiles, WakeAt
from forebay.scheduler.policy.planner.base import PlanView


@dataclass(frozen=True, slots=True)
class Observe:
    """Tell the predictor how long an answer became, and what who predicted; `censored` when it was cut at its limit."""

    request: InferenceRequest
    predicted: LengthQuantiles
    generated_tokens: int
    censored: bool
    predicted_by: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Ask the planner in the background and tell its answer by `on_planned`, once; None where there is none."""

    model: str
    view: PlanView


@dataclass(frozen=True, slots=True)
class Migrate:
    """Move a running request to another instance, if that is possible, and tell by `on_moved` once it has moved."""

    placement: Placement
    instance_id: str


Action = Placement | Rejected | Retry | WakeAt | Observe | Plan | Migrate
"""Everything an engine event may give back; answers go to whoever sent the request of their `request_id`."""
