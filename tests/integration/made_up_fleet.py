"""A made-up fleet for the live page: scheduler, autoscaler and predictor that tell of instances which only have a
Prometheus page, under a load that goes up and down; the metrics service beside them is the real one.

Two models on as many instances as asked for, a few of them starting, draining or lost; everything is drawn from one
seed. `Plant.step` moves on by a second and reports what ended to the metrics service.
"""

import asyncio
import math
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from lmaas.autoscaler.v1 import autoscaler_service_pb2, autoscaler_service_pb2_grpc, fleet_pb2
from lmaas.common.v1 import instance_pb2, length_pb2, slo_pb2
from lmaas.metrics.v1 import metrics_service_pb2
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from lmaas.predictor.v1 import length_pb2 as prediction_pb2
from lmaas.predictor.v1 import predictor_service_pb2, predictor_service_pb2_grpc, workload_pb2
from lmaas.scheduler.v1 import decision_pb2, pressure_pb2, scheduler_service_pb2, scheduler_service_pb2_grpc, status_pb2
from prometheus_client import CollectorRegistry

from forebay.core.errors import NotFound
from forebay.core.metrics import Event, QueueSample, RequestRecord, RequestStatus
from forebay.core.values import LengthQuantiles, SloClass
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.convert_metrics import event_to_proto
from forebay.wire.server import Server

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("llama-3-8b", "qwen-2.5-32b")
KV_TOKENS = (160_000, 90_000)
PACES_S = (0.014, 0.031)
START_TIMEOUT_S = 180.0
SECOND_US = 1_000_000
Model = tuple[str, int, float]


