"""What the engine knows of one scaled model: its load over time, its target, its failures and its last decision."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay.autoscaler.config import ModelConfig
from forebay.autoscaler.limits import Spans, clamp
from forebay.autoscaler.policy.autoscaler.base import Autoscaler, Choice, ForecastWindow, ModelView, Samples
from forebay.core.fleet import Bounds
from forebay.core.values import ModelLoad

SAMPLE_COUNT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Counts:
    """One model's instances in numbers; `lost` are neither ready nor starting, and `total` are all not stopped."""

    ready: int = 0
    starting: int = 0
    leaving: int = 0
    total: int = 0

    @property
    def active(self) -> int:
        """Ready and starting."""
        return self.ready + self.starting


@dataclass(slots=True)
class Plan:
    """The mutable part of one model; `wish` is the last answer of the policy, or what holds without one."""

    config: ModelConfig
    bounds: Bounds
    wish: int
    reason: str = "the plan at the start"
    inputs: Mapping[str, float] = field(default_factory=dict)
    load: ModelLoad = field(default_factory=lambda: ModelLoad(""))
    failure_count: int = 0
    retry_us: int = 0
    last_decision_id: str = ""
    noted_change: tuple[object, ...] = ()
    noted_bound: tuple[object, ...] = ()
    _seen_us: int | None = None
    _concurrency: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SAMPLE_COUNT_MAX))
    _recommendations: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SAMPLE_COUNT_MAX))
    _memo: Mapping[str, float] = field(default_factory=dict)

    @property
    def target(self) -> int:
        """The wish within the bounds."""
        return clamp(self.wish, self.bounds)

    def observe(self, load: ModelLoad, now_us: int) -> None:
        """Takes one sample: what is held and what is in flight are both wanted at once."""
        self.load = load
        self._seen_us = now_us
        self._concurrency.append((now_us, float(load.held_count + load.in_flight_count)))

    def choose(
        self, policy: Autoscaler, counts: Counts, forecast: tuple[ForecastWindow, ...], spans: Spans, now_us: int
    ) -> None:
        """Lets the policy choose; without a fresh sample the last plan holds, unless the policy needs none."""
        silent = self._seen_us is None or now_us - self._seen_us > spans.snapshot_age_us_max
        if silent and policy.needs.history_us:
            self.reason, self.inputs = "no fresh metrics, so the last plan holds", {}
            # What the policy remembers is from before the gap: it begins as after a restart.
            self._memo = {}
            return
        since_us = now_us - policy.needs.history_us
        for series in (self._concurrency, self._recommendations):
            while len(series) > 1 and series[0][0] <= since_us:
                series.popleft()
        choice = policy.choose(self._view(counts, forecast, now_us))
        self._take(choice, now_us)

    def failed(self, spans: Spans, now_us: int) -> None:
        """One more start came to nothing: the next waits, longer each time."""
        self.failure_count += 1
        self.retry_us = now_us + spans.backoff_us(self.failure_count)
        self.noted_change = ()

    def _take(self, choice: Choice, now_us: int) -> None:
        self.wish, self.reason, self.inputs = max(0, choice.instances_wanted), choice.reason, choice.inputs
        self._recommendations.append((now_us, float(choice.recommended)))
        self._memo = choice.memo

    def _view(self, counts: Counts, forecast: tuple[ForecastWindow, ...], now_us: int) -> ModelView:
        samples: Samples = tuple(self._concurrency)
        return ModelView(
            model=self.config.name,
            now_us=now_us,
            ready_count=counts.ready,
            starting_count=counts.starting,
            draining_count=counts.leaving,
            instances_wanted=self.target,
            instances_min=self.bounds.instances_min,
            instances_max=self.bounds.instances_max,
            instances_initial=self.config.instances_initial,
            concurrency_target=self.config.concurrency_target,
            load=self.load,
            concurrency=samples,
            recommendations=tuple(self._recommendations),
            forecast=forecast,
            memo=self._memo,
        )
