"""The metrics service in virtual time: reads the instances, takes what is reported, and gives snapshots."""

from collections.abc import Sequence
from functools import partial

from forebay.core.metrics import Event, QueueSample, RequestRecord, RequestStatus, Snapshot
from forebay.core.units import US_PER_S
from forebay.core.values import Instance
from forebay.gateway.values import NO_PREDICTION
from forebay.gateway.values import RequestRecord as GatewayRecord
from forebay.metrics.config import Config
from forebay.metrics.engine import MetricsEngine, Reading
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.fleet_servers import Server, Servers


class MetricsShell:
    """The one caller of the metrics engine. An instance that is new in the fleet is read at once, then with all.

    One that hangs is silent once the live reader's patience with its page, and then with the server itself, is over.
    """

    def __init__(self, context: Context, engine: MetricsEngine, servers: Servers) -> None:
        self.engine = context.recorded("metrics", engine)
        self._context = context
        self._servers = servers
        self._watched: dict[str, Server] = {}
        config = Config()
        self._patience_us = round((config.scrape_timeout_s + config.probe_timeout_s) * US_PER_S)
        self._sample_count = 0
        self._snapshot = Snapshot(-1, (), ())

    def follow(self, instances: Sequence[Instance]) -> None:
        """The autoscaler publishes its fleet."""
        self.engine.on_fleet(instances, self._context.now_us)
        before, self._watched = self._watched, {}
        for instance in instances:
            server = self._servers.get(instance.instance_id)
            if server is None:
                continue
            self._watched[instance.instance_id] = server
            if instance.instance_id not in before:
                self._read(server)

    def scrape(self) -> None:
        """Reads all instances; those that do not answer are silent."""
        for server in self._watched.values():
            self._read(server)

    def snapshot(self) -> Snapshot:
        """The state of everything now; whoever asks at one instant is told the same."""
        now_us = self._context.now_us
        if self._snapshot.snapshot_us != now_us:
            self._snapshot = self.engine.snapshot(now_us)
        return self._snapshot

    def reported(self, record: RequestRecord) -> None:
        """A request ended."""
        self.engine.on_event(Event(record.request_id, record), self._context.now_us)

    def sampled(self, sample: QueueSample) -> None:
        """A scheduler told what it holds."""
        self._sample_count += 1
        event_id = f"{sample.scheduler_id}-q{self._sample_count}"
        self.engine.on_event(Event(event_id, sample), self._context.now_us)

    def _read(self, server: Server) -> None:
        if server.answers:
            self.engine.on_reading(server.instance_id, self._reading(server), self._context.now_us)
        elif server.hangs:
            self._context.after_us(self._patience_us, partial(self._silent, server))
        else:
            self._silent(server)

    def _silent(self, server: Server) -> None:
        if server.instance_id in self._watched:
            self.engine.on_silence(server.instance_id, self._context.now_us)

    def _reading(self, server: Server) -> Reading | None:
        """What the server's page tells of the engine; a model that is not loaded has no page."""
        if server.machine is None:
            return None
        view = self._context.kernel.view(server.machine.number)
        used_count = view.block_count - view.free_block_count
        return Reading(
            running_count=view.running_count,
            waiting_count=view.waiting_count,
            kv_utilization=used_count / view.block_count,
            success_total=view.finished_count,
            failure_total=view.cancelled_count,
        )


def record_of(record: GatewayRecord) -> RequestRecord:
    """A gateway's record as metrics takes it."""
    request, placed = record.request, record.placement
    predicted = None if placed is None or placed.predicted == NO_PREDICTION else placed.predicted
    return RequestRecord(
        request_id=request.request_id,
        model=request.model,
        arrival_us=record.arrival_us,
        status=RequestStatus(record.status),
        slo_class=request.slo_class,
        tenant=request.tenant,
        application=request.application,
        region=request.region,
        instance_id=placed.instance_id if placed else "",
        decision_id=placed.decision_id if placed else "",
        prompt_tokens=record.prompt_tokens,
        response_tokens=record.response_tokens,
        predicted_length=predicted,
        predicted_by=placed.predicted_by if placed else "",
        held_us=record.placed_us - record.arrival_us if record.placed_us else 0,
        ttft_us=record.first_token_us - record.arrival_us if record.first_token_us else None,
        end_to_end_us=record.end_us - record.arrival_us,
        error_reason=record.error_reason,
        attempt_count=record.attempt_count,
        censored=record.censored,
    )
