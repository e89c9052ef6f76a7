"""The plugin's configuration: table [predictor.dynamo]."""

import re
from dataclasses import dataclass

from forebay.core.prediction import QUANTILE_LEVELS

_ENDPOINT = re.compile(r"grpc://[^/\s]+:\d+")


@dataclass(frozen=True, slots=True)
class DynamoConfig:
    """Where the planner is and how it is told of us; raises ValueError for values that make no sense.

    The plugin is served in any case. With `registry` (host:port of the planner's plugin gateway) it makes itself known
    there as `plugin_id`, to be called at `endpoint` (grpc://host:port, as the planner reaches us), before plugins of a
    higher `priority` number. `token_file` holds the shared secret where the planner wants one. `window_s` is how long
    the windows are that it observes and that we forecast, a multiple of its own interval; 0: its own interval.
    Of the forecast the planner is told the quantile `quantile`: 0.5 is the median, 0.9 plans for busy windows.
    """

    registry: str = ""
    endpoint: str = ""
    plugin_id: str = "forebay-predictor"
    priority: int = 10
    token_file: str = ""
    window_s: float = 0.0
    quantile: float = 0.5
    heartbeat_s: float = 5.0

    def __post_init__(self) -> None:
        if self.registry and not _ENDPOINT.fullmatch(self.endpoint):
            raise ValueError("endpoint must be grpc://host:port where registry is set, as the planner reaches it")
        if self.quantile not in QUANTILE_LEVELS:
            raise ValueError(f"quantile must be one of {', '.join(map(str, QUANTILE_LEVELS))}")
        if self.window_s < 0 or self.heartbeat_s <= 0 or self.priority < 0:
            raise ValueError("window_s and priority must not be negative, and heartbeat_s must be above 0")
        if not self.plugin_id:
            raise ValueError("plugin_id must not be empty")
