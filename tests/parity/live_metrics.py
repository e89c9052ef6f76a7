"""The live metrics service, fed with a journal: servicer, readers of pages, store and converters are real."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lmaas.autoscaler.v1.autoscaler_service_pb2 import WatchFleetResponse
from lmaas.metrics.v1 import event_pb2
from lmaas.metrics.v1 import metrics_service_pb2 as pb
from prometheus_client import CollectorRegistry

from forebay.core.metrics import Event, QueueSample, RequestRecord
from forebay.core.values import Instance
from forebay.gateway import messages
from forebay.gateway.values import Report
from forebay.metrics.config import Config
from forebay.metrics.engine import MetricsEngine, Reading
from forebay.metrics.loop import take_page
from forebay.metrics.prometheus import RequestStats
from forebay.metrics.readings import rows_of
from forebay.metrics.servicer import MetricsServicer
from forebay.metrics.store import MemoryStore
from forebay.metrics.writer import Writer
from forebay.simulator.shell.journal import Entry
from forebay.wire import convert
from forebay.wire.convert_metrics import event_to_proto, snapshot_from_proto
from forebay.wire.reporter import Reporter
from tests.parity.journal_kit import Clock, Heard, Post, Replay, Wire, told
from tests.parity.scenarios import Case

PART = "metrics"


def wanted(journal: Sequence[Entry], case: Case) -> Replay:
    """What the journal says that metrics hears, and the snapshots that it gives."""
    replay = Replay(told(journal, PART))
    for entry in journal:
        if (entry.part, entry.event) == (PART, "snapshot"):
            replay.note("snapshots", entry.now_us, entry.answer)
        if (entry.part, entry.event) == (PART, "on_event") and isinstance(entry.arguments[0].kind, RequestRecord):
            replay.note("kept", entry.arguments[0].kind)
    replay.done.get("kept", []).sort(key=_order)
    return replay


def _order(kept: Any) -> tuple[int, str]:
    return kept[0].arrival_us, kept[0].request_id


@dataclass
class Live:
    """One live metrics service; fields are what a sabotage may replace."""

    case: Case
    clock: Clock
    post: Post = field(default_factory=Post)

    def __post_init__(self) -> None:
        self.journal, self.replay = Heard(), Replay()
        config = Config()
        engine = MetricsEngine(config.unreachable_after_count, config.queue_stale_after_us)
        self.engine = self.journal.watch(PART, engine, lambda: self.clock.now_us)
        self.store = MemoryStore()
        self.servicer = MetricsServicer(
            self.engine, Directly(self.store), self.store, RequestStats(CollectorRegistry()), self.clock
        )
        wire: Any = Wire(self.post, self.servicer)
        self._reporter = Reporter(wire)
        self._records: dict[str, Any] = {}
        self._instances: dict[str, Instance] = {}

    async def run(self, journal: Sequence[Entry]) -> Replay:
        """Hears the journal."""
        for entry in journal:
            await self.hear(entry)
        self.replay.told = told(self.journal.entries, PART)
        for _, record in self.store.requests("", 0, None, 10**6):
            self.replay.note("kept", record)
        self.replay.done.get("kept", []).sort(key=_order)
        return self.replay

    async def hear(self, entry: Entry) -> None:
        """Hears one entry of the journal, of whichever part."""
        if entry.part == "gateway":
            for action in entry.answer:
                if isinstance(action, Report):
                    self._records[action.record.request.request_id] = action.record
        elif entry.part == PART:
            self.clock.now_us = entry.now_us
            await getattr(self, f"_{entry.event}")(*entry.arguments)

    async def _on_event(self, event: Event, now_us: int) -> None:
        self._reporter.report(self.post.carry(self._message(event)))
        await self._reporter.flush()

    def _message(self, event: Event) -> event_pb2.Event:
        """The event as the gateway reports it; the scheduler's samples are compared where they are made."""
        if isinstance(event.kind, QueueSample):
            return event_to_proto(event)
        return messages.event(self._records[event.event_id])

    async def _on_fleet(self, instances: Sequence[Instance], now_us: int) -> None:
        message = self.post.carry(WatchFleetResponse(instances=map(convert.instance_to_proto, instances)))
        fleet = tuple(convert.instance_from_proto(one) for one in message.instances)
        self._instances = {one.instance_id: one for one in fleet}
        self.engine.on_fleet(fleet, self.clock())

    async def _on_reading(self, instance_id: str, reading: Reading | None, now_us: int) -> None:
        instance = self._instances[instance_id]
        rows = None if reading is None else rows_of(page_of(instance.model, reading))
        take_page(self.engine, [instance], rows, True, self.clock())

    async def _on_silence(self, instance_id: str, now_us: int) -> None:
        take_page(self.engine, [self._instances[instance_id]], None, False, self.clock())

    async def _snapshot(self, now_us: int) -> None:
        answer = await self.servicer.GetSnapshot(pb.GetSnapshotRequest(), None)
        self.replay.note("snapshots", self.clock.now_us, snapshot_from_proto(self.post.carry(answer).snapshot))


class Directly(Writer):
    """Keeps events at once, so that whoever asks for history next finds them."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store, 1, 1)
        self._to = store

    async def submit(self, events: Sequence[Event]) -> None:
        """Keeps the events."""
        self._to.append(events)


def page_of(model: str, reading: Reading) -> str:
    """The page of a server on which the engine stands so."""
    labels = f'{{model="{model}",version="1"}}'
    values = {
        "vllm:num_requests_running": reading.running_count,
        "vllm:num_requests_waiting": reading.waiting_count,
        "vllm:kv_cache_usage_perc": reading.kv_utilization,
        "nv_inference_request_success": reading.success_total,
        "nv_inference_request_failure": reading.failure_total,
    }
    return "".join(f"{name}{labels} {value!r}\n" for name, value in values.items() if value is not None)