class Load:
    """What the made-up fleet does, second by second."""

    def __init__(self, instance_count: int, seed: int = 7) -> None:
        self.random = random.Random(seed)
        self.second = 0
        self.instances = [self._instance(index) for index in range(instance_count)]
        self.fullness = {one.instance_id: self.random.uniform(0.1, 0.7) for one in self.instances}
        self.records = 0

    def _instance(self, index: int) -> instance_pb2.Instance:
        which = index % len(MODELS)
        state = instance_pb2.INSTANCE_STATE_READY
        reason = "its server says that it is ready"
        if index % 37 == 17:
            state, reason = instance_pb2.INSTANCE_STATE_LOADING, "the model is being loaded"
        elif index % 53 == 30:
            state, reason = instance_pb2.INSTANCE_STATE_DRAINING, "fewer are wanted; 3 requests still run"
        elif index % 71 == 45:
            state, reason = instance_pb2.INSTANCE_STATE_LOST, "its server has not answered for 4 s"
        return instance_pb2.Instance(
            instance_id=f"gpu-{index + 1}/{MODELS[which]}",
            model=MODELS[which],
            grpc_address=f"127.0.0.1:{10_000 + index}",
            server_id=f"gpu-{index + 1}",
            state=state,
            state_reason=reason,
            state_time=stamp(now_us() - 600 * SECOND_US),
            region="local",
            profile=("A100-80G/Llama-3-8B/tp1", "H100/Qwen-2.5-32B/tp2")[which],
            concurrency_max=64,
            kv_tokens_max=KV_TOKENS[which],
            pool=MODELS[which],
        )

    def step(self) -> None:
        """A second goes by: each instance is drawn to the load of its model, with its own noise."""
        self.second += 1
        for index, one in enumerate(self.instances):
            target = 0.5 + 0.3 * math.sin(self.second / 25 + index % 2) + 0.12 * math.sin(index)
            now = self.fullness[one.instance_id]
            moved = now + 0.15 * (target - now) + self.random.gauss(0, 0.03)
            self.fullness[one.instance_id] = min(1.06, max(0.0, moved))

    def rate(self, model: str) -> float:
        """Requests a second of a model now."""
        which = MODELS.index(model)
        return (9.0, 4.0)[which] * (1 + 0.35 * math.sin(self.second / 25 + which))

    def takes(self, one: instance_pb2.Instance) -> bool:
        """Whether an instance has requests."""
        return one.state in (instance_pb2.INSTANCE_STATE_READY, instance_pb2.INSTANCE_STATE_DRAINING)

    def record(self, at_us: int) -> RequestRecord:
        """One request that ended."""
        self.records += 1
        ready = [one for one in self.instances if one.state == instance_pb2.INSTANCE_STATE_READY]
        one = self.random.choices(ready, [self.rate(one.model) for one in ready])[0]
        median = round(self.random.lognormvariate(5.0, 0.8)) + 4
        tokens = max(1, round(median * self.random.lognormvariate(0.0, 0.45)))
        slo_class = SloClass(self.random.choices((1, 2, 3), (5, 4, 1))[0])
        ttft_us = round(self.random.lognormvariate(-1.9, 0.6) * SECOND_US)
        bad = self.random.random() < 0.006
        whole_us = ttft_us + round(tokens * PACES_S[MODELS.index(one.model)] * SECOND_US)
        return RequestRecord(
            request_id=f"r{self.records}",
            model=one.model,
            arrival_us=at_us - whole_us,
            status=RequestStatus.FAILED if bad else RequestStatus.OK,
            slo_class=slo_class,
            instance_id=one.instance_id,
            decision_id=f"s-{self.records}",
            prompt_tokens=self.random.randint(20, 3_000),
            response_tokens=0 if bad else tokens,
            predicted_length=LengthQuantiles(median // 2, median, round(median * 1.8), round(median * 2.4)),
            predicted_by="onnx_quantile@3",
            held_us=self.random.randint(200, 4_000),
            ttft_us=None if bad else ttft_us,
            end_to_end_us=whole_us,
            error_reason="INSTANCE_FAILED" if bad else "",
            attempt_count=2 if bad else 1,
        )


class Scheduler(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    """Tells the load as the scheduler would; `asked_count` is how often."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.asked_count = 0

    async def ListInstances(self, request: Any, context: Any) -> scheduler_service_pb2.ListInstancesResponse:
        self.asked_count += 1
        load = self._load
        found = [
            status_pb2.ScheduledInstance(
                instance=one,
                lease_count=round(30 * load.fullness[one.instance_id]) if load.takes(one) else 0,
                predicted_tokens=round(6_000 * load.fullness[one.instance_id]) if load.takes(one) else 0,
                concurrency_cap=64,
                draining=one.state == instance_pb2.INSTANCE_STATE_DRAINING,
            )
            for one in load.instances
        ]
        return scheduler_service_pb2.ListInstancesResponse(instances=found)

    async def ListQueues(self, request: Any, context: Any) -> scheduler_service_pb2.ListQueuesResponse:
        return scheduler_service_pb2.ListQueuesResponse()

    async def ListShadows(self, request: Any, context: Any) -> scheduler_service_pb2.ListShadowsResponse:
        if not self._load.instances:
            return scheduler_service_pb2.ListShadowsResponse()
        rows = [
            status_pb2.ShadowRow(
                kind="router",
                model=model,
                compared_count=1_000 + 9 * self._load.records,
                different_count=210 + self._load.records,
                costs=[status_pb2.ShadowCost(name="work ahead of the request", unit="tokens", mean=41.2)],
            )
            for model in MODELS
        ]
        shadow = status_pb2.Shadow(name="paper", policies={"router": "preserve_paper"}, rows=rows)
        return scheduler_service_pb2.ListShadowsResponse(shadows=[shadow])

    async def GetPressure(self, request: Any, context: Any) -> scheduler_service_pb2.GetPressureResponse:
        waiting = []
        if self._load.instances:
            waiting = [
                self._waiting(MODELS[0], slo_pb2.SLO_CLASS_INTERACTIVE_FAST, 3, 0.4, 0.6),
                self._waiting(MODELS[1], slo_pb2.SLO_CLASS_INTERACTIVE_NORMAL, 11, 4.2, 55.0),
                self._waiting(MODELS[0], slo_pb2.SLO_CLASS_DEFERRED, 1_240, 1_900.0, 9_000.0, stored=True),
            ]
        pressure = pressure_pb2.Pressure(sample_time=stamp(now_us()), horizon_iterations=100, waiting=waiting)
        return scheduler_service_pb2.GetPressureResponse(pressure=pressure)

    def _waiting(
        self, model: str, slo_class: slo_pb2.SloClass, number: int, age_s: float, left_s: float, stored: bool = False
    ) -> pressure_pb2.WaitingGroup:
        return pressure_pb2.WaitingGroup(
            model=model,
            region="local",
            slo_class=slo_class,
            due_time=stamp(now_us() + round(left_s * SECOND_US)),
            oldest_time=stamp(now_us() - round(age_s * SECOND_US)),
            request_count=number,
            mean_tokens=180.0 * number,
            stored=stored,
        )

    async def GetAnticipation(self, request: Any, context: Any) -> scheduler_service_pb2.GetAnticipationResponse:
        load, count, step = self._load, request.step_count or 40, request.step_iterations or 10
        found = [
            pressure_pb2.InstanceAnticipation(
                instance_id=one.instance_id,
                model=one.model,
                kv_tokens=self._curve(index, one, count, step) if load.takes(one) else [0] * count,
                kv_tokens_max=one.kv_tokens_max,
            )
            for index, one in enumerate(load.instances)
        ]
        anticipation = pressure_pb2.Anticipation(sample_time=stamp(now_us()), step_iterations=step, instances=found)
        return scheduler_service_pb2.GetAnticipationResponse(anticipation=anticipation)

    def _curve(self, index: int, one: instance_pb2.Instance, count: int, step: int) -> list[int]:
        """It grows while what runs goes on, and falls as answers end."""
        full, peak = self._load.fullness[one.instance_id], 90 + 40 * math.sin(index * 1.7)
        shape = [
            (1 + 0.3 * at / peak) if at < peak else 1.3 * math.exp((peak - at) / 160)
            for at in range(0, count * step, step)
        ]
        return [round(full * one.kv_tokens_max * value) for value in shape]

    async def Explain(self, request: Any, context: Any) -> scheduler_service_pb2.ExplainResponse:
        if not request.decision_id.startswith("s-"):
            raise NotFound(f"decision {request.decision_id!r} is unknown or older than the records kept")
        ready = [one for one in self._load.instances if one.state == instance_pb2.INSTANCE_STATE_READY][:9]
        candidates = [
            decision_pb2.Candidate(
                instance_id=one.instance_id,
                score=310.0 + 40 * place,
                eligible=place != 5,
                reason="full" if place == 5 else "",
                inputs={
                    "in_flight_count": 11 + place,
                    "predicted_tokens": 310 + 40 * place,
                    "kv_share": 0.4 + 0.05 * place,
                },
            )
            for place, one in enumerate(ready)
        ]
        decision = decision_pb2.Decision(
            decision_id=request.decision_id,
            request_id="r1",
            decision_time=stamp(now_us()),
            verdict=decision_pb2.VERDICT_PLACED,
            instance_id=ready[0].instance_id,
            policies={"router": "forebay", "orderer": "fcfs", "admission": "open"},
            inputs={"prompt_tokens": 412, "held_us": 350},
            predicted_length=length_pb2.LengthQuantiles(p10_tokens=60, p50_tokens=140, p90_tokens=260, p97_tokens=340),
            predicted_by="onnx_quantile@3",
            candidates=candidates,
            flip=decision_pb2.Flip(
                instance_id=ready[1].instance_id, input="predicted_tokens", to=350.0, **{"from": 310.0}
            ),
            reason=f"{ready[0].instance_id} has the fewest predicted tokens ahead: 310 against 350 of the next",
            shadows={"paper": ready[1].instance_id},
        )
        return scheduler_service_pb2.ExplainResponse(decision=decision)


class Autoscaler(autoscaler_service_pb2_grpc.AutoscalerServiceServicer):
    """Tells the fleet, why it is as it is, and what is expected."""

    def __init__(self, load: Load) -> None:
        self._load = load

    async def WatchFleet(self, request: Any, context: Any) -> AsyncIterator[autoscaler_service_pb2.WatchFleetResponse]:
        while True:
            yield autoscaler_service_pb2.WatchFleetResponse(instances=self._load.instances)
            await asyncio.sleep(1.0)

    async def GetFleet(self, request: Any, context: Any) -> autoscaler_service_pb2.GetFleetResponse:
        models = MODELS if self._load.instances else ()
        return autoscaler_service_pb2.GetFleetResponse(
            instances=self._load.instances,
            models=[self._pool(model) for model in models],
            mode=fleet_pb2.MODE_ACTIVE,
            policy="forebay",
            leader="127.0.0.1:7103",
            forecasts=[band for model in models for band in self._bands(model)],
        )

    def _pool(self, model: str) -> fleet_pb2.ModelFleet:
        mine = [one for one in self._load.instances if one.model == model]
        ready = sum(one.state == instance_pb2.INSTANCE_STATE_READY for one in mine)
        is_first = model == MODELS[0]
        return fleet_pb2.ModelFleet(
            model=model,
            bounds=fleet_pb2.Bounds(model=model, instances_min=2, instances_max=len(mine) + 6),
            instances_wanted=ready + (1 if is_first else 0),
            ready_count=ready,
            starting_count=sum(one.state == instance_pb2.INSTANCE_STATE_LOADING for one in mine),
            draining_count=sum(one.state == instance_pb2.INSTANCE_STATE_DRAINING for one in mine),
            reason="the forecast for the next 2 min asks for 11.4 requests a second at its 90th percentile",
            flip="below 9.8 requests a second one fewer would do",
            lead_p50=Duration(seconds=38),
            lead_p90=Duration(seconds=52),
            bound_by="" if is_first else "the budget of 96 GPUs",
            gpu="H100",
            gpu_count=1 if is_first else 2,
        )

    def _bands(self, model: str) -> list[fleet_pb2.ForecastBand]:
        window_s, now_s = 60, now_us() // SECOND_US
        first = now_s - now_s % window_s - 18 * window_s
        return [self._band(model, first + index * window_s, window_s, now_s) for index in range(28)]

    def _band(self, model: str, start_s: int, window_s: int, now_s: int) -> fleet_pb2.ForecastBand:
        which = MODELS.index(model)
        middle = (9.0, 4.0)[which] * (1 + 0.35 * math.sin((self._load.second + start_s - now_s + 30) / 25 / 8 + which))
        width = 0.16 + 0.02 * max(0, start_s - now_s) / 60
        spread = [middle * window_s * factor for factor in (1 - width, 1.0, 1 + width, 1 + 1.6 * width)]
        requests = workload_pb2.Quantiles(p10=spread[0], p50=spread[1], p90=spread[2], p97=spread[3])
        tokens = workload_pb2.Quantiles(
            p10=210 * spread[0], p50=210 * spread[1], p90=210 * spread[2], p97=210 * spread[3]
        )
        return fleet_pb2.ForecastBand(
            model=model,
            start_time=Timestamp(seconds=start_s),
            window=Duration(seconds=window_s),
            requests=requests,
            prompt_tokens=tokens,
            response_tokens=tokens,
        )

    async def ListDecisions(self, request: Any, context: Any) -> autoscaler_service_pb2.ListDecisionsResponse:
        if not self._load.instances:
            return autoscaler_service_pb2.ListDecisionsResponse()
        decisions = [
            fleet_pb2.ScalingDecision(
                decision_id=f"a-{number}",
                model=MODELS[number % 2],
                decision_time=stamp(now_us() - (20 + 140 * number) * SECOND_US),
                instances_before=40 + number,
                instances_wanted=42 + number,
                instances_after=(41 if number % 3 else 42) + number,
                policy="forebay",
                inputs={"requests_per_s_p90": 11.4 - number / 10, "per_instance_requests_per_s": 0.29, "lead_s": 38.0},
                reason="11.4 requests a second are expected within the lead time of 38 s; an instance serves 0.29"
                + ("; the step limit of 1 binds" if number % 3 else ""),
                flip="below 10.9 requests a second nothing would be started",
                mode=fleet_pb2.MODE_ACTIVE,
            )
            for number in range(8)
        ]
        return autoscaler_service_pb2.ListDecisionsResponse(decisions=decisions)


class Predictor(predictor_service_pb2_grpc.PredictorServiceServicer):
    """Tells how well it does."""

    def __init__(self, load: Load) -> None:
        self._load = load

    async def ListAccuracy(self, request: Any, context: Any) -> predictor_service_pb2.ListAccuracyResponse:
        rows = [
            prediction_pb2.PredictorAccuracy(
                predictor="onnx_quantile@3", model=model, outcome_count=512, mae_tokens=58.3, coverage_p90=0.912
            )
            for model in (MODELS if self._load.instances else ())
        ]
        return predictor_service_pb2.ListAccuracyResponse(rows=rows)

    async def ListModels(self, request: Any, context: Any) -> predictor_service_pb2.ListModelsResponse:
        trial = prediction_pb2.ShadowTrial(
            outcome_count=812, active_loss_tokens=23.4, shadow_loss_tokens=21.9, z_score=2.1
        )
        models = [
            prediction_pb2.PredictorModel(
                name="onnx_quantile", version="3", kind=prediction_pb2.MODEL_KIND_LENGTH, active=True
            ),
            prediction_pb2.PredictorModel(
                name="semantic", version="1", kind=prediction_pb2.MODEL_KIND_LENGTH, shadow=True, trial=trial
            ),
        ]
        return predictor_service_pb2.ListModelsResponse(models=models)

    async def ForecastWorkload(self, request: Any, context: Any) -> predictor_service_pb2.ForecastWorkloadResponse:
        return predictor_service_pb2.ForecastWorkloadResponse()


class Pages:
    """The Prometheus page of every instance, and the gateway's health, on one port."""

    def __init__(self, load: Load) -> None:
        self._load = load

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        index = scope["path"].rsplit("/", 1)[-1]
        body = self._page(self._load.instances[int(index)]) if index.isdigit() else "ok"
        status = 200 if body else 503
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body.encode()})

    def _page(self, one: instance_pb2.Instance) -> str:
        if not self._load.takes(one):
            return ""
        full = self._load.fullness[one.instance_id]
        label = f'{{model_name="{one.model}"}}'
        waiting = max(0, round(20 * (full - 0.9)))
        return (
            f"vllm:num_requests_running{label} {round(30 * full)}\nvllm:num_requests_waiting{label} {waiting}\n"
            f"vllm:kv_cache_usage_perc{label} {min(1.0, full):.3f}\n"
        )


