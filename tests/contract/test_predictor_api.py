"""What every predictor promises over the wire; `start` is all that knows which one is tested."""

import asyncio
import dataclasses
import json
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from google.protobuf import duration_pb2
from lmaas.metrics.v1 import metrics_service_pb2
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceServicer, add_MetricsServiceServicer_to_server
from lmaas.predictor.v1 import length_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as messages
from lmaas.predictor.v1.predictor_service_pb2_grpc import (
    PredictorServiceStub,
    add_PredictorServiceServicer_to_server,
)
from prometheus_client import CollectorRegistry, generate_latest

from forebay.cli import main
from forebay.cli.state import Run, addresses_from, write_run
from forebay.core.errors import AlreadyExists, FailedPrecondition, ForebayError, InvalidArgument, NotFound, Unavailable
from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles, WorkloadPoint
from forebay.predictor.build import FALLBACK, build_engine, build_loader
from forebay.predictor.build_forecasts import build_forecasts
from forebay.predictor.config import Config
from forebay.predictor.engine import Loaded, PredictorEngine
from forebay.predictor.loop import MetricsHistory
from forebay.predictor.policy.forecaster import FORECASTERS
from forebay.predictor.policy.length import LENGTH_PREDICTORS, TRAINED
from forebay.predictor.servicer import PredictorServicer
from forebay.predictor.store_files import PACKAGED, FolderModelStore
from forebay.wire.channel import connect
from forebay.wire.convert import workload_point_to_proto
from forebay.wire.errors import from_rpc_error
from forebay.wire.server import Server

NAME = "lmaas.predictor.v1.PredictorService"
NOW_US = 1_700_000_030 * US_PER_S
MINUTE_US = 60 * US_PER_S
LAST_US = NOW_US // MINUTE_US * MINUTE_US - MINUTE_US
TIMEOUT_S = 10.0
SHIPPED = f"onnx_quantile@{json.loads((PACKAGED / 'length_fast.json').read_text())['version']}"


