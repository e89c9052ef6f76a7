"""How deferred work is taken, paced and kept: section [gateway.deferred] of forebay.toml."""

import dataclasses
from dataclasses import dataclass

from forebay.core.units import US_PER_S

_DAY_S = 86_400
_ZERO_ALLOWED = ("window_min", "prompt_weight")


@dataclass(frozen=True, slots=True)
class DeferredConfig:
    """Limits, pace and retention of deferred work. Raises ValueError for a value that makes no sense."""

    enabled: bool = True
    """Whether this gateway takes and runs deferred work."""
    requests_max: int = 50_000
    """Most requests of one job; OpenAI's limit."""
    file_bytes_max: int = 200 * 1024 * 1024
    """Largest file that is taken; OpenAI's limit."""
    file_timeout_s: float = 600.0
    """Longest time that a client may take to send a file."""
    open_jobs_max: int = 1_000
    """Most jobs of one tenant that have not ended; more are refused with 429."""
    completion_s_min: float = 60.0
    """Shortest completion window."""
    completion_s_max: float = 7.0 * _DAY_S
    """Longest completion window; a scheduler knows deadlines of up to 7 days."""
    window_min: int = 8
    """Requests of a model that this gateway keeps in flight while the forecast is calm, or while there is none."""
    window_max: int = 64
    """Most requests of a model that this gateway keeps in flight."""
    claim_s: float = 60.0
    """A gateway that does not renew its claim on a request for so long is taken for dead. Clocks of gateways must agree
    to a fraction of it."""
    poll_s: float = 1.0
    """How often the open jobs are read from the store."""
    attempts_max: int = 5
    """Broken answers after which a request fails; one that finds no room is tried until its deadline."""
    claims_max: int = 50
    """Gateways that may die while they hold a request, after which it fails: it may be what kills them."""
    retry_s: float = 1.0
    """First pause after a failed attempt where nobody says how long; it doubles each time."""
    retry_s_max: float = 60.0
    """Longest such pause."""
    margin: float = 0.1
    """Part of the time to a deadline that the plan leaves free."""
    calm_share: float = 0.6
    """Windows whose forecast demand lies below this part of the forecast peak are valleys: they are filled up to it.
    SageServe hands deferred work to endpoints below 60 % of utilisation (section 9)."""
    prompt_weight: float = 0.1
    """Work of a prompt token in units of a generated one; ours, about what prefill costs on an A100."""
    forecast_window_s: float = 300.0
    """Length of a window of the forecast that the plan rests on."""
    forecast_windows_max: int = 288
    """Most windows that are forecast; what lies beyond is taken to be as their mean."""
    forecast_interval_s: float = 300.0
    """How often the forecast is asked for, for each model with open jobs."""
    forecast_history_min: int = 24
    """Windows of history below which a forecast counts as none."""
    retention_days: float = 30.0
    """How long jobs that ended and their results are kept."""
    input_retention_days: float = 30.0
    """How long input files are kept."""
    purge_interval_s: float = 3600.0
    """How often what is too old is deleted."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, bool) and (value < 0 or (value == 0 and field.name not in _ZERO_ALLOWED)):
                raise ValueError(f"{field.name} is {value}; it must be greater than 0")
        if self.completion_s_max > 7 * _DAY_S:
            raise ValueError(f"completion_s_max is {self.completion_s_max:g}; a week, {7 * _DAY_S:,} s, is the most")
        if self.margin >= 1:
            raise ValueError(f"margin is {self.margin}; it must be below 1")
        if self.window_min > self.window_max:
            raise ValueError(f"window_min is {self.window_min}; it must be at most window_max, {self.window_max}")

    @property
    def claim_us(self) -> int:
        """How long a claim lasts."""
        return round(self.claim_s * US_PER_S)

    @property
    def retention_us(self) -> int:
        """Age at which results are deleted."""
        return round(self.retention_days * _DAY_S * US_PER_S)

    @property
    def input_retention_us(self) -> int:
        """Age at which input files are deleted."""
        return round(self.input_retention_days * _DAY_S * US_PER_S)
