"""SCORPIO's two guards: of the first token by what can be in time, of the others by a virtual batch."""

from dataclasses import dataclass
from typing import ClassVar

from forebay.core.units import US_PER_S
from forebay.scheduler.policy.admission.base import ADMITTED, AdmissionView, Admitted, Later, in_time


@dataclass(frozen=True, slots=True)
class Scorpio:
    """Refuses what cannot have its first token in time, and what would make the virtual batch too large ([R]).

    The rules are those of section 3 of the summary of related work. The first guard goes with the orderer `edf`, least
    deadline first (`system = "scorpio"` is both). The second gives each request that runs the credit S_min / S, where S
    is the time between tokens that its class is promised and S_min the shortest: a loose one takes little of the batch.
    The credits of an instance may add up to `virtual_count_max`, a number that the summary does not tell: ours is what
    the catalogue's 8B models hold 200 ms a token at. The paper spends credits step by step inside the engine; here they
    only bound how many enter.
    """

    looks_ahead: ClassVar[bool] = True

    margin: float = 1.0
    virtual_count_max: float = 64.0
    retry_delay_s: float = 1.0

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError("margin must not be negative")
        if min(self.virtual_count_max, self.retry_delay_s) <= 0:
            raise ValueError("virtual_count_max and retry_delay_s must be positive")

    def admit(self, view: AdmissionView) -> Admitted | Later:
        """Now, when it would be in time, or soon."""
        said = in_time(view, self.margin)
        if isinstance(said, Later) or not view.ready_count or not view.lease_count:
            return said
        own = view.tightest_itl_us / view.itl_us if view.itl_us else 1.0
        most = self.virtual_count_max * view.ready_count
        if view.virtual_count + own <= most:
            return ADMITTED
        return Later(
            "VIRTUAL_BATCH_FULL",
            f"model {view.model!r} runs a virtual batch of {view.virtual_count:.1f}; with {own:.2f} more its bound of "
            f"{most:.1f} is exceeded; come back after the delay",
            round(self.retry_delay_s * US_PER_S),
        )
