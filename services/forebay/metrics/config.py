"""The metrics service's configuration, section [metrics]."""

from dataclasses import dataclass, field, fields

from forebay.core.units import US_PER_S
from forebay.metrics.page.config import PageConfig


@dataclass(frozen=True, slots=True)
class Config:
    """What can be set; every value must be above zero. `page` is [metrics.page].

    An instance counts as unreachable after `unreachable_after_count` failed probes in a row, so a dead one is known
    within that many times `scrape_interval_s` plus the timeouts.
    """

    scrape_interval_s: float = 1.0
    scrape_timeout_s: float = 0.75
    probe_timeout_s: float = 0.5
    scrape_concurrency_max: int = 256
    unreachable_after_count: int = 2
    queue_stale_after_s: float = 5.0
    fleet_retry_s: float = 1.0
    retention_days: float = 30.0
    prune_interval_s: float = 3600.0
    buffer_count_max: int = 100_000
    batch_count_max: int = 2_000
    shutdown_grace_s: float = 1.0
    load_reports: bool = False
    """Whether servers that offer it are asked for their load out of band (ORCA), beside being scraped."""
    load_report_interval_s: float = 0.25
    """How often they tell it then."""
    page: PageConfig = field(default_factory=PageConfig)

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name not in ("page", "load_reports") and not getattr(self, one.name) > 0:
                raise ValueError(f"{one.name} is {getattr(self, one.name)}; it must be above 0")

    @property
    def queue_stale_after_us(self) -> int:
        """Age at which a scheduler's sample stops to count."""
        return round(self.queue_stale_after_s * US_PER_S)

    @property
    def retention_us(self) -> int:
        """Age at which a record is deleted."""
        return round(self.retention_days * 86_400 * US_PER_S)
