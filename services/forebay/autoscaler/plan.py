"""What the engine knows of one pool: its load over time, its target, its failures, its starts and its last decision."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay.autoscaler.config import ModelConfig
from forebay.autoscaler.limits import Spans, clamp
from forebay.autoscaler.policy.autoscaler.base import (
    Capability,
    Choice,
    ForecastWindow,
    InstanceView,
    Lead,
    Needs,
    PoolView,
)
from forebay.core.fleet import Bounds, StartTime
from forebay.core.units import US_PER_S
from forebay.core.values import InstanceRole, ModelLoad

SAMPLE_COUNT_MAX = 10_000
START_COUNT_MAX = 32
"""Newest starts that tell how long the next one takes."""


@dataclass(frozen=True, slots=True)
class Counts:
    """One pool's instances in numbers; `lost` are neither ready nor starting, and `total` are all not stopped."""

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
    """The mutable part of one pool; `wish` is the last answer of the policy, or what holds without one.

    `bound_by` is the limit that kept the pool from its wish when it was last sized; empty: none.
    `told` is the number that those who start and end its instances are told; None: nothing yet.
    """

    config: ModelConfig
    bounds: Bounds
    wish: int
    told: int | None = None
    reason: str = "the plan at the start"
    flip: str = ""
    inputs: Mapping[str, float] = field(default_factory=dict)
    load: ModelLoad = field(default_factory=lambda: ModelLoad(""))
    failure_count: int = 0
    retry_us: int = 0
    last_decision_id: str = ""
    noted_change: tuple[object, ...] = ()
    noted_bound: tuple[object, ...] = ()
    bound_by: str = ""
    _seen_us: int | None = None
    _concurrency: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SAMPLE_COUNT_MAX))
    _recommendations: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SAMPLE_COUNT_MAX))
    _starts: deque[StartTime] = field(default_factory=lambda: deque(maxlen=START_COUNT_MAX))
    _steps: deque[tuple[int, int, int]] = field(default_factory=deque)
    _grown_us: int | None = None
    _memo: Mapping[str, float] = field(default_factory=dict)

    @property
    def target(self) -> int:
        """The wish within the bounds."""
        return clamp(self.wish, self.bounds)

    @property
    def lead(self) -> Lead:
        """How long a start takes, by the newest starts; what is configured before the first one."""
        if not self._starts:
            configured_us = int(self.config.start_s * US_PER_S)
            return Lead(configured_us, configured_us)
        ordered = sorted(one.took_us for one in self._starts)
        return Lead(ordered[len(ordered) // 2], ordered[(len(ordered) * 9) // 10])

    def observe(self, load: ModelLoad, concurrency: float, now_us: int) -> None:
        """Takes one sample of the model's load, and of the requests that this pool is to carry."""
        self.load = load
        self._seen_us = now_us
        self._concurrency.append((now_us, concurrency))

    @property
    def starts(self) -> tuple[StartTime, ...]:
        """The newest starts, oldest first."""
        return tuple(self._starts)

    def came_up(self, start: StartTime) -> None:
        """A start has come to an instance that is ready."""
        self._starts.append(start)

    def forget(self, before_us: int) -> None:
        """Starts that are older than that tell nothing any more."""
        while self._starts and self._starts[0].at_us < before_us:
            self._starts.popleft()

    def stepped(self, start_count: int, retire_count: int, now_us: int) -> None:
        """Takes note of what was asked for just now."""
        if start_count:
            self._grown_us = now_us
        if start_count or retire_count:
            self._steps.append((now_us, start_count, retire_count))

    def steps(self, since_us: int) -> tuple[int, int]:
        """How many instances were started and how many retired after a time; what is older is forgotten."""
        while self._steps and self._steps[0][0] <= since_us:
            self._steps.popleft()
        return sum(started for _, started, _ in self._steps), sum(retired for _, _, retired in self._steps)

    def is_dwelling(self, spans: Spans, now_us: int) -> bool:
        """Whether the pool grew so lately that it must not shrink: what starts is to serve before it goes."""
        dwell_us = self.lead.p90_us if spans.dwell_us < 0 else spans.dwell_us
        return self._grown_us is not None and now_us - self._grown_us < dwell_us

    def has_waiting(self, spans: Spans, now_us: int) -> bool:
        """Whether requests of the model wait for an instance, as far as a fresh sample tells."""
        return self.load.held_count > 0 and self._is_fresh(spans, now_us)

    def is_silent(self, needs: Needs, spans: Spans, now_us: int) -> bool:
        """Whether the policy needs samples and has no fresh one."""
        return bool(needs.history_us) and not self._is_fresh(spans, now_us)

    def _is_fresh(self, spans: Spans, now_us: int) -> bool:
        return self._seen_us is not None and now_us - self._seen_us <= spans.snapshot_age_us_max

    def hold(self, reason: str) -> None:
        """Nobody knows enough to choose: what was wanted holds."""
        self.reason, self.inputs, self.flip = reason, {}, ""
        # What the policy remembers is from before the gap: it begins as after a restart.
        self._memo = {}

    def unlearn(self) -> None:
        """Another policy is asked: what the last one remembers and recommended is none of its business."""
        self._memo = {}
        self._recommendations.clear()

    def failed(self, spans: Spans, now_us: int) -> None:
        """One more start came to nothing: the next waits, longer each time."""
        self.failure_count += 1
        self.retry_us = now_us + spans.backoff_us(self.failure_count)
        self.noted_change = ()

    def take(self, choice: Choice, now_us: int) -> None:
        """Takes the policy's choice."""
        self.wish, self.reason, self.inputs = max(0, choice.instances_wanted), choice.reason, choice.inputs
        self.flip = choice.flip
        self._recommendations.append((now_us, float(choice.recommended)))
        self._memo = choice.memo

    def view(
        self,
        counts: Counts,
        instances: tuple[InstanceView, ...],
        forecast: tuple[ForecastWindow, ...],
        needs: Needs,
        now_us: int,
    ) -> PoolView:
        """The pool as a policy sees it."""
        _forget(self._concurrency, now_us - needs.history_us)
        _forget(self._recommendations, now_us - max(needs.history_us, needs.recommended_us))
        config = self.config
        gpu, gpu_count = config.hardware
        return PoolView(
            model=config.name,
            now_us=now_us,
            ready_count=counts.ready,
            starting_count=counts.starting,
            draining_count=counts.leaving,
            instances_wanted=self.target,
            instances_min=self.bounds.instances_min,
            instances_max=self.bounds.instances_max,
            instances_initial=config.instances_initial,
            concurrency_target=config.concurrency_target,
            load=self.load,
            concurrency=tuple(self._concurrency),
            recommendations=tuple(self._recommendations),
            forecast=forecast,
            memo=self._memo,
            pool=config.pool_name,
            region=config.region,
            role=InstanceRole[config.role.upper()],
            gpu=gpu,
            gpu_count=gpu_count,
            gpu_hour_price=config.gpu_hour_price,
            profile=config.profile,
            kv_tokens=config.kv_tokens_max,
            capability=Capability(config.prompt_tokens_per_s, config.response_tokens_per_s, config.tokens_per_s),
            lead=self.lead,
            instances=instances,
        )


def _forget(series: deque[tuple[int, float]], since_us: int) -> None:
    """Drops what is older, but for the last of it."""
    while len(series) > 1 and series[0][0] <= since_us:
        series.popleft()
