"""Policies that know what nobody can know, as a yardstick for those that do not.

An oracle gets its truth in the constructor and answers the Protocol of its kind; no service can be configured with one.
`fluid` and `search` say how few instance-hours a trace can be served with at all.
"""

from forebay.predictor.policy.length import LengthPredictor
from forebay.simulator.oracles.fleet import ScheduledFleet
from forebay.simulator.oracles.forecast import ClairvoyantForecast
from forebay.simulator.oracles.length import ClairvoyantLength, NoisyLength
from forebay.simulator.oracles.recorded import RecordedLength

__all__ = [
    "AUTOSCALER_ORACLES",
    "FORECAST_ORACLES",
    "LENGTH_ORACLES",
    "ClairvoyantForecast",
    "ClairvoyantLength",
    "NoisyLength",
    "RecordedLength",
    "ScheduledFleet",
]

LENGTH_ORACLES: dict[str, type[LengthPredictor]] = {
    "clairvoyant": ClairvoyantLength,
    "noisy": NoisyLength,
}
FORECAST_ORACLES: dict[str, type[ClairvoyantForecast]] = {"clairvoyant": ClairvoyantForecast}
RECORDED: dict[str, type[LengthPredictor]] = {"recorded": RecordedLength}
"""What a real predictor said beforehand: no oracle, but an arm may only name it in the simulator."""
AUTOSCALER_ORACLES: dict[str, type[ScheduledFleet]] = {"clairvoyant": ScheduledFleet}