class Plant:
    """The whole of it: `url` is the page's. Parts are servers that a test may stop."""

    def __init__(self, load: Load, folder: Path, settings: str = "") -> None:
        self.load = load
        self._folder = folder
        self._settings = settings
        self.parts = {
            name: Server("127.0.0.1:0", [], CollectorRegistry()) for name in ("scheduler", "autoscaler", "predictor")
        }
        self.scheduler = Scheduler(load)  # type: ignore[abstract]  # as a service that offers only these
        scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(self.scheduler, self.parts["scheduler"].grpc)
        autoscaler_service_pb2_grpc.add_AutoscalerServiceServicer_to_server(
            Autoscaler(load),  # type: ignore[abstract]
            self.parts["autoscaler"].grpc,
        )
        predictor_service_pb2_grpc.add_PredictorServiceServicer_to_server(
            Predictor(load),  # type: ignore[abstract]
            self.parts["predictor"].grpc,
        )
        self.http = Http(Pages(load))
        self.address, page = free_ports(2)
        self.url = f"http://{page}/"
        self._page = page
        for index, one in enumerate(load.instances):
            one.metrics_url = f"http://127.0.0.1:{self.http.port}/{index}"

    async def start(self) -> None:
        """Starts everything and waits for the page."""
        for server in self.parts.values():
            await server.start()
        await self.http.start()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")},
            **{f"FOREBAY_{name.upper()}": f"127.0.0.1:{server.port}" for name, server in self.parts.items()},
            "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients' / 'python'}",
            "FOREBAY_LISTEN": self.address,
            "FOREBAY_PROMETHEUS": "",
            "FOREBAY_PAGE": self._page,
            "FOREBAY_HTTP": f"127.0.0.1:{self.http.port}",
            "FOREBAY_DATABASE_URL": f"sqlite:///{self._folder}/page.db",
            "FOREBAY_LOG_LEVEL": "WARNING",
        }
        log = (self._folder / "metrics.log").open("wb")
        # A test's machine may be slow to answer for two hundred instances at once.
        config = self._folder / "forebay.toml"
        patience = "[metrics]\nscrape_interval_s = 2.0\nscrape_timeout_s = 10.0\nscrape_concurrency_max = 16\n"
        config.write_text(f"{patience}[metrics.page]\n{self._settings}")
        command = [sys.executable, "-m", "forebay.metrics", "--config", str(config)]
        self.process = await asyncio.to_thread(subprocess.Popen, command, env=environment, stdout=log, stderr=log)
        log.close()
        self.channel = connect(self.address)
        async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as client:
            while not await _answers(client, self.url):
                assert self.process.poll() is None, self.log()
                await asyncio.sleep(0.1)

    def log(self) -> str:
        """What the metrics service has logged."""
        return (self._folder / "metrics.log").read_text()

    async def step(self, seconds_ago: float = 0.0) -> None:
        """A second of load."""
        load, at_us = self.load, now_us() - round(seconds_ago * SECOND_US)
        load.step()
        if load.instances:
            count = round(sum(load.rate(model) for model in MODELS))
            records = [load.record(at_us - load.random.randint(0, SECOND_US)) for _ in range(count)]
            samples = [QueueSample(model, now_us(), 3, round(12 * load.rate(model)), "s") for model in MODELS]
            await self.report([Event(f"{one.request_id}@{one.arrival_us}", one) for one in records])
            await self.report([Event(f"{one.model}@{one.sample_us}", one) for one in samples])

    async def report(self, events: list[Event]) -> None:
        """Tells the metrics service what happened."""
        for first in range(0, len(events), 1_000):
            batch = [event_to_proto(event) for event in events[first : first + 1_000]]
            request = metrics_service_pb2.ReportEventsRequest(events=batch)
            await MetricsServiceStub(self.channel).ReportEvents(iter([request]), timeout=30)

    async def history(self, seconds: int) -> None:
        """The load of the last so many seconds."""
        for age in range(seconds, 0, -1):
            await self.step(float(age))

    async def stop(self) -> None:
        """Ends everything."""
        await self.channel.close()
        self.process.terminate()
        try:
            await asyncio.to_thread(self.process.wait, 20)
        finally:
            self.process.kill()
        for server in self.parts.values():
            await server.stop(0)
        await self.http.stop()


class Http:
    """uvicorn on a free port."""

    def __init__(self, app: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, ws="none", timeout_keep_alive=60
        )
        self._server = uvicorn.Server(config)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server._serve([self._socket]))

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._task


def stamp(value_us: int) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(value_us)
    return made


def free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    names = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return names


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@asynccontextmanager
async def plant(folder: Path, instance_count: int, history_s: int = 0, settings: str = "") -> AsyncIterator[Plant]:
    """A plant that runs, with the load of the last seconds behind it; the caller steps it on.

    `settings` are those of [metrics.page].
    """
    made = Plant(Load(instance_count), folder, settings)
    try:
        await made.start()
        await made.history(history_s)
        yield made
    finally:
        await made.stop()
