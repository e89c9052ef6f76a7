"""The state behind snapshots: who answers, what each instance tells, and each model's last minute."""

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from forebay.core.metrics import Event, QueueSample, RequestRecord, RequestStatus, Snapshot
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceLoad, ModelLoad

WINDOW_US = 60 * US_PER_S
"""Span of a ModelLoad's counts."""
EVENT_IDS_MAX = 200_000
"""Events remembered to know one that comes twice; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an instance's server told of it; None where it does not tell."""

    running_count: int | None = None
    waiting_count: int | None = None
    kv_utilization: float | None = None
    success_total: int = 0
    failure_total: int = 0


@dataclass(slots=True)
class _Watched:
    """One instance with the last that was seen of it."""

    instance: Instance
    reading: Reading = Reading()
    seen_us: int = 0
    reachable: bool = False
    failure_count: int = 0


@dataclass(slots=True)
class _Window:
    """The requests of one model that ended within the last minute, their sums, and the first-token times, sorted, of
    those that succeeded."""

    ended: list[tuple[int, int, RequestRecord]] = field(default_factory=list)
    ttfts_us: list[int] = field(default_factory=list)
    failed_count: int = 0
    prompt_tokens: int = 0
    response_tokens: int = 0

    def add(self, end_us: int, sequence: int, record: RequestRecord) -> None:
        heapq.heappush(self.ended, (end_us, sequence, record))
        self._sum(record, 1)
        ttft_us = _ttft_us(record)
        if ttft_us is not None:
            insort(self.ttfts_us, ttft_us)

    def expire(self, before_us: int) -> None:
        while self.ended and self.ended[0][0] <= before_us:
            record = heapq.heappop(self.ended)[2]
            self._sum(record, -1)
            ttft_us = _ttft_us(record)
            if ttft_us is not None:
                del self.ttfts_us[bisect_left(self.ttfts_us, ttft_us)]

    def _sum(self, record: RequestRecord, sign: int) -> None:
        self.failed_count += sign * (record.status is RequestStatus.FAILED)
        self.prompt_tokens += sign * record.prompt_tokens
        self.response_tokens += sign * record.response_tokens

    def ttft_s(self) -> tuple[float, float]:
        """Median and 99th percentile of those that succeeded, linear between ranks; zeros where none did."""
        if not self.ttfts_us:
            return 0.0, 0.0
        return quantile(self.ttfts_us, 0.50) / US_PER_S, quantile(self.ttfts_us, 0.99) / US_PER_S


def _ttft_us(record: RequestRecord) -> int | None:
    return record.ttft_us if record.status is RequestStatus.OK else None


def quantile(values: Sequence[int], level: float) -> float:
    """The quantile of sorted values, linear between ranks; to the last bit what numpy's `quantile` gives."""
    place = level * (len(values) - 1)
    index = min(int(place), len(values) - 2)
    if index < 0:
        return float(values[0])
    low, high, share = values[index], values[index + 1], place - index
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


