"""What the engine asks of its shell."""

from dataclasses import dataclass
from typing import TypeAlias

from forebay.core.fleet import Member, ScalingDecision
from forebay.core.values import Instance, WakeAt


@dataclass(frozen=True, slots=True)
class Start:
    """Ask the actuator to start it; then `on_actuated` or `on_actuator_failed`. The address may still be empty."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Retire:
    """Ask the actuator whether it may be taken out; then `on_retired`."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the actuator to end it, which is safe now; then `on_stopped`."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Changed:
    """Publish and keep the member as it stands; a stopped one is gone from the fleet."""

    member: Member


@dataclass(frozen=True, slots=True)
class Decided:
    """Keep the record of a decision."""

    decision: ScalingDecision


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """Keep the settings."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Tell the operator."""

    text: str


Action: TypeAlias = Start | Retire | Stop | Changed | Decided | SettingsChanged | Alarm | WakeAt