class Metrics(MetricsServiceServicer):
    """Has 100 requests in every minute; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[metrics_service_pb2.QueryWorkloadHistoryRequest] = []

    async def QueryWorkloadHistory(  # type: ignore[override]
        self, request: metrics_service_pb2.QueryWorkloadHistoryRequest, context: Any
    ) -> metrics_service_pb2.QueryWorkloadHistoryResponse:
        self.asked.append(request)
        if request.model == "unseen":
            return metrics_service_pb2.QueryWorkloadHistoryResponse()
        window_us = request.window.ToMicroseconds()
        start = int(request.page_token or request.start_time.ToMicroseconds())
        starts = [start + index * window_us for index in range(500)]
        kept = [one for one in starts if one < request.end_time.ToMicroseconds()]
        return metrics_service_pb2.QueryWorkloadHistoryResponse(
            points=[workload_point_to_proto(WorkloadPoint(one, 100, 9_000, 4_000)) for one in kept],
            next_page_token=str(starts[-1] + window_us) if len(kept) == len(starts) else "",
        )


@dataclasses.dataclass
class Stage:
    """A predictor and the metrics service that it reads from."""

    stub: PredictorServiceStub
    metrics: Metrics
    metrics_server: Server
    registry: CollectorRegistry
    address: str
    engine: PredictorEngine


Start = Callable[[Config], Coroutine[Any, Any, Stage]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    stops: list[Callable[[], Coroutine[Any, Any, None]]] = []

    async def begin(config: Config) -> Stage:
        metrics, registry = Metrics(), CollectorRegistry()
        metrics_server = Server("127.0.0.1:0", ["lmaas.metrics.v1.MetricsService"], CollectorRegistry())
        add_MetricsServiceServicer_to_server(metrics, metrics_server.grpc)
        await metrics_server.start()
        engine = build_engine(config)
        inner = connect(f"127.0.0.1:{metrics_server.port}")
        history = MetricsHistory(inner, 1.0, config.history_points_max)
        forecasts = build_forecasts(config, engine, history, lambda: NOW_US, registry)
        loader = await build_loader(engine, config)
        servicer = PredictorServicer(engine, loader, forecasts, registry, lambda: NOW_US)
        server = Server("127.0.0.1:0", [NAME], registry)
        add_PredictorServiceServicer_to_server(servicer, server.grpc)
        await server.start()
        address = f"127.0.0.1:{server.port}"
        outer = connect(address)
        stops.extend([outer.close, forecasts.close, inner.close])
        stops.extend([lambda: server.stop(0.1), lambda: metrics_server.stop(0.1)])
        return Stage(PredictorServiceStub(outer), metrics, metrics_server, registry, address, engine)  # type: ignore[arg-type]

    yield begin
    for stop in stops:
        await stop()


@pytest.fixture
async def stage(start: Start) -> Stage:
    return await start(Config(provider="cpu"))


async def refused(call: Any, kind: type[ForebayError]) -> ForebayError:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    assert type(error) is kind, error.message
    return error


def query(number: int = 0, **changes: Any) -> length_pb2.LengthQuery:
    values = {"query_id": f"q{number}", "model": "m", "prompt_tokens": 40, "prompt_head": f"Write {number} words."}
    return length_pb2.LengthQuery(**{**values, **changes})


async def predict(stage: Stage, *queries: length_pb2.LengthQuery) -> messages.PredictLengthResponse:
    return await stage.stub.PredictLength(messages.PredictLengthRequest(queries=queries), timeout=TIMEOUT_S)


async def activate(stage: Stage, name: str, request_id: str, version: str = "", kind: int = 1) -> Any:
    request = messages.ActivateModelRequest(kind=kind, name=name, version=version, request_id=request_id)  # type: ignore[arg-type]
    return await stage.stub.ActivateModel(request, timeout=TIMEOUT_S)


async def observe(stage: Stage, tokens: int, request_id: str, count: int = 50) -> None:
    predicted = {"p10_tokens": 1, "p50_tokens": 2, "p90_tokens": 3, "p97_tokens": 4}
    outcomes = [
        length_pb2.LengthOutcome(query=query(number), generated_tokens=tokens, predicted=predicted)  # type: ignore[arg-type]
        for number in range(count)
    ]
    request = messages.ObserveOutcomesRequest(outcomes=outcomes, request_id=request_id)
    await stage.stub.ObserveOutcomes(request, timeout=TIMEOUT_S)


async def models(stage: Stage, **changes: Any) -> messages.ListModelsResponse:
    return await stage.stub.ListModels(messages.ListModelsRequest(**changes), timeout=TIMEOUT_S)


async def test_predictions_come_in_the_order_of_the_queries_with_their_names(stage: Stage) -> None:
    answer = await predict(stage, *(query(number, tokens_max=64) for number in range(100)))
    assert [one.query_id for one in answer.predictions] == [f"q{number}" for number in range(100)]
    assert answer.predicted_by == SHIPPED
    for one in answer.predictions:
        quantiles = one.quantiles
        assert 0 <= quantiles.p10_tokens <= quantiles.p50_tokens <= quantiles.p90_tokens <= quantiles.p97_tokens <= 64


async def test_the_largest_batch_is_answered_and_a_larger_one_refused(stage: Stage) -> None:
    many = [query(number) for number in range(1025)]
    assert len((await predict(stage, *many[:1024])).predictions) == 1024
    error = await refused(predict(stage, *many), InvalidArgument)
    assert "queries" in error.violations


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query_id", ""),
        ("model", ""),
        ("model", "m" * 201),
        ("prompt_tokens", 0),
        ("prompt_tokens", 1_048_577),
        ("tokens_max", 1_048_577),
        ("prompt_head", "x" * 8193),
        ("temperature", 2.1),
        ("temperature", float("nan")),
    ],
)
async def test_a_bad_query_is_refused_and_named(stage: Stage, field: str, value: Any) -> None:
    error = await refused(predict(stage, query(), query(1, **{field: value})), InvalidArgument)
    assert list(error.violations) == [f"queries[1].{field}"]


async def test_no_queries_are_refused(stage: Stage) -> None:
    await refused(predict(stage), InvalidArgument)


async def test_a_query_without_text_is_answered(stage: Stage) -> None:
    answer = await predict(stage, query(prompt_head=""))
    assert answer.predictions[0].quantiles.p97_tokens > 0


async def test_outcomes_change_predictions_once_however_often_they_are_sent(stage: Stage) -> None:
    await activate(stage, "histogram", "a1")
    for _ in range(3):
        await observe(stage, 333, "o1")
    answer = await predict(stage, query())
    assert answer.predictions[0].quantiles.p50_tokens == 333
    text = generate_latest(stage.registry).decode()
    assert "forebay_predictor_outcomes_total 50.0" in text
    assert "forebay_predictor_mae_tokens 331.0" in text
    assert "forebay_predictor_coverage_p90 0.0" in text


async def test_another_batch_under_a_known_request_id_is_refused(stage: Stage) -> None:
    await observe(stage, 10, "o1")
    await refused(observe(stage, 11, "o1"), AlreadyExists)


async def test_the_trained_model_learns_what_a_new_llm_does(stage: Stage) -> None:
    await observe(stage, 777, "o1", count=1024)
    answer = await predict(stage, query(3))
    assert answer.predicted_by == SHIPPED
    assert answer.predictions[0].quantiles.p50_tokens == pytest.approx(777, rel=0.1)


async def test_models_are_listed_with_what_is_known_of_them(stage: Stage) -> None:
    answer = await models(stage)
    names = [(model.kind, model.name) for model in answer.models]
    untrained = [(1, name) for name in LENGTH_PREDICTORS.keys() - TRAINED] + [(2, name) for name in FORECASTERS]
    shipped = [(1, model.name) for model in FolderModelStore().list()]
    assert (1, "onnx_quantile") in shipped
    assert names == sorted([*untrained, *shipped])
    assert {model.name for model in answer.models if model.active} == {"onnx_quantile", "least_cost"}
    assert not any(model.shadow or (model.previous and model.name != FALLBACK) for model in answer.models)
    trained = next(model for model in answer.models if model.name == "onnx_quantile")
    assert trained.execution_provider == "CPUExecutionProvider"
    assert len(trained.digest_sha256) == 64
    assert {"trained_on", "licence", "mae_tokens", "coverage_p90"} <= set(trained.metadata)


async def test_models_come_in_pages(stage: Stage) -> None:
    whole = [model.name for model in (await models(stage)).models]
    names, token = [], ""
    while token or not names:
        page = await models(stage, page_size=2, page_token=token)
        assert len(page.models) == min(2, len(whole) - len(names))
        names += [model.name for model in page.models]
        token = page.next_page_token
    assert names == whole
    assert [model.name for model in (await models(stage, kind=2)).models] == sorted(FORECASTERS)
    await refused(models(stage, page_token="no"), InvalidArgument)


async def test_a_model_is_swapped_under_load_without_dropping_a_call(stage: Stage) -> None:
    batch = [query(number) for number in range(200)]
    swaps = 0

    async def swap() -> None:
        nonlocal swaps
        for number in range(20):
            await activate(stage, ("histogram", "onnx_quantile", "input_ratio")[number % 3], f"a{number}")
            swaps += 1

    async def ask() -> list[messages.PredictLengthResponse]:
        answers = []
        while swaps < 20:
            answers.append(await predict(stage, *batch))
        return answers

    _, *found = await asyncio.gather(swap(), *(ask() for _ in range(4)))
    answers = [answer for some in found for answer in some]
    assert {len(answer.predictions) for answer in answers} == {200}
    assert {answer.predicted_by for answer in answers} == {"histogram", SHIPPED, "input_ratio"}
    # Every answer comes whole from the one that it names: the ratio's are the same for all prompts of one length.
    for answer in answers:
        if answer.predicted_by == "input_ratio":
            assert {one.quantiles.p50_tokens for one in answer.predictions} == {60}


async def test_activating_is_idempotent_and_shows_in_the_list(stage: Stage) -> None:
    for request_id in ("a1", "a1", "a2"):
        answer = await activate(stage, "last_value", request_id, kind=2)
        assert (answer.model.name, answer.model.active) == ("last_value", True)
    assert [model.name for model in (await models(stage)).models if model.active] == ["onnx_quantile", "last_value"]


@pytest.mark.parametrize(
    ("name", "version", "kind"),
    [("nope", "", 1), ("histogram", "7", 1), ("onnx_quantile", "9", 1), ("histogram", "", 2)],
)
async def test_an_unknown_model_is_not_found(stage: Stage, name: str, version: str, kind: int) -> None:
    error = await refused(activate(stage, name, "a1", version, kind), NotFound)
    assert "known" in error.message


async def test_no_kind_is_refused(stage: Stage) -> None:
    await refused(activate(stage, "histogram", "a1", kind=0), InvalidArgument)


def put_model(folder: Path, name: str, **changes: Any) -> None:
    entry = json.loads((PACKAGED / "length_fast.json").read_text())
    (folder / f"{name}.json").write_text(json.dumps({**entry, **changes}))
    shutil.copy(PACKAGED / "length_fast.onnx", folder / f"{name}.onnx")


async def test_a_model_that_is_put_into_the_folder_can_be_activated_at_once(start: Start, tmp_path: Path) -> None:
    put_model(tmp_path, "one", version="9")
    stage = await start(Config(provider="cpu", models_folder=str(tmp_path)))
    put_model(tmp_path, "two", version="10")
    listed = [(one.version, one.active) for one in (await models(stage)).models if one.name == "onnx_quantile"]
    assert listed[-2:] == [("9", True), ("10", False)]
    assert (await activate(stage, "onnx_quantile", "a1")).model.version == "10"
    assert (await predict(stage, query())).predicted_by == "onnx_quantile@10"
    await activate(stage, "onnx_quantile", "a2", "9")
    assert (await predict(stage, query())).predicted_by == "onnx_quantile@9"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"onnx_sha256": "0" * 64}, "SHA-256"),
        ({"features_version": "0"}, "features"),
    ],
)
async def test_a_model_that_cannot_be_loaded_fails_and_the_old_one_goes_on(
    start: Start, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    put_model(tmp_path, "one", version="11")
    stage = await start(Config(provider="cpu", models_folder=str(tmp_path)))
    put_model(tmp_path, "two", version="12", **changes)
    error = await refused(activate(stage, "onnx_quantile", "a1"), FailedPrecondition)
    assert text in error.message
    assert (await predict(stage, query())).predicted_by == "onnx_quantile@11"


async def test_a_damaged_model_at_the_start_leaves_the_fallback_answering(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_model(tmp_path, "one", onnx_sha256="0" * 64)
    stage = await start(Config(provider="cpu", models_folder=str(tmp_path)))
    assert (await predict(stage, query())).predicted_by == FALLBACK
    assert "no trained model" in caplog.text


async def shadow(stage: Stage, name: str, request_id: str, **changes: Any) -> length_pb2.PredictorModel:
    request = messages.ShadowModelRequest(name=name, request_id=request_id, **changes)
    return (await stage.stub.ShadowModel(request, timeout=TIMEOUT_S)).model


async def rollback(stage: Stage, request_id: str, kind: int = 1) -> length_pb2.PredictorModel:
    request = messages.RollbackModelRequest(kind=kind, request_id=request_id)  # type: ignore[arg-type]
    return (await stage.stub.RollbackModel(request, timeout=TIMEOUT_S)).model


async def accuracy(stage: Stage, **changes: Any) -> messages.ListAccuracyResponse:
    return await stage.stub.ListAccuracy(messages.ListAccuracyRequest(**changes), timeout=TIMEOUT_S)


async def test_a_shadow_is_measured_until_it_ends(stage: Stage) -> None:
    begun = await shadow(stage, "histogram", "s1")
    assert (begun.shadow, begun.active, begun.trial.outcome_count) == (True, False, 0)
    await observe(stage, 50, "o1")
    answer = await models(stage, kind=1)
    (found,) = [model for model in answer.models if model.shadow]
    assert (found.name, found.trial.outcome_count) == ("histogram", 50)
    assert found.trial.active_loss_tokens > 0
    assert found.trial.shadow_loss_tokens > 0
    assert {row.predictor for row in (await accuracy(stage)).rows} >= {"histogram", SHIPPED}
    assert (await predict(stage, query())).predicted_by == SHIPPED
    assert not (await shadow(stage, "histogram", "s2", ends=True)).shadow
    assert not any(model.HasField("trial") for model in (await models(stage)).models)


async def test_a_shadow_that_proves_better_becomes_the_active_model(start: Start) -> None:
    stage = await start(Config(provider="cpu", length="input_ratio", promote_count_min=100))
    await shadow(stage, "histogram", "s1")
    for number in range(4):
        await observe(stage, 777, f"o{number}")
    assert (await predict(stage, query())).predicted_by == "histogram"
    assert (await rollback(stage, "b1")).name == "input_ratio"


async def test_a_stored_model_can_be_a_shadow_and_then_the_active_one(start: Start, tmp_path: Path) -> None:
    put_model(tmp_path, "one", version="11")
    stage = await start(Config(provider="cpu", models_folder=str(tmp_path)))
    put_model(tmp_path, "two", version="12")
    assert (await shadow(stage, "onnx_quantile", "s1")).version == "12"
    assert (await predict(stage, query())).predicted_by == "onnx_quantile@11"
    assert (await activate(stage, "onnx_quantile", "a1", "12")).model.active
    listed = [one for one in (await models(stage)).models if one.name == "onnx_quantile"]
    stands = [(one.version, one.active, one.previous, one.shadow) for one in listed]
    assert stands[-2:] == [("11", False, True, False), ("12", True, False, False)]
    assert (await rollback(stage, "b1")).version == "11"
    assert (await predict(stage, query())).predicted_by == "onnx_quantile@11"


async def test_a_roll_back_that_is_repeated_is_one(stage: Stage) -> None:
    await activate(stage, "histogram", "a1")
    for _ in range(2):
        assert (await rollback(stage, "b1")).name == "onnx_quantile"
    assert (await predict(stage, query())).predicted_by == SHIPPED
    assert (await rollback(stage, "b2")).name == "histogram"
    await activate(stage, "last_value", "a2", kind=2)
    assert (await rollback(stage, "b3", kind=2)).name == "least_cost"


async def test_what_cannot_be_a_shadow_or_rolled_back_is_refused(start: Start) -> None:
    stage = await start(Config(provider="cpu", length="histogram", shadow_count_max=1))
    assert "active" in (await refused(rollback(stage, "b1"), FailedPrecondition)).message
    assert "active" in (await refused(shadow(stage, "histogram", "s1"), FailedPrecondition)).message
    assert "known" in (await refused(shadow(stage, "nope", "s2"), NotFound)).message
    await refused(shadow(stage, "last_value", "s3"), NotFound)
    await refused(rollback(stage, "b2", kind=0), InvalidArgument)
    await shadow(stage, "constant", "s4")
    assert "constant" in (await refused(shadow(stage, "input_ratio", "s5"), FailedPrecondition)).message


async def test_accuracy_comes_in_pages_by_predictor_model_and_application(stage: Stage) -> None:
    for number, application in enumerate(("chat", "", "code")):
        one = query(number, application=application)
        predicted = (await predict(stage, one)).predictions[0].quantiles
        outcome = length_pb2.LengthOutcome(query=one, generated_tokens=40, predicted=predicted)
        request = messages.ObserveOutcomesRequest(outcomes=[outcome], request_id=f"o{number}")
        await stage.stub.ObserveOutcomes(request, timeout=TIMEOUT_S)
    rows = list((await accuracy(stage)).rows)
    assert [(row.predictor, row.model, row.application) for row in rows] == [
        (SHIPPED, "m", application) for application in ("", "chat", "code")
    ]
    for row in rows:
        assert (row.outcome_count, row.is_drifting) == (1, False)
        assert row.coverage_p90 in (0, 1)
        assert row.reserve_ratio > 0
        assert row.start_time.ToMicroseconds() == NOW_US
        assert not row.HasField("drift_start_time")
    first = await accuracy(stage, page_size=2)
    assert [row.application for row in first.rows] == ["", "chat"]
    last = await accuracy(stage, page_size=2, page_token=first.next_page_token)
    assert ([row.application for row in last.rows], last.next_page_token) == (["code"], "")
    assert not (await accuracy(stage, model="other")).rows
    assert not (await accuracy(stage, predictor="histogram")).rows
    await refused(accuracy(stage, page_token="no"), InvalidArgument)
    text = generate_latest(stage.registry).decode()
    labels = f'{{application="chat",model="m",predictor="{SHIPPED}"}}'
    assert f"forebay_predictor_accuracy_outcomes{labels} 1.0" in text
    assert f"forebay_predictor_accuracy_drifting{labels} 0.0" in text


async def test_bounds_that_fail_are_answered_by_the_fallback_until_they_hold(start: Start) -> None:
    stage = await start(Config(provider="cpu", length="input_ratio", calibration_window_count=0))
    for number in range(2):
        await observe(stage, 900, f"o{number}")
    answer = await predict(stage, query(), query(1, application="other"))
    assert answer.predicted_by == "input_ratio"
    assert [one.predicted_by for one in answer.predictions] == [FALLBACK, ""]
    assert answer.predictions[0].quantiles.p90_tokens == 900
    (row,) = (await accuracy(stage, predictor="input_ratio")).rows
    assert row.is_drifting
    assert row.drift_start_time.ToMicroseconds() == NOW_US


async def test_bounds_are_shifted_by_what_came(start: Start) -> None:
    stage = await start(Config(provider="cpu", length="input_ratio", drift_window_count=0))
    assert (await predict(stage, query())).predictions[0].quantiles.p90_tokens == 60
    await observe(stage, 900, "o1")
    found = (await predict(stage, query())).predictions[0]
    assert (found.quantiles.p50_tokens, found.quantiles.p90_tokens) == (60, 900)


MEGABYTE = "x" * 1_000_000
HOSTILE = ["", "\0" * 100, "\0\ufeff\u202e", "🏳️‍🌈" * 200, "مرحبا 你好 привет hello עולם ไทย" * 50, "\n\t " * 500]


@pytest.mark.parametrize("length", [*sorted(LENGTH_PREDICTORS.keys() - TRAINED), "onnx_quantile"])
async def test_hostile_prompts_are_answered_and_learned_by_every_predictor(start: Start, length: str) -> None:
    stage = await start(Config(provider="cpu", length=length))
    bad = [
        query(number, prompt_head=text, model=f"unheard/of-{number}", application=text[:20], tenant="\0é")
        for number, text in enumerate(HOSTILE)
    ]
    await shadow(stage, "constant" if length != "constant" else "histogram", "s1")
    for generated in (0, 1_048_576, 3):
        answer = await predict(stage, *bad)
        assert [one.query_id for one in answer.predictions] == [one.query_id for one in bad]
        for one in answer.predictions:
            found = one.quantiles
            assert found.p10_tokens <= found.p50_tokens <= found.p90_tokens <= found.p97_tokens <= 1_048_576
            assert 0 <= one.mean_tokens < float("inf")
        outcomes = [
            length_pb2.LengthOutcome(query=of, predicted=one.quantiles, generated_tokens=generated, censored=True)
            for of, one in zip(bad, answer.predictions, strict=True)
        ]
        outcomes += [length_pb2.LengthOutcome(query=of, generated_tokens=generated) for of in bad]
        request = messages.ObserveOutcomesRequest(outcomes=outcomes, request_id=f"o{generated}")
        await stage.stub.ObserveOutcomes(request, timeout=TIMEOUT_S)
    assert (await predict(stage, query())).predictions


async def test_what_breaks_the_rules_is_refused_and_the_service_lives(stage: Stage) -> None:
    await refused(predict(stage, query(prompt_head=MEGABYTE)), InvalidArgument)
    await refused(predict(stage, query(system_digest="0" * 17)), InvalidArgument)
    await refused(predict(stage, query(turn_number=1_048_577)), InvalidArgument)
    await refused(observe(stage, 1_048_577, "o1"), InvalidArgument)
    await refused(observe(stage, 5, "o2", count=1_025), InvalidArgument)
    await refused(observe(stage, 5, "o3", count=0), InvalidArgument)
    unsorted = length_pb2.LengthOutcome(query=query(), generated_tokens=5, predicted_by="x" * 201)
    request = messages.ObserveOutcomesRequest(outcomes=[unsorted], request_id="o4")
    await refused(stage.stub.ObserveOutcomes(request, timeout=TIMEOUT_S), InvalidArgument)
    await observe(stage, 0, "o5", count=1_024)
    assert (await predict(stage, query())).predictions


async def command(stage: Stage, folder: Path, *arguments: str) -> Result:
    """`forebay predictors` against the stage, in a thread: it has an event loop of its own."""
    addresses = addresses_from(7_000)
    write_run(
        folder,
        Run("r", 1, True, dataclasses.replace(addresses, grpc={**addresses.grpc, "predictor": stage.address}), "", ""),
    )
    given = ["predictors", "--state-dir", str(folder), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, main, given)


class Stuck:
    """A slow predictor that is not done before it is told; notes in which threads it was."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.threads: set[int] = set()

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        self.entered.set()
        assert self.released.wait(TIMEOUT_S)
        self.threads.add(threading.get_ident())
        return tuple(LengthPrediction(LengthQuantiles(1, 2, 3, 4), 2.0, 2.0, "stuck") for _ in queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        self.threads.add(threading.get_ident())


async def test_a_slow_predictor_holds_up_nobody_else(stage: Stage) -> None:
    stuck = Stuck()
    stage.engine.on_loaded(Loaded(PredictorModel("stuck", ModelKind.LENGTH), stuck, is_slow=True))
    await shadow(stage, "stuck", "s1")
    learning = asyncio.create_task(observe(stage, 50, "o1"))
    await asyncio.to_thread(stuck.entered.wait, TIMEOUT_S)
    assert (await predict(stage, query())).predictions, "the active one answers while the shadow is stuck"
    await activate(stage, "stuck", "a1")
    asking = asyncio.create_task(predict(stage, query()))
    assert (await models(stage)).models
    assert not learning.done()
    assert not asking.done()
    stuck.released.set()
    assert (await asking).predictions[0].quantiles.p50_tokens == 2
    await learning
    assert threading.get_ident() not in stuck.threads


async def test_the_command_line_shows_swaps_measures_and_rolls_back(stage: Stage, tmp_path: Path) -> None:
    await observe(stage, 50, "o1")
    shown = await command(stage, tmp_path)
    assert shown.exit_code == 0, shown.output
    assert SHIPPED in shown.output
    assert "reserve" in shown.output
    assert (await command(stage, tmp_path, "activate", "histogram")).output == "histogram answers now\n"
    assert (await command(stage, tmp_path, "rollback")).output == f"{SHIPPED} answers now\n"
    assert "histogram is measured;" in (await command(stage, tmp_path, "shadow", "histogram")).output
    told = json.loads((await command(stage, tmp_path, "--json")).output)
    assert {one["name"] for one in told["models"] if one["shadow"]} == {"histogram"}
    assert {one["outcome_count"] for one in told["accuracy"] if one["predictor"] == SHIPPED} == {50}
    ended = await command(stage, tmp_path, "shadow", "histogram", "--end")
    assert ended.output == "histogram is measured no more\n"
    assert (await command(stage, tmp_path, "activate", "seasonal")).output == "seasonal answers now\n"
    assert (await command(stage, tmp_path, "rollback", "workload")).output == "least_cost answers now\n"
    unknown = await command(stage, tmp_path, "activate", "nope")
    assert (unknown.exit_code, "known: " in unknown.output) == (1, True)
    again = await command(stage, tmp_path, "shadow", "onnx_quantile")
    assert (again.exit_code, "is the active model" in again.output) == (1, True)


async def test_the_command_line_says_where_nobody_answers(stage: Stage, tmp_path: Path) -> None:
    away = dataclasses.replace(stage, address="127.0.0.1:1")
    for arguments in ((), ("rollback",)):
        result = await command(away, tmp_path, *arguments)
        assert result.exit_code == 1
        assert "is it running?" in result.output
        assert "forebay up" in result.output


async def forecast(stage: Stage, **changes: Any) -> messages.ForecastWorkloadResponse:
    request = messages.ForecastWorkloadRequest(**{"model": "m", "horizon_count": 3, **changes})
    return await stage.stub.ForecastWorkload(request, timeout=TIMEOUT_S)


async def test_a_forecast_begins_with_the_first_window_that_has_not_begun(stage: Stage) -> None:
    answer = await forecast(stage)
    starts = [one.start_time.ToMicroseconds() for one in answer.forecasts]
    assert starts == [LAST_US + (2 + index) * MINUTE_US for index in range(3)]
    assert [one.requests.p50 for one in answer.forecasts] == [100.0] * 3
    assert [one.response_tokens.p97 for one in answer.forecasts] == [pytest.approx(4_000)] * 3
    assert answer.predicted_by == "least_error"


async def test_a_forecast_rests_on_complete_windows_of_all_pages(stage: Stage) -> None:
    answer = await forecast(stage, region="eu", slo_class=2)
    assert answer.history_count == 7 * 24 * 60
    assert len(stage.metrics.asked) > 10
    for asked in stage.metrics.asked:
        assert (asked.model, asked.region, asked.slo_class) == ("m", "eu", 2)
        # The newest window has ended a moment ago: its longest answers have not.
        assert asked.end_time.ToMicroseconds() == LAST_US


async def test_a_forecast_without_history_is_zero(stage: Stage) -> None:
    answer = await forecast(stage, model="unseen", horizon_count=2)
    assert [one.requests.p97 for one in answer.forecasts] == [0.0, 0.0]
    assert answer.history_count == 0


async def test_a_window_of_ones_own_is_kept(stage: Stage) -> None:
    answer = await forecast(stage, window=duration_pb2.Duration(seconds=600), horizon_count=1440)
    assert len(answer.forecasts) == 1440
    first, second = (one.start_time.ToMicroseconds() for one in answer.forecasts[:2])
    assert second - first == 600 * US_PER_S
    assert first % (600 * US_PER_S) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""),
        ("horizon_count", 0),
        ("horizon_count", 1441),
        ("window", duration_pb2.Duration(seconds=3601)),
        ("window", duration_pb2.Duration(nanos=1)),
    ],
)
async def test_a_bad_forecast_request_is_refused_and_named(stage: Stage, field: str, value: Any) -> None:
    error = await refused(forecast(stage, **{field: value}), InvalidArgument)
    assert list(error.violations) == [field]


async def test_without_metrics_there_is_no_forecast_but_lengths_go_on(stage: Stage) -> None:
    await stage.metrics_server.stop(0.0)
    error = await refused(forecast(stage), Unavailable)
    assert error.retry_after_us is not None
    assert error.retry_after_us > 0
    assert "metrics" in error.message
    assert (await predict(stage, query())).predictions