class MetricsEngine:
    """Takes the fleet, readings and events; gives snapshots. Not thread-safe."""

    def __init__(self, unreachable_after_count: int, queue_stale_after_us: int) -> None:
        self._unreachable_after_count = unreachable_after_count
        self._queue_stale_after_us = queue_stale_after_us
        self._watched: dict[str, _Watched] = {}
        self._windows: dict[str, _Window] = {}
        self._queues: dict[tuple[str, str], tuple[int, QueueSample]] = {}
        self._event_ids: OrderedDict[str, None] = OrderedDict()
        self._sequence = 0

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The fleet as last told, by id."""
        return tuple(self._watched[name].instance for name in sorted(self._watched))

    def on_fleet(self, instances: Sequence[Instance], now_us: int) -> None:
        """The fleet is `instances` and no other; what was seen of those that stay is kept."""
        known = self._watched
        self._watched = {one.instance_id: _joined(known.get(one.instance_id), one) for one in instances}

    def on_reading(self, instance_id: str, reading: Reading | None, now_us: int) -> None:
        """The instance's server answered; `reading` is None where it told no more than that."""
        watched = self._watched.get(instance_id)
        if watched is not None:
            watched.reading = reading or watched.reading
            watched.seen_us, watched.reachable, watched.failure_count = now_us, True, 0

    def on_report(
        self, instance_id: str, running: int | None, waiting: int | None, kv_utilization: float | None, now_us: int
    ) -> None:
        """The instance's server told its load by itself; what it does not tell stays as it was."""
        watched = self._watched.get(instance_id)
        if watched is not None:
            known = watched.reading
            watched.reading = replace(
                known,
                running_count=known.running_count if running is None else running,
                waiting_count=known.waiting_count if waiting is None else waiting,
                kv_utilization=known.kv_utilization if kv_utilization is None else kv_utilization,
            )
            watched.seen_us, watched.reachable, watched.failure_count = now_us, True, 0

    def on_silence(self, instance_id: str, now_us: int) -> None:
        """The instance's server did not answer a probe; enough of these in a row make it unreachable."""
        watched = self._watched.get(instance_id)
        if watched is not None:
            watched.failure_count += 1
            watched.reachable = watched.reachable and watched.failure_count < self._unreachable_after_count

    def on_event(self, event: Event, now_us: int) -> bool:
        """Takes an event; False when it was taken before."""
        if event.event_id in self._event_ids:
            return False
        self._event_ids[event.event_id] = None
        if len(self._event_ids) > EVENT_IDS_MAX:
            self._event_ids.popitem(last=False)
        if isinstance(event.kind, RequestRecord):
            self._ended(event.kind, now_us)
        elif isinstance(event.kind, QueueSample):
            self._queued(event.kind, now_us)
        return True

    def _ended(self, record: RequestRecord, now_us: int) -> None:
        # A reporter whose clock runs ahead must not keep its requests in the window for longer.
        end_us = min(record.end_us, now_us)
        if end_us > now_us - WINDOW_US:
            self._sequence += 1
            self._windows.setdefault(record.model, _Window()).add(end_us, self._sequence, record)

    def _queued(self, sample: QueueSample, now_us: int) -> None:
        key = (sample.model, sample.scheduler_id)
        known = self._queues.get(key)
        if known is None or known[1].sample_us <= sample.sample_us:
            self._queues[key] = (now_us, sample)

    def snapshot(self, now_us: int) -> Snapshot:
        """The state of everything at `now_us`: instances by id, models by name.

        An instance that neither answered nor failed to answer often enough is left out: nothing is known of it.
        """
        self._expire(now_us)
        models = {watched.instance.model for watched in self._watched.values()}
        models.update(self._windows, (model for model, _ in self._queues))
        return Snapshot(
            snapshot_us=now_us,
            instances=tuple(_load(self._watched[name]) for name in sorted(self._watched) if self._is_judged(name)),
            models=tuple(self._model_load(model) for model in sorted(models)),
        )

    def _is_judged(self, instance_id: str) -> bool:
        watched = self._watched[instance_id]
        return watched.seen_us > 0 or watched.failure_count >= self._unreachable_after_count

    def _expire(self, now_us: int) -> None:
        for window in self._windows.values():
            window.expire(now_us - WINDOW_US)
        self._windows = {model: window for model, window in self._windows.items() if window.ended}
        oldest_us = now_us - self._queue_stale_after_us
        self._queues = {key: known for key, known in self._queues.items() if known[0] > oldest_us}

    def _model_load(self, model: str) -> ModelLoad:
        samples = [sample for (name, _), (_, sample) in self._queues.items() if name == model]
        window = self._windows.get(model, _Window())
        ttft_p50_s, ttft_p99_s = window.ttft_s()
        return ModelLoad(
            model=model,
            held_count=sum(sample.held_count for sample in samples),
            in_flight_count=sum(sample.in_flight_count for sample in samples),
            ended_count=len(window.ended),
            failed_count=window.failed_count,
            ttft_p50_s=ttft_p50_s,
            ttft_p99_s=ttft_p99_s,
            prompt_tokens=window.prompt_tokens,
            response_tokens=window.response_tokens,
        )


def _joined(known: _Watched | None, instance: Instance) -> _Watched:
    if known is None or known.instance.grpc_address != instance.grpc_address:
        return _Watched(instance)
    known.instance = instance
    return known


def _load(watched: _Watched) -> InstanceLoad:
    reading = watched.reading
    return InstanceLoad(
        instance_id=watched.instance.instance_id,
        model=watched.instance.model,
        reachable=watched.reachable,
        seen_us=watched.seen_us,
        running_count=reading.running_count,
        waiting_count=reading.waiting_count,
        kv_utilization=reading.kv_utilization,
        success_total=reading.success_total,
        failure_total=reading.failure_total,
    )
